package event

import (
	"fmt"

	"github.com/redriver/redriver/redis/slot"
)

// Kind says what an event is. The numbers are part of the raw format.
type Kind byte

const (
	// Entry is one key of a snapshot: its value as the RDB holds it.
	Entry Kind = 1
	// Unit is what takes effect together: a command, or the commands of one MULTI ... EXEC that share a slot.
	Unit Kind = 2
	// SnapshotBegin opens a generation in one partition: everything its lane published there before is superseded,
	// key by key, by the entries that follow.
	SnapshotBegin Kind = 3
	// SnapshotEnd closes a generation in one partition: a key of Slots that it did not name does not exist.
	SnapshotEnd Kind = 4
	// HistoryChange says that the lane goes on under another replication ID; the two histories part at Begin.
	HistoryChange Kind = 5
	// Flush says that every key of Slots in one database, or in all, was removed at once (FLUSHDB, FLUSHALL).
	Flush Kind = 6
	// Functions changes the libraries of functions, which belong to no slot and to every master: Commands says how. It
	// stands in the first partition of its lane alone.
	Functions Kind = 7
)

var kindNames = [...]string{Entry: "entry", Unit: "unit", SnapshotBegin: "snapshot-begin", SnapshotEnd: "snapshot-end", HistoryChange: "history-change", Flush: "flush", Functions: "functions"}

func (k Kind) String() string {
	if k.Valid() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Valid reports whether this version knows the kind.
func (k Kind) Valid() bool { return k >= Entry && k <= Functions }

// IsControl reports whether the event speaks of its partition and not of a key.
func (k Kind) IsControl() bool { return k >= SnapshotBegin }

// Event is one record's meaning. Which fields are valid depends on Kind; byte slices alias the buffer that the event was
// decoded from or is about to be encoded from.
type Event struct {
	Kind       Kind
	Shard      Shard
	Generation Generation
	// ReplID, Begin and End place the event in its history. Entries and the two snapshot events carry the offset that the
	// snapshot stands for in both.
	ReplID     ReplID
	Begin, End Offset
	// Prev is the End of the lane's previous event in this partition. Valid for units, flushes and history changes.
	Prev Offset
	// Number counts the entries of this generation in this partition from 1; at SnapshotEnd it is their count.
	Number uint64
	// Slot is the slot of the key. Valid for entries and units.
	Slot slot.Slot
	// DB is the database of the key; of a unit the one that its first command acts on: where another follows, SELECT
	// stands among Commands. Of a flush the one that was emptied, unless AllDBs is set.
	DB     uint32
	AllDBs bool
	// CapturedMs is when the link read the event, Unix milliseconds of the worker's clock.
	CapturedMs int64

	// Part and Parts: a stream transaction over several slots travels as Parts events that share Begin and End, numbered
	// from 0. Parts is 0 for an event that is whole in itself.
	Part, Parts uint32

	// Key is the key of an entry, or the first key of a unit; nil if none of its commands has one.
	Key []byte

	// Type, Value, RDBVersion: the entry's value as the RDB of that version holds it. Valid for entries.
	Type       byte
	Value      []byte
	RDBVersion uint16
	// ExpireAtMs is the entry's expiry in Unix milliseconds, 0 for none.
	ExpireAtMs int64
	// IdleSeconds and Freq are the entry's LRU and LFU hints, -1 for none.
	IdleSeconds int64
	Freq        int16

	// Commands holds a unit's Count commands, each as a RESP array, one behind the other, ready for a socket. Those of a
	// Functions are FUNCTION LOAD REPLACE, FUNCTION DELETE and FUNCTION FLUSH and may be repeated.
	Commands []byte
	Count    uint32
	// Atomic tells that the commands came as MULTI ... EXEC.
	Atomic bool
	// Spread tells that the unit has keys of several slots, or a command without keys (SWAPDB). Slot and Key are those of
	// its first key; it is whole in one record, since its log is in total order: one partition, and one lane outside a
	// cluster.
	Spread bool

	// Slots are the slots a control event speaks of: those of its lane in its partition.
	Slots []slot.Range
	// OldReplID is the history that a HistoryChange leaves.
	OldReplID ReplID
}

// Reset clears the event for another use and keeps the capacity of Slots.
func (e *Event) Reset() {
	*e = Event{Slots: e.Slots[:0], IdleSeconds: -1, Freq: -1}
}

// Position is where the shard stands after the event.
func (e *Event) Position() Position { return Position{ReplID: e.ReplID, Offset: e.End} }
