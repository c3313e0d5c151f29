package rdb

import (
	"errors"
	"math"
	"strconv"
)

// maxFieldTime is the last expiry time a hash field can have in Redis (src/ebuckets.h): 48 bits.
const maxFieldTime = 1<<48 - 1

// stringState is where we are in the string of a ValueString.
type stringState struct {
	total, sent uint64
	unpacked    bool // it is in blobBuf
	lzf         lzfState
}

// maxStringBytes bounds the length of a string that is not held as a whole.
const maxStringBytes = math.MaxInt64

func (d *Decoder) beginString() error {
	d.in.mark = d.in.pos
	if err := d.in.need(1); err != nil {
		return err
	}
	d.str = stringState{unpacked: d.in.buf[d.in.pos]>>6 == 3}
	if d.in.src != nil && d.in.buf[d.in.pos] == 3<<6|encLZF {
		return d.beginPackedString()
	}
	if d.str.unpacked {
		out, err := d.in.decodeText(d.blobBuf[:0])
		if err != nil {
			return err
		}
		d.blobBuf, d.str.total = out, uint64(len(out))
	} else {
		n, err := d.in.readLen()
		if err != nil {
			return err
		}
		if n > maxStringBytes {
			return d.in.corrupt("string length out of range")
		}
		d.str.total = n
	}
	d.step = (*Decoder).nextPiece
	return d.emitPiece()
}

func (d *Decoder) nextPiece() error {
	if d.str.sent == d.str.total {
		return d.finish()
	}
	return d.emitPiece()
}

func (d *Decoder) emitPiece() error {
	s, e := &d.str, &d.el
	n := min(s.total-s.sent, uint64(d.piece))
	e.Offset, e.TotalBytes = int64(s.sent), int64(s.total)
	if s.unpacked {
		e.Value = d.blobBuf[s.sent : s.sent+n]
	} else {
		d.in.mark = d.in.pos
		if err := d.in.need(int(n)); err != nil {
			return err
		}
		e.Value = d.in.buf[d.in.pos : d.in.pos+int(n) : d.in.pos+int(n)]
		d.in.pos += int(n)
	}
	s.sent += n
	return nil
}

// count reads how many elements or tuples follow. It is never used to allocate.
func (d *Decoder) count() error {
	d.in.mark = d.in.pos
	n, err := d.in.readLen()
	d.left = n
	return err
}

// tuple begins the next of the counted tuples; io.EOF if there is none.
func (d *Decoder) tuple() error {
	if d.left == 0 {
		return d.finish()
	}
	d.left--
	d.in.mark = d.in.pos
	return nil
}

func (d *Decoder) beginTexts() error {
	if err := d.count(); err != nil {
		return err
	}
	d.step = (*Decoder).nextText
	return d.nextText()
}

func (d *Decoder) nextText() error {
	if err := d.tuple(); err != nil {
		return err
	}
	t, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	d.el.Value = d.in.bytes(t)
	return nil
}

func (d *Decoder) beginScored() error {
	if err := d.count(); err != nil {
		return err
	}
	d.step = (*Decoder).nextScored
	if d.typ == typeZset {
		d.step = (*Decoder).nextScoredText
	}
	return d.step(d)
}

func (d *Decoder) nextScored() error {
	if err := d.tuple(); err != nil {
		return err
	}
	t, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	bits, err := d.in.readUint64()
	if err != nil {
		return err
	}
	d.el.Value, d.el.Score = d.in.bytes(t), math.Float64frombits(bits)
	return nil
}

// nextScoredText reads a member and its score as text behind a length byte, of which the highest three stand for NaN
// and the infinities.
func (d *Decoder) nextScoredText() error {
	if err := d.tuple(); err != nil {
		return err
	}
	t, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	n, err := d.in.readByte()
	if err != nil {
		return err
	}
	switch n {
	case 253:
		d.el.Score = math.NaN()
	case 254:
		d.el.Score = math.Inf(1)
	case 255:
		d.el.Score = math.Inf(-1)
	default:
		if err := d.in.need(int(n)); err != nil {
			return err
		}
		score, ok := parseScore(d.in.buf[d.in.pos : d.in.pos+int(n)])
		if !ok {
			return d.in.corrupt("score is no number")
		}
		d.el.Score = score
		d.in.pos += int(n)
	}
	d.el.Value = d.in.bytes(t)
	return nil
}

// parseScore reads a score as servers write it: decimal, inf, -inf or nan.
func parseScore(b []byte) (float64, bool) {
	if len(b) > 0 && len(b) < 16 {
		if v, ok := parseInt(b); ok && (v != 0 || b[0] != '-') {
			return float64(v), true
		}
	}
	v, err := strconv.ParseFloat(string(b), 64)
	return v, err == nil || errors.Is(err, strconv.ErrRange)
}

// parseInt reads up to 15 decimal digits with or without a sign, which a float64 holds exactly.
func parseInt(b []byte) (int64, bool) {
	digits := b
	if b[0] == '-' {
		digits = b[1:]
	}
	v := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if len(digits) < len(b) {
		v = -v
	}
	return v, len(digits) > 0
}

func (d *Decoder) beginFields() error {
	if err := d.count(); err != nil {
		return err
	}
	d.el.ExpireAtMs = 0
	d.step = (*Decoder).nextField
	return d.nextField()
}

func (d *Decoder) nextField() error {
	if err := d.tuple(); err != nil {
		return err
	}
	return d.readField()
}

func (d *Decoder) readField() error {
	field, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	value, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	d.el.Field, d.el.Value = d.in.bytes(field), d.in.bytes(value)
	return nil
}

// beginTimedFields begins a hash of Redis 7.4 whose fields may expire. Since its general release the earliest time stands
// in front, and the others are that much less, plus one since zero means none.
func (d *Decoder) beginTimedFields() error {
	d.minTime = 1 // so that the same sum gives absolute times
	if d.typ == typeHashTTL {
		v, err := d.in.readUint64()
		if err != nil {
			return err
		}
		if v > maxFieldTime+1 {
			return d.in.corrupt("earliest expiry time out of range")
		}
		d.minTime = v
	}
	if err := d.count(); err != nil {
		return err
	}
	d.step = (*Decoder).nextTimedField
	return d.nextTimedField()
}

func (d *Decoder) nextTimedField() error {
	if err := d.tuple(); err != nil {
		return err
	}
	ttl, err := d.in.readLen()
	if err != nil {
		return err
	}
	d.el.ExpireAtMs = 0
	if ttl != 0 {
		if ttl > maxFieldTime+1 || ttl-1+d.minTime > maxFieldTime {
			return d.in.corrupt("expiry time out of range")
		}
		d.el.ExpireAtMs = int64(ttl - 1 + d.minTime)
	}
	return d.readField()
}

func (d *Decoder) beginValkeyFields() error {
	if err := d.count(); err != nil {
		return err
	}
	d.step = (*Decoder).nextValkeyField
	return d.nextValkeyField()
}

// nextValkeyField reads field, value and expiry time, -1 for none.
func (d *Decoder) nextValkeyField() error {
	if err := d.tuple(); err != nil {
		return err
	}
	field, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	value, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	at, err := d.in.readUint64()
	if err != nil {
		return err
	}
	if int64(at) < -1 {
		return d.in.corrupt("expiry time out of range")
	}
	d.el.Field, d.el.Value, d.el.ExpireAtMs = d.in.bytes(field), d.in.bytes(value), max(int64(at), 0)
	return nil
}

// appendInt appends a number as Redis shows it.
func appendInt(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }
