package rdb

import (
	"cmp"
	"math"
	"strconv"
)

// ValueKind is the data type of a value, whatever its encoding.
type ValueKind uint8

// Kinds of values, with the elements a [Decoder] gives for each.
const (
	ValueString ValueKind = iota + 1 // ElementPiece, at least one
	ValueList                        // ElementItem
	ValueSet                         // ElementMember
	ValueZset                        // ElementScored
	ValueHash                        // ElementField
	ValueStream                      // ElementEntry and what follows it in the list of kinds
	ValueModule                      // ElementModule, one
)

// String names the kind as the command TYPE does, a module's value as "module".
func (k ValueKind) String() string {
	switch k {
	case ValueString:
		return "string"
	case ValueList:
		return "list"
	case ValueSet:
		return "set"
	case ValueZset:
		return "zset"
	case ValueHash:
		return "hash"
	case ValueStream:
		return "stream"
	case ValueModule:
		return "module"
	}
	return "none"
}

// ElementKind says which fields of an [Element] have a meaning.
type ElementKind uint8

// Kinds of elements, with the fields that belong to each. A stream gives them in this order: all entries, one
// ElementMeta, then for each group ElementGroup and for each of its consumers ElementConsumer and that consumer's
// ElementPending; from Redis 8.6 at the end one ElementProducers, ElementMessage for each message remembered, and one
// ElementProducerTotals.
const (
	ElementPiece          ElementKind = iota + 1 // Value, Offset, TotalBytes
	ElementItem                                  // Value
	ElementMember                                // Value
	ElementScored                                // Value, Score
	ElementField                                 // Field, Value, ExpireAtMs
	ElementEntry                                 // ID, Fields
	ElementMeta                                  // Meta
	ElementGroup                                 // Group, ID (last delivered), EntriesRead
	ElementConsumer                              // Group, Consumer, SeenAtMs, ActiveAtMs
	ElementPending                               // Group, Consumer, ID, DeliveredAtMs, DeliveryCount
	ElementProducers                             // Producers: Duration, MaxMessages
	ElementMessage                               // Producer, Value (the message's own id), ID (of its entry)
	ElementProducerTotals                        // Producers: Added, Duplicates
	ElementModule                                // ModuleID, Value
)

// String names the kind as test failures show it.
func (k ElementKind) String() string {
	switch k {
	case ElementPiece:
		return "piece"
	case ElementItem:
		return "item"
	case ElementMember:
		return "member"
	case ElementScored:
		return "scored member"
	case ElementField:
		return "field"
	case ElementEntry:
		return "entry"
	case ElementMeta:
		return "meta"
	case ElementGroup:
		return "group"
	case ElementConsumer:
		return "consumer"
	case ElementPending:
		return "pending"
	case ElementProducers:
		return "producers"
	case ElementMessage:
		return "message"
	case ElementProducerTotals:
		return "producer totals"
	case ElementModule:
		return "module"
	}
	return "none"
}

// TimeUnknown stands for a time that the value's encoding has no room for.
const TimeUnknown = math.MinInt64

// StreamID is the id of an entry of a stream.
type StreamID struct {
	Ms, Seq uint64
}

// Compare orders ids as a stream does.
func (id StreamID) Compare(other StreamID) int {
	if c := cmp.Compare(id.Ms, other.Ms); c != 0 {
		return c
	}
	return cmp.Compare(id.Seq, other.Seq)
}

// Append appends the id in Redis's notation, 1526919030474-55.
func (id StreamID) Append(dst []byte) []byte {
	dst = append(strconv.AppendUint(dst, id.Ms, 10), '-')
	return strconv.AppendUint(dst, id.Seq, 10)
}

// String gives Redis's notation.
func (id StreamID) String() string { return string(id.Append(nil)) }

// StreamMeta is what a stream knows about itself. It follows the entries.
type StreamMeta struct {
	Length uint64 // entries, as the stream counts them
	LastID StreamID
	// Known says that the encoding has what follows: from Redis 7.0 on. A server that loads an older one takes the
	// first entry's id, 0-0 and Length.
	Known        bool
	FirstID      StreamID // 0-0: empty
	MaxDeletedID StreamID
	EntriesAdded uint64
}

// StreamProducers is what a stream keeps to recognise messages sent twice (Redis 8.6). The settings come before the
// messages and the totals behind them, in an element of their own each.
type StreamProducers struct {
	DurationSec uint64 // how long a message is remembered
	MaxMessages uint64 // and how many of one producer

	Added, Duplicates uint64 // messages with an id of their own ever added, and refused as repeated
}

// Element is one part of a value. Only the fields that Kind names have a meaning, others may hold anything. All slices
// are the Decoder's and valid until its next call of Next, ResetBytes or Reset.
//
// Numbers that an encoding stores as such come out as their decimal text, as Redis shows them.
type Element struct {
	Kind ElementKind

	Value []byte
	Field []byte  // of a hash
	Score float64 // of a sorted set, the stored bits: -0, infinities and NaN too
	// ExpireAtMs is when the field expires, Unix time; 0: never. It may have passed.
	ExpireAtMs int64

	Offset     int64 // of a piece within its string
	TotalBytes int64 // of that string

	ID     StreamID
	Fields [][]byte // field, value, field, value, ...
	Meta   StreamMeta

	Group       []byte
	EntriesRead int64 // -1: the server did not know, or the encoding (before Redis 7.0) has no room for it

	Consumer   []byte
	SeenAtMs   int64
	ActiveAtMs int64 // -1: never active; TimeUnknown before Redis 7.2

	DeliveredAtMs int64
	DeliveryCount uint64

	Producer  []byte
	Producers StreamProducers

	ModuleID uint64 // see ModuleName
}
