package rdb

import (
	"io"
	"slices"
)

func (d *Decoder) nextGroup() error {
	s := &d.stream
	if s.groups == 0 {
		if s.version >= 4 {
			return d.beginProducers()
		}
		return d.finish()
	}
	s.groups--
	e := d.emit(ElementGroup)
	if err := d.keepText(&s.group); err != nil {
		return err
	}
	if err := d.in.readLens(&e.ID.Ms, &e.ID.Seq); err != nil {
		return err
	}
	e.EntriesRead = -1
	if s.version >= 2 {
		n, err := d.in.readLen()
		if err != nil {
			return err
		}
		e.EntriesRead = int64(n)
	}
	if err := d.readPending(); err != nil {
		return err
	}
	e.Group = s.group
	d.step = (*Decoder).nextConsumer
	return d.in.readLens(&s.consumers)
}

// keepText reads a string into a buffer of its own, for it is given with more than one element.
func (d *Decoder) keepText(dst *[]byte) error {
	d.in.mark = d.in.pos
	t, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	*dst = append((*dst)[:0], d.in.bytes(t)...)
	return nil
}

// readPending reads what the group has pending. The list is in the order of ids, and has no owners: those follow with
// the consumers, and need the delivery time and count found here.
func (d *Decoder) readPending() error {
	s := &d.stream
	s.pending, s.hint, s.owned = s.pending[:0], 0, 0
	n, err := d.in.readLen()
	if err != nil {
		return err
	}
	if d.in.src == nil && n > uint64(d.in.end-d.in.pos)/25 { // id, time and count take no less
		return &FormatError{What: "pending entries overrun the value", Offset: d.in.offset(), Err: io.ErrUnexpectedEOF}
	}
	if n > d.in.limit/pendingBytes {
		return d.in.tooLarge("pending entries of a group", min(n, 1<<48)*pendingBytes)
	}
	for range n {
		d.in.mark = d.in.pos
		id, err := d.in.readID()
		if err != nil {
			return err
		}
		at, err := d.in.readUint64()
		if err != nil {
			return err
		}
		count, err := d.in.readLen()
		if err != nil {
			return err
		}
		if last := len(s.pending) - 1; last >= 0 && s.pending[last].id.Compare(id) >= 0 {
			return d.in.corrupt("pending entries are not in the order of their ids")
		}
		s.pending = append(s.pending, pendingEntry{id: id, deliveredAtMs: int64(at), count: count})
	}
	return nil
}

func (d *Decoder) nextConsumer() error {
	s := &d.stream
	if s.consumers == 0 {
		if s.owned != len(s.pending) {
			return d.in.corrupt("pending entry of no consumer")
		}
		return d.nextGroup()
	}
	s.consumers--
	e := d.emit(ElementConsumer)
	if err := d.keepText(&s.consumer); err != nil {
		return err
	}
	seen, err := d.in.readUint64()
	if err != nil {
		return err
	}
	e.SeenAtMs, e.ActiveAtMs = int64(seen), TimeUnknown
	if s.version >= 3 {
		active, err := d.in.readUint64()
		if err != nil {
			return err
		}
		e.ActiveAtMs = int64(active)
	}
	e.Group, e.Consumer = s.group, s.consumer
	s.hint = 0
	d.step = (*Decoder).nextPending
	return d.in.readLens(&s.pendingLeft)
}

func (d *Decoder) nextPending() error {
	s := &d.stream
	if s.pendingLeft == 0 {
		d.step = (*Decoder).nextConsumer
		return d.nextConsumer()
	}
	s.pendingLeft--
	d.in.mark = d.in.pos
	id, err := d.in.readID()
	if err != nil {
		return err
	}
	p := s.find(id)
	if p == nil {
		return d.in.corrupt("pending entry of a consumer is not its group's")
	}
	if p.owned {
		return d.in.corrupt("pending entry of two consumers")
	}
	p.owned = true
	s.owned++
	e := d.emit(ElementPending)
	e.Group, e.Consumer = s.group, s.consumer
	e.ID, e.DeliveredAtMs, e.DeliveryCount = id, p.deliveredAtMs, p.count
	return nil
}

// find finds a pending entry of the group. A consumer's list is in the same order, so that the next one asked for is
// often the next one here.
func (s *streamState) find(id StreamID) *pendingEntry {
	if s.hint >= len(s.pending) || s.pending[s.hint].id != id {
		i, ok := slices.BinarySearchFunc(s.pending, id, func(p pendingEntry, id StreamID) int { return p.id.Compare(id) })
		if !ok {
			return nil
		}
		s.hint = i
	}
	s.hint++
	return &s.pending[s.hint-1]
}

func (d *Decoder) beginProducers() error {
	s := &d.stream
	d.in.mark = d.in.pos
	e := d.emit(ElementProducers)
	s.messages = 0
	d.step = (*Decoder).nextMessage
	return d.in.readLens(&e.Producers.DurationSec, &e.Producers.MaxMessages, &s.producers)
}

func (d *Decoder) nextMessage() error {
	s := &d.stream
	for s.messages == 0 {
		d.in.mark = d.in.pos
		if s.producers == 0 {
			e := d.emit(ElementProducerTotals)
			d.step = (*Decoder).finish
			return d.in.readLens(&e.Producers.Added, &e.Producers.Duplicates)
		}
		s.producers--
		if err := d.keepText(&s.producer); err != nil {
			return err
		}
		if err := d.in.readLens(&s.messages); err != nil {
			return err
		}
	}
	s.messages--
	d.in.mark = d.in.pos
	e := d.emit(ElementMessage)
	t, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	if err := d.in.readLens(&e.ID.Ms, &e.ID.Seq); err != nil {
		return err
	}
	e.Producer, e.Value = s.producer, d.in.bytes(t)
	return nil
}
