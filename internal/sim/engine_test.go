package sim

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redriver/redriver/redis/rdb"
)

// engine is the data of a server: what a Redis of version 7.0 does to keys, as far as the workload and a sink need it.
// It belongs to one goroutine at a time.
type engine struct {
	keys map[string]*value
	// passive: nothing expires by the clock here, as in a replica and in the model of the log.
	passive bool
	// gone is told of a key that has expired, before the command that found it.
	gone func(key string)
}

// value is one key's. Which field is valid depends on kind.
type value struct {
	kind     rdb.ValueKind
	str      []byte
	list     [][]byte
	set      map[string]bool
	hash     map[string]string
	zset     map[string]float64
	expireAt int64 // Unix milliseconds, 0 for none
}

func newEngine() *engine { return &engine{keys: map[string]*value{}} }

func nowMs() int64 { return time.Now().UnixMilli() }

// clone copies the data.
func (e *engine) clone() *engine {
	c := newEngine()
	for k, v := range e.keys {
		c.keys[k] = v.clone()
	}
	return c
}

func (v *value) clone() *value {
	c := *v
	c.str = slices.Clone(v.str)
	c.list = slices.Clone(v.list)
	c.set, c.hash, c.zset = maps.Clone(v.set), maps.Clone(v.hash), maps.Clone(v.zset)
	return &c
}

// get returns a key that has not expired.
func (e *engine) get(key string) *value {
	v := e.keys[key]
	if v != nil && v.expireAt != 0 && v.expireAt <= nowMs() && !e.passive {
		delete(e.keys, key)
		if e.gone != nil {
			e.gone(key)
		}
		return nil
	}
	return v
}

// expire removes up to n keys whose time has come.
func (e *engine) expire(n int) {
	now := nowMs()
	var due []string
	for k, v := range e.keys {
		if v.expireAt != 0 && v.expireAt <= now {
			due = append(due, k)
		}
	}
	slices.Sort(due)
	for _, k := range due[:min(n, len(due))] {
		e.get(k)
	}
}

// at returns the key as the given kind, made if it is missing and make is set; a key of another kind is an error.
func (e *engine) at(key string, kind rdb.ValueKind, create bool) (*value, error) {
	v := e.get(key)
	switch {
	case v == nil && create:
		v = &value{kind: kind}
		switch kind {
		case rdb.ValueSet:
			v.set = map[string]bool{}
		case rdb.ValueHash:
			v.hash = map[string]string{}
		case rdb.ValueZset:
			v.zset = map[string]float64{}
		default:
		}
		e.keys[key] = v
	case v != nil && v.kind != kind:
		return nil, errWrongType
	}
	return v, nil
}

// tidy removes a collection that has become empty.
func (e *engine) tidy(key string) {
	if v := e.keys[key]; v != nil && v.kind != rdb.ValueString && v.size() == 0 {
		delete(e.keys, key)
	}
}

func (v *value) size() int { return len(v.list) + len(v.set) + len(v.hash) + len(v.zset) }

var (
	errWrongType = errors.New("WRONGTYPE Operation against a key holding the wrong kind of value")
	errSyntax    = errors.New("ERR syntax error")
	errNoInt     = errors.New("ERR value is not an integer or out of range")
	errNoKey     = errors.New("ERR no such key")
	errBusyKey   = errors.New("BUSYKEY Target key name already exists")
)

// encode gives the value as an RDB holds it.
func (v *value) encode(e *rdb.Encoder) (typ byte, b []byte) {
	if err := e.Reset(v.kind, rdb.Format{Version: rdbVersion}); err != nil {
		panic(err)
	}
	switch v.kind {
	case rdb.ValueString:
		_ = e.Append(&rdb.Element{Kind: rdb.ElementPiece, Value: v.str})
	case rdb.ValueList:
		for _, item := range v.list {
			e.AppendText(item)
		}
	case rdb.ValueSet:
		for _, m := range slices.Sorted(maps.Keys(v.set)) {
			e.AppendText([]byte(m))
		}
	case rdb.ValueHash:
		for _, f := range slices.Sorted(maps.Keys(v.hash)) {
			_ = e.AppendField([]byte(f), []byte(v.hash[f]), 0)
		}
	case rdb.ValueZset:
		for _, m := range slices.Sorted(maps.Keys(v.zset)) {
			e.AppendScored([]byte(m), v.zset[m])
		}
	default:
	}
	typ, b = e.Value()
	return typ, slices.Clone(b)
}

// rdbVersion is that of Redis 7.0.
const rdbVersion = 10

// decodeValue is the inverse of encode, of any encoding.
func decodeValue(typ byte, b []byte, version int) (*value, error) {
	format := rdb.FormatOf(version)
	kind, ok := rdb.KindOf(typ, format)
	if !ok {
		return nil, fmt.Errorf("value of type %d", typ)
	}
	v := &value{kind: kind, set: map[string]bool{}, hash: map[string]string{}, zset: map[string]float64{}}
	d := rdb.NewDecoder(rdb.DecoderConfig{})
	d.ResetBytes(typ, b, format)
	for {
		el, err := d.Next()
		if errors.Is(err, io.EOF) {
			return v, nil
		}
		if err != nil {
			return nil, err
		}
		switch el.Kind {
		case rdb.ElementPiece:
			v.str = append(v.str, el.Value...)
		case rdb.ElementItem:
			v.list = append(v.list, slices.Clone(el.Value))
		case rdb.ElementMember:
			v.set[string(el.Value)] = true
		case rdb.ElementField:
			v.hash[string(el.Field)] = string(el.Value)
		case rdb.ElementScored:
			v.zset[string(el.Value)] = el.Score
		default:
			return nil, fmt.Errorf("element %v", el.Kind)
		}
	}
}

// String shows a value for a person, and for comparing.
func (v *value) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", v.kind)
	switch v.kind {
	case rdb.ValueString:
		fmt.Fprintf(&b, " %q", v.str)
	case rdb.ValueList:
		for _, item := range v.list {
			fmt.Fprintf(&b, " %q", item)
		}
	case rdb.ValueSet:
		for _, m := range slices.Sorted(maps.Keys(v.set)) {
			fmt.Fprintf(&b, " %q", m)
		}
	case rdb.ValueHash:
		for _, f := range slices.Sorted(maps.Keys(v.hash)) {
			fmt.Fprintf(&b, " %q=%q", f, v.hash[f])
		}
	case rdb.ValueZset:
		for _, m := range slices.Sorted(maps.Keys(v.zset)) {
			fmt.Fprintf(&b, " %q=%v", m, v.zset[m])
		}
	default:
	}
	if v.expireAt != 0 {
		fmt.Fprintf(&b, " until %d", v.expireAt)
	}
	return b.String()
}

// differences lists up to most keys in which two engines differ. Keys that skip names do not count.
func differences(want, got *engine, most int, skip func(key string) bool) (out []string) {
	all := map[string]bool{}
	for _, e := range []*engine{want, got} {
		for k := range e.keys {
			all[k] = true
		}
	}
	text := func(v *value) string {
		if v == nil {
			return "none"
		}
		return v.String()
	}
	for _, k := range slices.SortedFunc(maps.Keys(all), cmp.Compare[string]) {
		if skip != nil && skip(k) {
			continue
		}
		if w, g := text(want.keys[k]), text(got.keys[k]); w != g && len(out) < most {
			out = append(out, fmt.Sprintf("%q: want %.300s\n\tgot %.300s", k, w, g))
		}
	}
	return out
}

func parseInt(b []byte) (int64, error) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, errNoInt
	}
	return n, nil
}

func isWord(b []byte, word string) bool { return bytes.EqualFold(b, []byte(word)) }
