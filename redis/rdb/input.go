package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// inputBytes is what the buffer of an input that reads starts with.
const inputBytes = 16 << 10

// errInputEnd says that there is nothing behind the last byte. It does not leave this file.
var errInputEnd = errors.New("end of input")

// input is the bytes of one value: all in memory, or read as they are needed.
//
// Invariant: 0 <= mark <= pos <= end <= len(buf). buf[mark:end] is kept by fill; positions that must survive it are
// kept relative to mark.
type input struct {
	src   io.Reader // nil: buf[:end] is the whole value
	buf   []byte
	own   []byte // the buffer for src, kept while values come from memory
	mark  int
	pos   int
	end   int
	base  int64 // offset of buf[0] in the value
	limit uint64
}

func (in *input) resetBytes(value []byte) {
	in.src, in.buf = nil, value
	in.mark, in.pos, in.end, in.base = 0, 0, len(value), 0
}

func (in *input) reset(r io.Reader) {
	if len(in.own) > keepBufferBytes {
		in.own = nil
	}
	in.src, in.buf = r, in.own
	in.mark, in.pos, in.end, in.base = 0, 0, 0, 0
}

// offset is where in the value we stand.
func (in *input) offset() int64 { return in.base + int64(in.pos) }

func (in *input) corrupt(what string) error {
	return &FormatError{What: what, Offset: in.offset()}
}

// atEnd says whether the value has no more bytes.
func (in *input) atEnd() (bool, error) {
	if in.pos < in.end {
		return false, nil
	}
	if in.src == nil {
		return true, nil
	}
	err := in.fill()
	if errors.Is(err, errInputEnd) {
		return true, nil
	}
	return false, err
}

// need makes n bytes available at pos.
func (in *input) need(n int) error {
	for in.end-in.pos < n {
		if err := in.fill(); err != nil {
			if errors.Is(err, errInputEnd) {
				return &FormatError{What: "value ends early", Offset: in.base + int64(in.end), Err: io.ErrUnexpectedEOF}
			}
			return err
		}
	}
	return nil
}

// take passes n bytes, which are then kept until mark moves.
func (in *input) take(n uint64) error {
	if in.src != nil && n > in.limit {
		return in.tooLarge("string", n)
	}
	if n > uint64(in.end-in.pos) {
		if in.src == nil {
			return &FormatError{What: "string overruns the value", Offset: in.offset(), Err: io.ErrUnexpectedEOF}
		}
		if err := in.need(int(n)); err != nil {
			return err
		}
	}
	in.pos += int(n)
	return nil
}

func (in *input) tooLarge(what string, size uint64) error {
	return &TooLargeError{What: what, SizeBytes: size, LimitBytes: int64(in.limit), Offset: in.offset()}
}

// fill reads at least one byte behind end; errInputEnd if there is none. The buffer grows only when it is full
// of bytes that are kept.
func (in *input) fill() error {
	if in.src == nil {
		return errInputEnd
	}
	switch {
	case len(in.buf) > keepBufferBytes && in.end-in.mark <= inputBytes/2: // one large element needed it
		in.move(make([]byte, inputBytes))
		in.own = in.buf
	case in.mark == in.end, in.mark > 0 && in.end == len(in.buf):
		in.move(in.buf)
	}
	if in.end == len(in.buf) {
		in.move(make([]byte, max(inputBytes, 2*len(in.buf))))
		in.own = in.buf
	}
	for range maxEmptyReads {
		n, err := in.src.Read(in.buf[in.end:])
		if n < 0 || n > len(in.buf)-in.end {
			return fmt.Errorf("read value at offset %d: source returned an invalid count", in.base+int64(in.end))
		}
		in.end += n
		if n > 0 {
			return nil // an error that came along comes again
		}
		if err == io.EOF {
			return errInputEnd
		}
		if err != nil {
			return fmt.Errorf("read value at offset %d: %w", in.base+int64(in.end), err)
		}
	}
	return fmt.Errorf("read value at offset %d: %w", in.base+int64(in.end), io.ErrNoProgress)
}

// move puts buf[mark:end] at the front of dst, which becomes the buffer.
func (in *input) move(dst []byte) {
	n := copy(dst, in.buf[in.mark:in.end])
	in.base += int64(in.mark)
	in.pos -= in.mark
	in.mark, in.end, in.buf = 0, n, dst
}

func (in *input) readByte() (byte, error) {
	if in.pos == in.end {
		if err := in.need(1); err != nil {
			return 0, err
		}
	}
	b := in.buf[in.pos]
	in.pos++
	return b, nil
}

func (in *input) readUint64() (uint64, error) {
	if err := in.need(8); err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(in.buf[in.pos:])
	in.pos += 8
	return v, nil
}

// readLen reads a length or another number encoded as one.
func (in *input) readLen() (uint64, error) {
	if in.pos < in.end {
		if b := in.buf[in.pos]; b < 64 {
			in.pos++
			return uint64(b), nil
		}
	}
	if err := in.need(1); err != nil {
		return 0, err
	}
	var size int
	switch b := in.buf[in.pos]; {
	case b < 64:
		size = 1
	case b < 128:
		size = 2
	case b == 0x80:
		size = 5
	case b == 0x81:
		size = 9
	default:
		return 0, in.corrupt("no valid length")
	}
	if err := in.need(size); err != nil {
		return 0, err
	}
	v, n := decodeLen(in.buf[in.pos:in.end])
	in.pos += n
	return v, nil
}

// readLens reads several lengths in a row.
func (in *input) readLens(dst ...*uint64) error {
	for _, p := range dst {
		v, err := in.readLen()
		if err != nil {
			return err
		}
		*p = v
	}
	return nil
}

// readID reads an id as pending lists have it: 16 bytes, big-endian.
func (in *input) readID() (StreamID, error) {
	if err := in.need(16); err != nil {
		return StreamID{}, err
	}
	id := StreamID{Ms: binary.BigEndian.Uint64(in.buf[in.pos:]), Seq: binary.BigEndian.Uint64(in.buf[in.pos+8:])}
	in.pos += 16
	return id, nil
}

// text is a string of the value: where it stands in the buffer, relative to mark, or decoded bytes.
type text struct {
	off, n  int
	decoded []byte // if n < 0
}

// bytes is the text's bytes, valid while mark stays.
func (in *input) bytes(t text) []byte {
	if t.n < 0 {
		return t.decoded
	}
	off := in.mark + t.off
	return in.buf[off : off+t.n : off+t.n]
}

// readText reads a string. What does not stand in the value as it is is appended to scratch; earlier texts there stay
// valid when it grows, since they keep the array they were in.
func (in *input) readText(scratch *[]byte) (text, error) {
	// Fast way: a short plain string that is all there.
	if in.end-in.pos >= 2 {
		if b := in.buf[in.pos]; b < 128 {
			from, n := in.pos+1, int(b)
			if b >= 64 {
				from, n = in.pos+2, int(b&63)<<8|int(in.buf[in.pos+1])
			}
			if from+n <= in.end && (in.src == nil || uint64(n) <= in.limit) {
				in.pos = from + n
				return text{off: from - in.mark, n: n}, nil
			}
		}
	}
	if err := in.need(1); err != nil {
		return text{}, err
	}
	if in.buf[in.pos]>>6 == 3 {
		out, err := in.decodeText(*scratch)
		if err != nil {
			return text{}, err
		}
		decoded := out[len(*scratch):len(out):len(out)]
		*scratch = out
		return text{n: -1, decoded: decoded}, nil
	}
	n, err := in.readLen()
	if err != nil {
		return text{}, err
	}
	off := in.pos - in.mark
	if err := in.take(n); err != nil {
		return text{}, err
	}
	return text{off: off, n: int(n)}, nil
}

// decodeText reads a specially encoded string and appends what it stands for.
func (in *input) decodeText(dst []byte) ([]byte, error) {
	enc := in.buf[in.pos] & 63
	if enc < encLZF {
		size := 1 << enc // 1, 2 or 4 bytes
		if err := in.need(1 + size); err != nil {
			return nil, err
		}
		raw := in.buf[in.pos+1:]
		in.pos += 1 + size
		var v int64
		switch enc {
		case encInt8:
			v = int64(int8(raw[0]))
		case encInt16:
			v = int64(int16(binary.LittleEndian.Uint16(raw)))
		case encInt32:
			v = int64(int32(binary.LittleEndian.Uint32(raw)))
		}
		return appendInt(dst, v), nil
	}
	if enc > encLZF {
		return nil, in.corrupt("unknown string encoding")
	}
	in.pos++
	var packed, size uint64
	if err := in.readLens(&packed, &size); err != nil {
		return nil, err
	}
	if size > in.limit {
		return nil, in.tooLarge("compressed string", size)
	}
	at := in.offset()
	if err := in.take(packed); err != nil {
		return nil, err
	}
	out, err := appendLZF(dst, in.buf[in.pos-int(packed):in.pos], size)
	if err != nil {
		return nil, &FormatError{What: "corrupt LZF data", Offset: at}
	}
	return out, nil
}
