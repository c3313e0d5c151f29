package rdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Where a stream's node ends, as servers have it by default.
const (
	nodeMaxBytes   = 4096
	nodeMaxEntries = 100
)

// streamEncoder is what of a stream waits for a count, or for an order, that is known later.
type streamEncoder struct {
	node    []byte // the open node's listpack; empty: none
	master  StreamID
	fields  [][]byte // the master's, in fieldBuf
	field   []byte
	entries int

	meta []byte

	groups     []byte
	groupCount uint64

	group         []byte // the open group up to what is pending; empty: none
	pending       []pendingEntry
	consumers     []byte
	consumerCount uint64

	consumer []byte // the open consumer up to what is pending; empty: none
	ids      []byte

	producers     []byte
	producerCount uint64
	settings      []byte
	totals        []byte

	producer     []byte // name of the open one; messages of it
	messages     []byte
	messageCount uint64
}

func (s *streamEncoder) reset() {
	*s = streamEncoder{
		node: s.node[:0], fields: s.fields[:0], field: s.field[:0], meta: s.meta[:0], groups: s.groups[:0], group: s.group[:0],
		pending: s.pending[:0], consumers: s.consumers[:0], consumer: s.consumer[:0], ids: s.ids[:0], producers: s.producers[:0],
		settings: s.settings[:0], totals: s.totals[:0], producer: s.producer[:0], messages: s.messages[:0],
	}
}

func (s *streamEncoder) size() int {
	return len(s.node) + len(s.meta) + len(s.groups) + len(s.group) + len(s.pending)*pendingBytes + len(s.consumers) +
		len(s.consumer) + len(s.ids) + len(s.producers) + len(s.messages)
}

// appendStream adds an element of a stream.
func (e *Encoder) appendStream(el *Element) error {
	s := &e.stream
	switch el.Kind {
	case ElementEntry:
		e.appendEntry(el.ID, el.Fields)
	case ElementMeta:
		e.closeNode()
		e.appendMeta(el.Meta)
	case ElementGroup:
		e.closeGroup()
		s.group = AppendText(s.group, el.Group)
		s.group = appendID(s.group, el.ID)
		if e.typ != typeStream {
			s.group = appendLen(s.group, uint64(el.EntriesRead))
		}
	case ElementConsumer:
		s.closeConsumer()
		s.consumer = AppendText(s.consumer, el.Consumer)
		s.consumer = binary.LittleEndian.AppendUint64(s.consumer, uint64(el.SeenAtMs))
		if e.typ == typeStream3 {
			active := el.ActiveAtMs
			if active == TimeUnknown { // as a server has it
				active = el.SeenAtMs
			}
			s.consumer = binary.LittleEndian.AppendUint64(s.consumer, uint64(active))
		}
	case ElementPending:
		s.pending = append(s.pending, pendingEntry{id: el.ID, deliveredAtMs: el.DeliveredAtMs, count: el.DeliveryCount})
		s.ids = appendRawID(s.ids, el.ID)
	case ElementProducers:
		s.settings = appendLen(appendLen(s.settings, el.Producers.DurationSec), el.Producers.MaxMessages)
	case ElementMessage:
		if s.messageCount == 0 || !bytes.Equal(s.producer, el.Producer) {
			s.closeProducer()
			s.producer = append(s.producer[:0], el.Producer...)
		}
		s.messages = appendID(AppendText(s.messages, el.Value), el.ID)
		s.messageCount++
	case ElementProducerTotals:
		s.totals = appendLen(appendLen(s.totals, el.Producers.Added), el.Producers.Duplicates)
	default:
		return fmt.Errorf("encode element of kind %v: %w", el.Kind, ErrNoEncoding)
	}
	return nil
}

// appendEntry adds an entry to the open node, whose first entry gives the fields that need not be repeated.
func (e *Encoder) appendEntry(id StreamID, fields [][]byte) {
	s := &e.stream
	if len(s.node) >= nodeMaxBytes || s.entries >= nodeMaxEntries {
		e.closeNode()
	}
	if len(s.node) == 0 {
		e.openNode(id, fields)
	}
	s.entries++
	same := len(fields) == 2*len(s.fields)
	for i := 0; same && i < len(s.fields); i++ {
		same = bytes.Equal(s.fields[i], fields[2*i])
	}
	flags, cells := int64(entrySameFields), int64(3+len(fields)/2)
	if !same {
		flags, cells = 0, int64(4+len(fields))
	}
	s.node = appendListpackInt(s.node, flags)
	s.node = appendListpackInt(s.node, int64(id.Ms-s.master.Ms))
	s.node = appendListpackInt(s.node, int64(id.Seq-s.master.Seq))
	if !same {
		s.node = appendListpackInt(s.node, int64(len(fields)/2))
	}
	for i, f := range fields {
		if !same || i%2 == 1 {
			s.node = appendListpackText(s.node, f)
		}
	}
	s.node = appendListpackInt(s.node, cells)
}

// openNode begins a listpack behind the place of its master entry's count and header, which closeNode writes.
func (e *Encoder) openNode(id StreamID, fields [][]byte) {
	s := &e.stream
	s.master, s.entries = id, 0
	s.fields, s.field = s.fields[:0], s.field[:0]
	for i := 0; i < len(fields); i += 2 {
		from := len(s.field)
		s.field = append(s.field, fields[i]...)
		s.fields = append(s.fields, s.field[from:len(s.field):len(s.field)])
	}
	s.node = append(s.node, make([]byte, listpackHeaderBytes)...)
	s.node = append(s.node, 0, 1) // count, at most nodeMaxEntries: a 7-bit number
	s.node = appendListpackInt(s.node, 0)
	s.node = appendListpackInt(s.node, int64(len(s.fields)))
	for _, f := range s.fields {
		s.node = appendListpackText(s.node, f)
	}
	s.node = appendListpackInt(s.node, 0)
}

func (e *Encoder) closeNode() {
	s := &e.stream
	if len(s.node) == 0 {
		return
	}
	s.node = append(s.node, listpackEnd)
	binary.LittleEndian.PutUint32(s.node, uint32(len(s.node)))
	binary.LittleEndian.PutUint16(s.node[4:], listpackCount(s.node))
	s.node[listpackHeaderBytes] = byte(s.entries)
	e.buf = appendRawID(append(e.buf, 16), s.master)
	e.buf = AppendText(e.buf, s.node)
	e.n++
	s.node = s.node[:0]
}

// listpackCount counts the entries of a listpack we made, 65535 for more than its header can say.
func listpackCount(p []byte) uint16 {
	n, pos := 0, listpackHeaderBytes
	for p[pos] != listpackEnd {
		var c cell
		pos, _ = listpackEntry(p, pos, &c)
		n++
	}
	return uint16(min(n, math.MaxUint16))
}

func (e *Encoder) appendMeta(m StreamMeta) {
	s := &e.stream
	if !m.Known {
		// The oldest layout, for a server then finds out itself what it lacks: of groups too.
		e.typ = typeStream
	}
	s.meta = appendID(appendLen(s.meta, m.Length), m.LastID)
	if e.typ != typeStream {
		s.meta = appendID(appendID(s.meta, m.FirstID), m.MaxDeletedID)
		s.meta = appendLen(s.meta, m.EntriesAdded)
	}
}

func (s *streamEncoder) closeConsumer() {
	if len(s.consumer) == 0 {
		return
	}
	s.consumers = append(s.consumers, s.consumer...)
	s.consumers = appendLen(s.consumers, uint64(len(s.ids)/16))
	s.consumers = append(s.consumers, s.ids...)
	s.consumerCount++
	s.consumer, s.ids = s.consumer[:0], s.ids[:0]
}

func (e *Encoder) closeGroup() {
	s := &e.stream
	s.closeConsumer()
	if len(s.group) == 0 {
		return
	}
	slices.SortFunc(s.pending, func(a, b pendingEntry) int { return a.id.Compare(b.id) })
	s.groups = append(s.groups, s.group...)
	s.groups = appendLen(s.groups, uint64(len(s.pending)))
	for _, p := range s.pending {
		s.groups = binary.LittleEndian.AppendUint64(appendRawID(s.groups, p.id), uint64(p.deliveredAtMs))
		s.groups = appendLen(s.groups, p.count)
	}
	s.groups = appendLen(s.groups, s.consumerCount)
	s.groups = append(s.groups, s.consumers...)
	s.groupCount++
	s.group, s.pending, s.consumers, s.consumerCount = s.group[:0], s.pending[:0], s.consumers[:0], 0
}

func (s *streamEncoder) closeProducer() {
	if s.messageCount == 0 {
		return
	}
	s.producers = appendLen(AppendText(s.producers, s.producer), s.messageCount)
	s.producers = append(s.producers, s.messages...)
	s.producerCount++
	s.messages, s.messageCount = s.messages[:0], 0
}

// endStream puts the parts together.
func (e *Encoder) endStream() {
	s := &e.stream
	e.closeNode()
	e.closeGroup()
	s.closeProducer()
	e.buf = append(e.buf, s.meta...)
	e.buf = append(appendLen(e.buf, s.groupCount), s.groups...)
	if len(s.settings) > 0 && !e.target.Valkey && e.target.Version >= versionStream4 {
		e.typ = typeStream4
		e.buf = append(e.buf, s.settings...)
		e.buf = append(appendLen(e.buf, s.producerCount), s.producers...)
		e.buf = append(e.buf, s.totals...)
	}
	s.reset()
}

func appendID(dst []byte, id StreamID) []byte { return appendLen(appendLen(dst, id.Ms), id.Seq) }

func appendRawID(dst []byte, id StreamID) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, id.Ms), id.Seq)
}

// appendListpackInt appends a number, in one of the widths that listpacks have.
func appendListpackInt(dst []byte, v int64) []byte {
	at := len(dst)
	switch {
	case v >= 0 && v < 128:
		dst = append(dst, byte(v))
	case v == int64(int16(v)):
		dst = binary.LittleEndian.AppendUint16(append(dst, 0xf1), uint16(v))
	case v == int64(int32(v)):
		dst = binary.LittleEndian.AppendUint32(append(dst, 0xf3), uint32(v))
	default:
		dst = binary.LittleEndian.AppendUint64(append(dst, 0xf4), uint64(v))
	}
	return append(dst, byte(len(dst)-at))
}

// appendListpackText appends a string. One that looks like a number stays a string, which servers read as well.
func appendListpackText(dst, b []byte) []byte {
	at := len(dst)
	switch n := len(b); {
	case n < 1<<6:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<12:
		dst = append(dst, 0xe0|byte(n>>8), byte(n))
	default:
		dst = binary.LittleEndian.AppendUint32(append(dst, 0xf0), uint32(n))
	}
	dst = append(dst, b...)
	size := len(dst) - at
	back := listpackBackBytes(size)
	for i := back - 1; i >= 0; i-- { // most significant first, read backwards: all but the first carry a mark
		c := byte(size>>(7*i)) & 0x7f
		if i < back-1 {
			c |= 0x80
		}
		dst = append(dst, c)
	}
	return dst
}
