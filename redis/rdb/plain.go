package rdb

import (
	"encoding/binary"
	"strconv"
)

// PlainText returns the text of a value that is a string neither compressed nor malformed, which costs nothing: it lies in
// value, or is the text of a number and lies in digits.
func PlainText(typ byte, value []byte, digits *[20]byte) (text []byte, ok bool) {
	if typ != typeString || len(value) == 0 {
		return nil, false
	}
	var head int
	switch b := value[0]; {
	case b < 64:
		head = 1
	case b < 128:
		head = 2
	case b == 0x80:
		head = 5
	case b == 0x81:
		head = 9
	case b>>6 == 3:
		return plainNumber(value, digits)
	default:
		return nil, false
	}
	if len(value) < head {
		return nil, false
	}
	n, head := decodeLen(value)
	return value[head:], n == uint64(len(value)-head)
}

func plainNumber(value []byte, digits *[20]byte) ([]byte, bool) {
	raw := value[1:]
	var n int64
	switch enc := value[0] & 63; {
	case enc == encInt8 && len(raw) == 1:
		n = int64(int8(raw[0]))
	case enc == encInt16 && len(raw) == 2:
		n = int64(int16(binary.LittleEndian.Uint16(raw)))
	case enc == encInt32 && len(raw) == 4:
		n = int64(int32(binary.LittleEndian.Uint32(raw)))
	default:
		return nil, false
	}
	return strconv.AppendInt(digits[:0], n, 10), true
}
