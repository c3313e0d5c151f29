package source

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

const (
	// maxRecordAge is how far a record's time in Kafka may lie behind the time of producing it.
	maxRecordAge = time.Hour
	// recordOverheadBytes bounds what Kafka adds to a value: batch and record headers, ours included.
	recordOverheadBytes = 1 << 10
)

// headers tell consumers that do not decode values which control event a record is. They are shared by all records of a kind.
// Entries and units have none, since every consumer would pay for them with each record.
var headers = func() (all [event.Functions + 1][]kgo.RecordHeader) {
	for k := event.SnapshotBegin; k.Valid(); k++ {
		all[k] = []kgo.RecordHeader{{Key: "op", Value: []byte(k.String())}}
	}
	return all
}()

// emitter turns what a lane reads into records in their order, and keeps the chain of each partition.
type emitter struct {
	topic      string
	partitions int
	maxValue   int // of a record
	attempt    uint64
	marks      []event.Mark
	// produce takes a record, with what is to be called when it is settled, and the chunk it lies in, nil for other records.
	produce func(r *kgo.Record, settle promise, chunk []byte, part bool)
	chunks  *chunkPool
	cutting cutting
	// between is called between two chunks of a unit that stands in one partition alone: it may be committed in parts.
	between func()
	arena   arena
	buf     []byte
	// timestampMs is the record's time in Kafka, untimed if it has none.
	timestampMs int64
	nowMs       int64 // as of the last tick
	// untimed: Kafka refuses the times of records.
	untimed bool
	// e holds what all events of the lane share.
	e event.Event
}

// captured sets when the link read what is emitted next: 0 for now. Kafka is told so too, unless that was long ago: by a
// record's time it refuses records (message.timestamp.before.max.ms) and deletes them.
func (m *emitter) captured(ms int64) {
	if ms == 0 {
		m.tick()
		ms = m.nowMs
	}
	m.e.CapturedMs = ms
	m.timestampMs = min(max(ms, m.nowMs-maxRecordAge.Milliseconds()), m.nowMs)
	if m.untimed {
		m.timestampMs = untimed
	}
}

// tick looks at the clock: for each unit it would be a good part of what that costs.
func (m *emitter) tick() { m.nowMs = time.Now().UnixMilli() }

// untimed is the time of a record that has none: a broker takes it whatever its clock says (LogValidator in Kafka).
const untimed int64 = -1

// begin sets what the events that follow share.
func (m *emitter) begin(shard event.Shard, g event.Generation, id event.ReplID) {
	m.e.Reset()
	m.e.Shard, m.e.Generation, m.e.ReplID = shard, g, id
}

// unit emits the parts of a unit, which the link read at capturedMs, 0 if nobody knows.
func (m *emitter) unit(u *streamUnit, parts []part) {
	e := &m.e
	e.Kind, e.Begin, e.End, e.Atomic = event.Unit, u.begin, u.end, u.atomic
	m.captured(u.stamp.CapturedMs)
	e.Part, e.Parts = 0, 0
	if len(parts) > 1 {
		e.Parts = uint32(len(parts))
	}
	m.cutting.inParts = len(parts) == 1
	for i := range parts {
		p := &parts[i]
		e.Slot, e.Key, e.Commands, e.Count = p.slot, p.key, p.bytes, p.count
		e.DB, e.Spread = p.db, p.spread
		if len(parts) > 1 {
			e.Part = uint32(i)
		}
		m.chained(slot.Partition(p.slot, m.partitions))
	}
	e.Part, e.Parts, e.Spread = 0, 0, false
	m.cutting.inParts = false
}

// entry emits one key of a snapshot; the caller has filled in the fields of entries.
func (m *emitter) entry() {
	e := &m.e
	e.Kind, e.Atomic, e.Part, e.Parts = event.Entry, false, 0, 0
	p := slot.Partition(e.Slot, m.partitions)
	mark := &m.marks[p]
	e.Number = mark.Number + 1
	m.emit(p)
	mark.Number++
}

// beginEntry emits the beginning of a key whose value is still being read: moreOfEntry and endEntry bring it. Before that
// the chain does not have it.
func (m *emitter) beginEntry() {
	e := &m.e
	e.Kind, e.Atomic, e.Part, e.Parts = event.Entry, false, 0, 0
	p := slot.Partition(e.Slot, m.partitions)
	e.Number = m.marks[p].Number + 1
	m.buf = codec.AppendRaw(m.buf[:0], e)
	m.beginCut(p, slices.Clone(codec.RecordKey(e)), 0)
	m.cut(m.buf)
}

func (m *emitter) moreOfEntry(piece []byte) { m.cut(piece) }

func (m *emitter) endEntry(piece []byte) {
	m.cut(piece)
	m.endCut()
	m.marks[m.cutting.partition].Number++
}

// control emits a control event into every partition that the slots map to.
func (m *emitter) control(kind event.Kind, begin, end event.Offset, slots *slot.Set) {
	m.controlOf(kind, begin, end, slots, database{})
}

// controlOf is control for what speaks of a database.
func (m *emitter) controlOf(kind event.Kind, begin, end event.Offset, slots *slot.Set, of database) {
	e := &m.e
	e.Kind, e.Begin, e.End, e.Atomic, e.Part, e.Parts, e.Slot, e.Key = kind, begin, end, false, 0, 0, 0, nil
	e.DB, e.AllDBs = of.number, of.all
	m.captured(0)
	for p, ranges := range byPartition(slots, m.partitions) {
		if len(ranges) == 0 {
			continue
		}
		e.Slots = append(e.Slots[:0], ranges...)
		mark := &m.marks[p]
		switch kind {
		case event.SnapshotBegin:
			*mark = event.Mark{Generation: e.Generation, ReplID: e.ReplID, Snapshot: true, End: end}
			e.Number = 0
			m.emit(int32(p))
		case event.SnapshotEnd:
			e.Number = mark.Number
			mark.Snapshot, mark.Number = false, 0
			m.emit(int32(p))
		default:
			m.chained(int32(p))
		}
	}
}

// chained emits an event of the stream behind the last one of its partition.
func (m *emitter) chained(p int32) {
	e, mark := &m.e, &m.marks[p]
	e.Prev = mark.End
	m.emit(p)
	mark.ReplID, mark.End, mark.Part = e.ReplID, e.End, e.Part
}

// emit encodes the event and hands its record, or its chunks, to the producer. What an event brings stands last, and may be
// large: it is copied once, to where it leaves from.
func (m *emitter) emit(p int32) {
	e := &m.e
	value, commands := e.Value, e.Commands
	var body []byte
	switch e.Kind {
	case event.Entry:
		body = value
	case event.Unit, event.Functions:
		body = commands
	default:
	}
	e.Value, e.Commands = nil, nil
	m.buf = codec.AppendRaw(m.buf[:0], e)
	e.Value, e.Commands = value, commands
	key := codec.RecordKey(e)
	size := len(m.buf) + len(body)
	if size <= m.maxValue-len(key) {
		r, memory, settle := m.arena.take(len(key) + size)
		value := memory[copy(memory, key):]
		copy(value[copy(value, m.buf):], body)
		m.fill(r, p, memory[:len(key):len(key)], value)
		m.produce(r, settle, nil, false)
		return
	}
	m.beginCut(p, slices.Clone(key), codec.Chunks(size, m.chunkLimit(key)))
	m.cut(m.buf)
	m.cut(body)
	m.endCut()
	if cap(m.buf) > keepBufferBytes {
		m.buf = nil
	}
}

// chunked hands a record to the producer that lies in a chunk of the pool; part says that it is a piece of an event.
func (m *emitter) chunked(p int32, key, value, chunk []byte, part bool) {
	r, _, settle := m.arena.take(0)
	m.fill(r, p, key, value)
	m.produce(r, settle, chunk, part)
}

// fill sets all of a record: its memory may have held another one.
func (m *emitter) fill(r *kgo.Record, p int32, key, value []byte) {
	if len(key) == 0 {
		key = nil
	}
	*r = kgo.Record{Topic: m.topic, Partition: p, Key: key, Value: value, Headers: headers[m.e.Kind], Timestamp: time.UnixMilli(m.timestampMs)}
}

// byPartition cuts the slots at the borders of partitions.
func byPartition(slots *slot.Set, partitions int) [][]slot.Range {
	out := make([][]slot.Range, partitions)
	for _, r := range slots.Ranges() {
		for first := r.First; ; {
			p := slot.Partition(first, partitions)
			last := min(r.Last, slot.PartitionRange(p, partitions).Last)
			out[p] = append(out[p], slot.Range{First: first, Last: last})
			if last == r.Last {
				break
			}
			first = last + 1
		}
	}
	return out
}
