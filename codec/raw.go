package codec

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

// MaxRecordKeyBytes is how much of a Redis key becomes the record key.
const MaxRecordKeyBytes = 64 << 10

const (
	rawVersion = 1

	flagAtomic   = 1
	flagPart     = 2
	flagExpiry   = 4
	flagIdle     = 8
	flagFreq     = 16
	flagWholeKey = 32
	flagSameEnd  = 64
	flagWide     = 128 // a unit with keys of several slots, a flush of all databases

	headerBytes = 3
)

// Errors of decoding. Both mean that the record is not ours to apply.
var (
	// ErrVersion: the record was written by a newer version.
	ErrVersion = errors.New("record of an unknown format version")
	// ErrMalformed: the bytes are no record of this format.
	ErrMalformed = errors.New("malformed record")
)

// RecordKey is the Kafka record key of an event.
func RecordKey(e *event.Event) []byte {
	if e.Kind.IsControl() {
		return nil
	}
	return e.Key[:min(len(e.Key), MaxRecordKeyBytes)]
}

// AppendRaw appends the raw encoding of e to dst. It allocates only to grow dst.
func AppendRaw(dst []byte, e *event.Event) []byte {
	dst = append(dst, rawVersion, byte(e.Kind), rawFlags(e))
	dst = binary.AppendUvarint(dst, uint64(e.Shard))
	dst = binary.AppendUvarint(dst, uint64(e.Generation))
	dst = append(dst, e.ReplID[:]...)
	dst = binary.AppendUvarint(dst, uint64(e.End))
	dst = binary.AppendUvarint(dst, uint64(e.End-e.Begin))
	switch {
	case numbered(e.Kind):
		dst = binary.AppendUvarint(dst, e.Number)
	case sameEnd(e):
		dst = append(dst, 0)
	default:
		dst = binary.AppendUvarint(dst, uint64(e.Begin-e.Prev))
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(e.Slot))
	dst = binary.AppendUvarint(dst, uint64(e.DB))
	dst = binary.AppendUvarint(dst, uint64(e.CapturedMs))
	if e.Parts > 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Part))
		dst = binary.AppendUvarint(dst, uint64(e.Parts))
	}
	switch e.Kind {
	case event.Entry:
		return appendEntry(dst, e)
	case event.Unit:
		dst = appendWholeKey(dst, e)
		dst = binary.AppendUvarint(dst, uint64(e.Count))
		return append(dst, e.Commands...)
	default:
		return appendControl(dst, e)
	}
}

// numbered reports whether events of the kind carry a number and not the end of the one before.
func numbered(k event.Kind) bool {
	return k == event.Entry || k == event.SnapshotBegin || k == event.SnapshotEnd
}

// sameEnd: the part before it in this partition is of the same transaction, so Prev is End and lies behind Begin.
func sameEnd(e *event.Event) bool { return e.Parts > 0 && e.Prev == e.End }

func rawFlags(e *event.Event) (f byte) {
	if e.Atomic {
		f |= flagAtomic
	}
	if e.Parts > 0 {
		f |= flagPart
	}
	if !numbered(e.Kind) && sameEnd(e) {
		f |= flagSameEnd
	}
	if e.Kind == event.Unit && e.Spread || e.Kind == event.Flush && e.AllDBs {
		f |= flagWide
	}
	if !e.Kind.IsControl() && len(e.Key) > MaxRecordKeyBytes {
		f |= flagWholeKey
	}
	if e.Kind == event.Entry {
		if e.ExpireAtMs > 0 {
			f |= flagExpiry
		}
		if e.IdleSeconds >= 0 {
			f |= flagIdle
		}
		if e.Freq >= 0 {
			f |= flagFreq
		}
	}
	return f
}

func appendEntry(dst []byte, e *event.Event) []byte {
	dst = append(dst, e.Type)
	dst = binary.AppendUvarint(dst, uint64(e.RDBVersion))
	if e.ExpireAtMs > 0 {
		dst = binary.AppendUvarint(dst, uint64(e.ExpireAtMs))
	}
	if e.IdleSeconds >= 0 {
		dst = binary.AppendUvarint(dst, uint64(e.IdleSeconds))
	}
	if e.Freq >= 0 {
		dst = append(dst, byte(e.Freq))
	}
	dst = appendWholeKey(dst, e)
	return append(dst, e.Value...)
}

func appendWholeKey(dst []byte, e *event.Event) []byte {
	if len(e.Key) <= MaxRecordKeyBytes {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Key)))
	return append(dst, e.Key...)
}

func appendControl(dst []byte, e *event.Event) []byte {
	if e.Kind == event.HistoryChange {
		dst = append(dst, e.OldReplID[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Slots)))
	for _, r := range e.Slots {
		dst = binary.BigEndian.AppendUint16(dst, uint16(r.First))
		dst = binary.BigEndian.AppendUint16(dst, uint16(r.Last))
	}
	if e.Kind == event.Functions {
		dst = binary.AppendUvarint(dst, uint64(e.Count))
		dst = append(dst, e.Commands...)
	}
	return dst
}

// DecodeRaw reads the record with that key and value into e, whose slices then alias both.
func DecodeRaw(key, value []byte, e *event.Event) error {
	d, err := begin(value, e)
	if err != nil {
		return err
	}
	d.head(value[2], e)
	d.body(key, value[2], e)
	return d.result(e)
}

// DecodeHead reads what every event begins with: kind, position, and its place in the chain and among the parts of a
// transaction. The first chunk of an event has always so much of it.
func DecodeHead(value []byte, e *event.Event) error {
	d, err := begin(value, e)
	if err != nil {
		return err
	}
	d.head(value[2], e)
	return d.result(e)
}

// begin reads version and kind.
func begin(value []byte, e *event.Event) (decoder, error) {
	e.Reset()
	if len(value) < headerBytes {
		return decoder{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(value))
	}
	if value[0] != rawVersion {
		return decoder{}, fmt.Errorf("%w: version %d, this is version %d", ErrVersion, value[0], rawVersion)
	}
	e.Kind = event.Kind(value[1])
	if !e.Kind.Valid() {
		return decoder{}, fmt.Errorf("%w: %s", ErrVersion, e.Kind)
	}
	return decoder{rest: value[headerBytes:]}, nil
}

func (d *decoder) result(e *event.Event) error {
	if d.fault != "" {
		return fmt.Errorf("%w: %s: %s", ErrMalformed, e.Kind, d.fault)
	}
	return nil
}

// decoder reads from rest until something does not fit; from then on it yields zeroes and keeps the first fault.
type decoder struct {
	rest  []byte
	fault string
}

func (d *decoder) fail(what string) {
	if d.fault == "" {
		d.fault = what
	}
	d.rest = nil
}

func (d *decoder) uvarint(limit uint64, what string) uint64 {
	if len(d.rest) > 0 && d.rest[0] < 1<<7 && uint64(d.rest[0]) <= limit { // most are one byte
		v := d.rest[0]
		d.rest = d.rest[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > limit {
		d.fail(what)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes(n uint64, what string) []byte {
	if n > uint64(len(d.rest)) {
		d.fail(what)
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uint16(what string) uint16 {
	b := d.bytes(2, what)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

const (
	maxOffset = 1<<63 - 1
	maxUint32 = 1<<32 - 1
)

func (d *decoder) head(flags byte, e *event.Event) {
	e.Shard = event.Shard(d.uvarint(maxUint32, "shard"))
	e.Generation = event.Generation(d.uvarint(maxUint32, "generation"))
	copy(e.ReplID[:], d.bytes(uint64(len(e.ReplID)), "replication ID"))
	e.End = event.Offset(d.uvarint(maxOffset, "end offset"))
	e.Begin = e.End - event.Offset(d.uvarint(uint64(e.End), "begin offset"))
	switch {
	case numbered(e.Kind):
		e.Number = d.uvarint(maxOffset, "number")
	case flags&flagSameEnd != 0:
		if flags&flagPart == 0 {
			d.fail("part of no transaction")
		}
		d.uvarint(0, "previous offset")
		e.Prev = e.End
	default:
		e.Prev = e.Begin - event.Offset(d.uvarint(uint64(e.Begin), "previous offset"))
	}
	e.Slot = slot.Slot(d.uint16("slot"))
	if e.Slot >= slot.Count {
		d.fail("slot")
	}
	e.DB = uint32(d.uvarint(maxUint32, "database"))
	e.CapturedMs = int64(d.uvarint(maxOffset, "capture time"))
	e.Atomic = flags&flagAtomic != 0
	e.Spread = e.Kind == event.Unit && flags&flagWide != 0
	e.AllDBs = e.Kind == event.Flush && flags&flagWide != 0
	if flags&flagPart != 0 {
		e.Part = uint32(d.uvarint(maxUint32, "part"))
		e.Parts = uint32(d.uvarint(maxUint32, "parts"))
		if e.Part >= e.Parts {
			d.fail("part")
		}
	}
}

func (d *decoder) body(key []byte, flags byte, e *event.Event) {
	switch e.Kind {
	case event.Entry:
		d.entry(key, flags, e)
	case event.Unit:
		e.Key = d.key(key, flags)
		e.Count = uint32(d.uvarint(maxUint32, "number of commands"))
		e.Commands, d.rest = d.rest, nil
	default:
		d.control(e)
	}
}

func (d *decoder) entry(key []byte, flags byte, e *event.Event) {
	if b := d.bytes(1, "type"); b != nil {
		e.Type = b[0]
	}
	e.RDBVersion = uint16(d.uvarint(1<<16-1, "RDB version"))
	if flags&flagExpiry != 0 {
		e.ExpireAtMs = int64(d.uvarint(maxOffset, "expiry"))
	}
	if flags&flagIdle != 0 {
		e.IdleSeconds = int64(d.uvarint(maxOffset, "idle time"))
	}
	if flags&flagFreq != 0 {
		if b := d.bytes(1, "frequency"); b != nil {
			e.Freq = int16(b[0])
		}
	}
	e.Key = d.key(key, flags)
	e.Value, d.rest = d.rest, nil
}

func (d *decoder) key(key []byte, flags byte) []byte {
	if flags&flagWholeKey == 0 {
		return key
	}
	return d.bytes(d.uvarint(maxOffset, "key length"), "key")
}

func (d *decoder) control(e *event.Event) {
	if e.Kind == event.HistoryChange {
		copy(e.OldReplID[:], d.bytes(uint64(len(e.OldReplID)), "old replication ID"))
	}
	n := d.uvarint(slot.Count, "number of slot ranges")
	for range n {
		r := slot.Range{First: slot.Slot(d.uint16("slot range")), Last: slot.Slot(d.uint16("slot range"))}
		if r.First > r.Last || r.Last >= slot.Count {
			d.fail("slot range")
		}
		if d.fault != "" {
			return
		}
		e.Slots = append(e.Slots, r)
	}
	if e.Kind == event.Functions {
		e.Count = uint32(d.uvarint(maxUint32, "number of commands"))
		e.Commands, d.rest = d.rest, nil
	}
	if len(d.rest) > 0 {
		d.fail("bytes behind the end")
	}
}
