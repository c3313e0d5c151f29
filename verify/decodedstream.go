package verify

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/rdb"
)

// compareStreams compares all that a stream holds but when a consumer was last seen and how much a group has read, in
// which Redis's own replicas differ, and what only one side's version knows.
func (d *valueComparer) compareStreams() (*delta, error) {
	for {
		f, t, err := d.pairUp()
		if err != nil {
			return nil, err
		}
		if f != nil && f.Kind == rdb.ElementProducers {
			f = nil
		}
		if t != nil && t.Kind == rdb.ElementProducers {
			t = nil
		}
		if f == nil && t == nil {
			return nil, nil
		}
		if f == nil || t == nil || f.Kind != t.Kind {
			return streamDelta(f, t), nil
		}
		if !sameElement(f, t) {
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
