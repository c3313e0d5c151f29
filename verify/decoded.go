package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/redriver/redriver/redis/rdb"
)

// payloadFooter is version and checksum at the end of a DUMP payload. The checksum is not verified: it went through
// memory and a connection that has its own.
const payloadFooter = 10

// valueComparer compares DUMP payloads by what they mean. It belongs to one goroutine at a time.
type valueComparer struct {
	holdMs    int64
	sourceNow func() int64
	nowMs     int64 // by the source's clock, when the comparison of a hash began
	tolerance time.Duration
	from, to  *rdb.Decoder
	seed      maphash.Seed
	record    []byte // scratch: one element as it is hashed
}

func newValueComparer(opt *Options, sourceNow func() int64) *valueComparer {
	cfg := rdb.DecoderConfig{MaxBlobBytes: 1 << 30}
	return &valueComparer{
		holdMs: opt.ExpiryHold.Milliseconds(), tolerance: opt.TTLTolerance, from: rdb.NewDecoder(cfg), to: rdb.NewDecoder(cfg),
		seed: maphash.MakeSeed(), sourceNow: sourceNow,
	}
}

// value is a payload in its parts.
type value struct {
	typ    byte
	body   []byte
	format rdb.Format
	kind   rdb.ValueKind // 0: not known to this version
}

func parsePayload(p []byte) (value, bool) {
	if len(p) < 1+payloadFooter {
		return value{}, false
	}
	at := len(p) - payloadFooter
	v := value{typ: p[0], body: p[1:at], format: rdb.FormatOf(int(binary.LittleEndian.Uint16(p[at:])))}
	v.kind, _ = rdb.KindOf(v.typ, v.format)
	return v, true
}

// compare returns nil for equal values. ok is false when these payloads do not tell; nil stands for a key that is gone.
func (d *valueComparer) compare(from, to []byte) (found *delta, ok bool) {
	f, fok := parsePayload(from)
	t, tok := parsePayload(to)
	switch {
	case !fok && !tok: // nothing to compare any more
		return changedDelta(), true
	case !fok || !tok:
		return changedDelta(), true
	case f.kind != t.kind && f.kind != 0 && t.kind != 0:
		found = &delta{kind: Type, from: f.kind.String(), to: t.kind.String()}
	case d.sameBytes(f, t):
		return nil, true
	case f.kind == 0 || t.kind == 0:
		return nil, false
	default:
		var err error
		if found, err = d.compareValues(f, t); err != nil {
			return nil, false
		}
	}
	if found != nil {
		found.fromPrint, found.toPrint = xxhash.Sum64(from[:len(from)-payloadFooter]), xxhash.Sum64(to[:len(to)-payloadFooter])
	}
	return found, true
}

// sameBytes tells whether equal bytes prove equal values. Where the target has a hold, equal expiry times of fields are
// a difference.
func (d *valueComparer) sameBytes(f, t value) bool {
	return f.typ == t.typ && (f.typ < firstFamilyType || f.format.Valkey == t.format.Valkey) &&
		bytes.Equal(f.body, t.body) && (d.holdMs == 0 || !mayHoldFieldExpiry(f.typ))
}

// firstFamilyType is the first type byte that means one thing under Redis and another under Valkey.
const firstFamilyType = 22

// mayHoldFieldExpiry tells whether a value of this type byte may have expiry times inside: hashes of Redis 7.4 and
// Valkey 9.
func mayHoldFieldExpiry(typ byte) bool { return typ >= firstFamilyType && typ <= 25 }

func (d *valueComparer) compareValues(f, t value) (*delta, error) {
	d.from.ResetBytes(f.typ, f.body, f.format)
	d.to.ResetBytes(t.typ, t.body, t.format)
	switch f.kind {
	case rdb.ValueSet, rdb.ValueHash, rdb.ValueZset:
		return d.compareUnordered(f, t)
	case rdb.ValueModule:
		return valueDelta("a payload of a module's type", "another payload"), nil
	case rdb.ValueStream:
		return d.compareStreams(f, t)
	default:
		return d.compareInOrder()
	}
}

// pairUp reads one element of each side; both are nil at the end of both.
func (d *valueComparer) pairUp() (f, t *rdb.Element, err error) {
	f, err = d.from.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	t, err = d.to.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	return f, t, nil
}

// compareInOrder compares strings, piece by piece, and lists.
func (d *valueComparer) compareInOrder() (*delta, error) {
	for i := 0; ; i++ {
		f, t, err := d.pairUp()
		if err != nil || f == nil && t == nil {
			return nil, err
		}
		if f != nil && t != nil && bytes.Equal(f.Value, t.Value) {
			continue
		}
		if d.from.Kind() == rdb.ValueList {
			where := fmt.Sprintf("index %d ", i)
			return valueDelta(itemText(where, f), itemText(where, t)), nil
		}
		return pieceDelta(f, t), nil
	}
}

// pieceDelta words where two strings part. One of them may have ended with the piece before.
func pieceDelta(f, t *rdb.Element) *delta {
	var from, to []byte
	var offset int64
	if f != nil {
		from, offset = f.Value, f.Offset
	}
	if t != nil {
		to, offset = t.Value, t.Offset
	}
	at := 0
	for at < len(from) && at < len(to) && from[at] == to[at] {
		at++
	}
	where := fmt.Sprintf("at byte %d ", offset+int64(at))
	return valueDelta(where+short(string(from[at:])), where+short(string(to[at:])))
}

func itemText(where string, e *rdb.Element) string {
	if e == nil {
		return "no " + strings.TrimSpace(where)
	}
	return where + short(string(e.Value))
}

// sum is of a bag of elements: the same for every order of them, and another, but for one chance in 2^64, for another
// bag. The seed is new in each process, so nobody can make two bags collide.
type sum struct {
	hashes uint64
	n      int
}

// compareUnordered compares the bags first, and looks for the difference only if there is one.
func (d *valueComparer) compareUnordered(f, t value) (*delta, error) {
	// Small sorted sets hold whole scores as integers, so that -0 is stored as 0: Redis's own replicas differ in that.
	exactZero := f.typ == zsetDoubles && t.typ == zsetDoubles
	d.nowMs = d.sourceNow()
	a, err := d.sumOf(d.from, d.holdMs, exactZero)
	if err != nil {
		return nil, err
	}
	b, err := d.sumOf(d.to, 0, exactZero)
	if err != nil || a == b {
		return nil, err
	}
	d.from.ResetBytes(f.typ, f.body, f.format)
	d.to.ResetBytes(t.typ, t.body, t.format)
	return d.findMember(exactZero)
}

// zsetDoubles is the type byte of sorted sets whose scores are stored bit by bit.
const zsetDoubles = 5

// isDead tells of a field whose time has passed by the source's word: servers show no such field, and have it in its payload
// until they come by. heldMs is by how much its side's times are later.
func (d *valueComparer) isDead(e *rdb.Element, heldMs int64) bool {
	return e.Kind == rdb.ElementField && e.ExpireAtMs != 0 && e.ExpireAtMs-heldMs <= d.nowMs
}

func (d *valueComparer) sumOf(dec *rdb.Decoder, holdMs int64, exactZero bool) (sum, error) {
	var s sum
	for {
		e, err := dec.Next()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		if d.isDead(e, d.holdMs-holdMs) {
			continue
		}
		d.record = appendElement(d.record[:0], e, holdMs, exactZero)
		s.hashes += maphash.Bytes(d.seed, d.record)
		s.n++
	}
}

// appendElement writes an element so that no two have the same bytes: a number, which is expiry or score, the length of
// the name, the name, the value. Field values are the users': nothing may follow that they could imitate.
func appendElement(dst []byte, e *rdb.Element, holdMs int64, exactZero bool) []byte {
	name, val := nameOf(e), []byte(nil)
	var number uint64
	switch e.Kind {
	case rdb.ElementField:
		val = e.Value
		if e.ExpireAtMs != 0 {
			number = uint64(e.ExpireAtMs + holdMs)
		}
	case rdb.ElementScored:
		number = scoreBits(e.Score, exactZero)
	default: // of a set
	}
	dst = binary.LittleEndian.AppendUint64(dst, number)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(name)))
	dst = append(dst, name...)
	return append(dst, val...)
}

func scoreBits(score float64, exactZero bool) uint64 {
	if score == 0 && !exactZero {
		return 0
	}
	return math.Float64bits(score)
}

// nameOf is what an element of a set, sorted set or hash is known by.
func nameOf(e *rdb.Element) []byte {
	if e.Kind == rdb.ElementField {
		return e.Field
	}
	return e.Value
}

// inside is what a member has at one side.
type inside struct {
	value    string // of a field, or the score
	bits     uint64
	expireMs int64
}

func insideOf(e *rdb.Element, exactZero bool) inside {
	switch e.Kind {
	case rdb.ElementField:
		return inside{value: string(e.Value), expireMs: e.ExpireAtMs}
	case rdb.ElementScored:
		return inside{value: floatText(e.Score), bits: scoreBits(e.Score, exactZero)}
	default: // of a set
		return inside{}
	}
}

// findMember names the first member that differs: in being there, then in value, then in expiry.
func (d *valueComparer) findMember(exactZero bool) (*delta, error) {
	typ := d.from.Kind().String()
	left := map[string]inside{}
	for {
		e, err := d.from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if !d.isDead(e, 0) {
			left[string(nameOf(e))] = insideOf(e, exactZero)
		}
	}
	var late *delta
	for {
		e, err := d.to.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if d.isDead(e, d.holdMs) {
			continue
		}
		name, t := string(nameOf(e)), insideOf(e, exactZero)
		f, ok := left[name]
		switch {
		case !ok:
			return valueDelta(memberText(typ, name, nil), memberText(typ, name, &t.value)), nil
		case f.bits != t.bits, f.bits == 0 && typ == "hash" && f.value != t.value:
			return valueDelta(memberText(typ, name, &f.value), memberText(typ, name, &t.value)), nil
		case late == nil && !d.expiryEqual(f.expireMs, t.expireMs):
			late = &delta{kind: FieldExpiry, from: fieldExpiryText(name, f.expireMs), to: fieldExpiryText(name, t.expireMs)}
		}
		delete(left, name)
	}
	for name, f := range left {
		return valueDelta(memberText(typ, name, &f.value), memberText(typ, name, nil)), nil
	}
	return late, nil
}

func (d *valueComparer) expiryEqual(from, to int64) bool {
	if from == 0 || to == 0 {
		return from == to
	}
	by := to - from - d.holdMs
	return max(by, -by) <= d.tolerance.Milliseconds()
}
