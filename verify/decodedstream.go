package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/rdb"
)

// compareStreams compares all that a stream holds but what Redis's own replicas differ in, and what only one side's
// version knows: when a consumer was last seen, how much a group has read, producers, and consumers at the source alone
// that have nothing pending: XREADGROUP and XCLAIM that find nothing make them, and tell no replica (xclaimCommand and
// xreadCommand in redis src/t_stream.c). Such a consumer at the target alone comes from a snapshot of a master whose
// replica has taken over since; it is told as a Consumer.
func (d *valueComparer) compareStreams(f, t value) (*delta, error) {
	found, err := d.compareAllOfStreams()
	if err != nil || found == nil || found.kind != Group {
		return found, err
	}
	d.from.ResetBytes(f.typ, f.body, f.format)
	d.to.ResetBytes(t.typ, t.body, t.format)
	from, err := groupsOf(d.from)
	if err != nil {
		return nil, err
	}
	to, err := groupsOf(d.to)
	if err != nil {
		return nil, err
	}
	from, _ = withoutIdle(from, to)
	to, idle := withoutIdle(to, from)
	for i := range max(len(from), len(to)) {
		switch {
		case i >= len(from):
			return streamDelta(nil, &to[i]), nil
		case i >= len(to):
			return streamDelta(&from[i], nil), nil
		case from[i].Kind != to[i].Kind || !sameElement(&from[i], &to[i]):
			return streamDelta(&from[i], &to[i]), nil
		}
	}
	if idle != nil {
		return consumerDelta(elementName(idle)), nil
	}
	return nil, nil
}

// groupsOf reads groups, consumers and pending entries.
func groupsOf(dec *rdb.Decoder) ([]rdb.Element, error) {
	var es []rdb.Element
	for {
		e, err := dec.Next()
		if errors.Is(err, io.EOF) {
			return es, nil
		}
		if err != nil {
			return nil, err
		}
		switch e.Kind {
		case rdb.ElementGroup, rdb.ElementConsumer, rdb.ElementPending:
			e := *e
			e.Group, e.Consumer = bytes.Clone(e.Group), bytes.Clone(e.Consumer)
			es = append(es, e)
		default:
		}
	}
}

// withoutIdle leaves out consumers that have nothing pending and that the other side has not, and returns the first of them.
func withoutIdle(mine, other []rdb.Element) (left []rdb.Element, first *rdb.Element) {
	is := func(e *rdb.Element, kind rdb.ElementKind, as *rdb.Element) bool {
		return e.Kind == kind && bytes.Equal(e.Group, as.Group) && bytes.Equal(e.Consumer, as.Consumer)
	}
	for i := range mine {
		e := &mine[i]
		idle := e.Kind == rdb.ElementConsumer && (i+1 == len(mine) || !is(&mine[i+1], rdb.ElementPending, e))
		if idle && !slices.ContainsFunc(other, func(o rdb.Element) bool { return is(&o, rdb.ElementConsumer, e) }) {
			if first == nil {
				first = e
			}
			continue
		}
		left = append(left, *e)
	}
	return left, first
}

func (d *valueComparer) compareAllOfStreams() (*delta, error) {
	endF, endT := false, false
	for {
		f, t, err := d.pairUp()
		if err != nil {
			return nil, err
		}
		endF = endF || f == nil || f.Kind >= rdb.ElementProducers
		endT = endT || t == nil || t.Kind >= rdb.ElementProducers
		if endF {
			f = nil
		}
		if endT {
			t = nil
		}
		switch {
		case f == nil && t == nil:
			return nil, nil
		case f == nil || t == nil || f.Kind != t.Kind || !sameElement(f, t):
			return streamDelta(f, t), nil
		}
	}
}

func sameElement(f, t *rdb.Element) bool {
	switch f.Kind {
	case rdb.ElementEntry:
		if f.ID != t.ID || len(f.Fields) != len(t.Fields) {
			return false
		}
		for i := range f.Fields {
			if !bytes.Equal(f.Fields[i], t.Fields[i]) {
				return false
			}
		}
		return true
	case rdb.ElementMeta:
		a, b := f.Meta, t.Meta
		return a.Length == b.Length && a.LastID == b.LastID &&
			(!a.Known || !b.Known || a.MaxDeletedID == b.MaxDeletedID && a.EntriesAdded == b.EntriesAdded)
	case rdb.ElementGroup:
		return bytes.Equal(f.Group, t.Group) && f.ID == t.ID
	case rdb.ElementConsumer:
		return bytes.Equal(f.Group, t.Group) && bytes.Equal(f.Consumer, t.Consumer)
	default:
		return f.ID == t.ID && bytes.Equal(f.Consumer, t.Consumer) && f.DeliveredAtMs == t.DeliveredAtMs && f.DeliveryCount == t.DeliveryCount
	}
}

// streamDelta words the first elements that are not the same.
func streamDelta(f, t *rdb.Element) *delta {
	if f != nil && t != nil && f.Kind == rdb.ElementMeta && t.Kind == rdb.ElementMeta {
		from, to := metaText(f.Meta, t.Meta)
		return valueDelta(from, to)
	}
	kind := Group
	for _, e := range []*rdb.Element{f, t} {
		if e != nil && (e.Kind == rdb.ElementEntry || e.Kind == rdb.ElementMeta) {
			kind = Value
		}
	}
	return &delta{kind: kind, from: streamText(f, t), to: streamText(t, f)}
}

// metaText names the first thing that two streams know differently about themselves.
func metaText(f, t rdb.StreamMeta) (from, to string) {
	name, a, b := "max-deleted-entry-id ", f.MaxDeletedID.String(), t.MaxDeletedID.String()
	switch {
	case f.Length != t.Length:
		name, a, b = "length ", strconv.FormatUint(f.Length, 10), strconv.FormatUint(t.Length, 10)
	case f.LastID != t.LastID:
		name, a, b = "last-generated-id ", f.LastID.String(), t.LastID.String()
	case f.EntriesAdded != t.EntriesAdded:
		name, a, b = "entries-added ", strconv.FormatUint(f.EntriesAdded, 10), strconv.FormatUint(t.EntriesAdded, 10)
	}
	return name + a, name + b
}

// streamText says what one side has where the other has something else.
func streamText(e, other *rdb.Element) string {
	if e == nil || other != nil && e.Kind == rdb.ElementMeta && other.Kind != rdb.ElementMeta {
		return "no " + elementName(other)
	}
	text := elementName(e)
	switch e.Kind {
	case rdb.ElementEntry:
		var b strings.Builder
		b.WriteString(text)
		for _, f := range e.Fields {
			b.WriteString(" " + short(string(f)))
		}
		return shorten(b.String())
	case rdb.ElementGroup:
		return text + " last-delivered-id " + e.ID.String()
	case rdb.ElementPending:
		return fmt.Sprintf("%s delivered %d times, delivered at %d", text, e.DeliveryCount, e.DeliveredAtMs)
	default:
		return text
	}
}

func elementName(e *rdb.Element) string {
	switch e.Kind {
	case rdb.ElementEntry:
		return "entry " + e.ID.String()
	case rdb.ElementGroup:
		return "group " + short(string(e.Group))
	case rdb.ElementConsumer:
		return "group " + short(string(e.Group)) + " consumer " + short(string(e.Consumer))
	case rdb.ElementPending:
		return "group " + short(string(e.Group)) + " consumer " + short(string(e.Consumer)) + " pending " + e.ID.String()
	default:
		return "more"
	}
}

// shorten keeps a text that lists many things readable.
func shorten(text string) string {
	const shown = 200
	if len(text) > shown {
		return text[:shown] + "..."
	}
	return text
}
