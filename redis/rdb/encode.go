package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// ErrNoEncoding is what an Encoder's error unwraps to when the target's version cannot hold the element.
var ErrNoEncoding = errors.New("no encoding for it")

// Versions of the RDB format that an Encoder tells apart.
const (
	versionZset2   = 8
	versionStream2 = 10
	versionStream3 = 11
	versionHashTTL = 12
	versionStream4 = 13
)

// frontBytes is room for what stands in front of a value and is known last: its length, and the earliest expiry of a hash.
const frontBytes = 17

// Encoder makes the value of a payload out of elements, in the plainest encoding there is for a kind, so that servers of
// any age can load it: for targets that refuse the payload of a newer source. The server chooses the encoding in its own
// memory itself.
//
// A value that is made is all in memory. What the target's version has no room for is an error (the expiry of a hash
// field), but for what a stream knows about itself beyond its entries and groups: that is left out, as a server of
// that version would have it.
type Encoder struct {
	kind   ValueKind
	target Format
	typ    byte
	n      uint64 // elements; bytes of a string; nodes of a stream
	buf    []byte // room for the length, then the value
	stream streamEncoder
}

// Reset begins a value for servers that load the given format.
func (e *Encoder) Reset(kind ValueKind, target Format) error {
	e.kind, e.target, e.n = kind, target, 0
	e.buf = append(e.buf[:0], make([]byte, frontBytes)...)
	switch kind {
	case ValueString:
		e.typ = typeString
	case ValueList:
		e.typ = typeList
	case ValueSet:
		e.typ = typeSet
	case ValueZset:
		e.typ = typeZset2
		if target.Version < versionZset2 {
			e.typ = typeZset
		}
	case ValueHash:
		e.typ = typeHash
	case ValueStream:
		e.stream.reset()
		e.typ = typeStream
		switch {
		case target.Version >= versionStream3:
			e.typ = typeStream3
		case target.Version >= versionStream2:
			e.typ = typeStream2
		}
	default:
		return fmt.Errorf("encode %v: %w", kind, ErrNoEncoding)
	}
	return nil
}

// SizeBytes is how large the value is so far.
func (e *Encoder) SizeBytes() int { return len(e.buf) - frontBytes + e.stream.size() }

// Append adds an element, as a Decoder gives it, of the kind that Reset named. Elements of a stream come in a Decoder's
// order.
func (e *Encoder) Append(el *Element) error {
	switch el.Kind {
	case ElementPiece:
		e.buf = append(e.buf, el.Value...)
		e.n += uint64(len(el.Value))
	case ElementItem, ElementMember:
		e.AppendText(el.Value)
	case ElementScored:
		e.AppendScored(el.Value, el.Score)
	case ElementField:
		return e.AppendField(el.Field, el.Value, el.ExpireAtMs)
	case ElementModule:
		return fmt.Errorf("encode module: %w", ErrNoEncoding)
	default:
		return e.appendStream(el)
	}
	return nil
}

// AppendText adds an item of a list or a member of a set.
func (e *Encoder) AppendText(b []byte) {
	e.buf = AppendText(e.buf, b)
	e.n++
}

// AppendScored adds a member of a sorted set.
func (e *Encoder) AppendScored(member []byte, score float64) {
	e.buf = AppendText(e.buf, member)
	e.n++
	if e.typ == typeZset2 {
		e.buf = binary.LittleEndian.AppendUint64(e.buf, math.Float64bits(score))
		return
	}
	switch {
	case math.IsNaN(score):
		e.buf = append(e.buf, 253)
	case math.IsInf(score, 1):
		e.buf = append(e.buf, 254)
	case math.IsInf(score, -1):
		e.buf = append(e.buf, 255)
	default:
		at := len(e.buf)
		e.buf = strconv.AppendFloat(append(e.buf, 0), score, 'g', -1, 64)
		e.buf[at] = byte(len(e.buf) - at - 1)
	}
}

// AppendField adds a field of a hash; expireAtMs 0 is none.
func (e *Encoder) AppendField(field, value []byte, expireAtMs int64) error {
	if expireAtMs != 0 && e.typ == typeHash {
		if err := e.addTimes(); err != nil {
			return err
		}
	}
	e.n++
	if e.typ == typeHashTTL {
		// The earliest time, in front, is 1: so these are absolute.
		e.buf = appendLen(e.buf, uint64(expireAtMs))
	}
	e.buf = AppendText(AppendText(e.buf, field), value)
	if e.typ == typeHashTTLValkey {
		e.buf = appendValkeyTime(e.buf, expireAtMs)
	}
	return nil
}

func appendValkeyTime(dst []byte, expireAtMs int64) []byte {
	if expireAtMs == 0 {
		expireAtMs = -1
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(expireAtMs))
}

// addTimes gives the fields there are a place for their time, and changes the type. It is done when the first field that
// expires comes: a hash without such fields is to load on any server.
func (e *Encoder) addTimes() error {
	plain := e.buf[frontBytes:]
	timed := make([]byte, frontBytes, len(e.buf)+len(e.buf)/4+64)
	switch {
	case e.target.Valkey:
		e.typ = typeHashTTLValkey
	case e.target.Version >= versionHashTTL:
		e.typ = typeHashTTL
	default:
		return fmt.Errorf("encode expiry of a hash field for version %d: %w", e.target.Version, ErrNoEncoding)
	}
	for len(plain) > 0 {
		n := 0
		for range 2 {
			size, head := decodeLen(plain[n:])
			n += head + int(size)
		}
		if e.typ == typeHashTTL {
			timed = append(append(timed, 0), plain[:n]...)
		} else {
			timed = appendValkeyTime(append(timed, plain[:n]...), 0)
		}
		plain = plain[n:]
	}
	e.buf = timed
	return nil
}

// Value ends the value and gives it, ready for [AppendPayload]; it is the Encoder's and valid until the next Reset. A
// value without elements, but for a string or a stream, is refused by servers.
func (e *Encoder) Value() (typ byte, value []byte) {
	if e.kind == ValueStream {
		e.endStream()
	}
	var front [frontBytes]byte
	head := front[:0]
	if e.typ == typeHashTTL {
		head = binary.LittleEndian.AppendUint64(head, 1)
	}
	head = appendLen(head, e.n)
	from := frontBytes - len(head)
	copy(e.buf[from:], head)
	return e.typ, e.buf[from:]
}

// AppendText appends a string as values and keys have it: its length and its bytes.
func AppendText(dst, s []byte) []byte {
	return append(appendLen(dst, uint64(len(s))), s...)
}

// appendLen appends a length in the shortest form.
func appendLen(dst []byte, n uint64) []byte {
	switch {
	case n < 1<<6:
		return append(dst, byte(n))
	case n < 1<<14:
		return append(dst, 0x40|byte(n>>8), byte(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, 0x80), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0x81), n)
}
