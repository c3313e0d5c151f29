package rdb

import "encoding/binary"

// A listpack (src/listpack.c):
//
//	total bytes (4, little-endian)  number of entries (2, 65535: unknown)  entry ...  255
//	entry: encoding and data, then the length of both for who comes from behind
//
//	0xxxxxxx                 7-bit number, not negative
//	10xxxxxx                 string of up to 63 bytes
//	110xxxxx +1              13-bit number
//	1110xxxx +1              string of up to 4095 bytes
//	11110000 +4              string, length little-endian
//	11110001 ... 11110100    number of 2, 3, 4 or 8 bytes, little-endian
//
// Numbers are signed but for the first. The number of entries is not looked at: the end mark says where they end.
const (
	listpackHeaderBytes = 6
	listpackEnd         = 255
)

func listpackStart(p []byte) (int, error) {
	if len(p) < listpackHeaderBytes+1 || uint64(binary.LittleEndian.Uint32(p)) != uint64(len(p)) {
		return 0, errBlobHeader
	}
	return listpackHeaderBytes, nil
}

// listpackEntry reads the entry at pos and returns where the next one begins.
func listpackEntry(p []byte, pos int, c *cell) (int, error) {
	if pos >= len(p) {
		return pos, errBlobOverrun
	}
	b := p[pos]
	rest := p[pos+1:]
	var size int // of encoding and data
	switch {
	case b < 0x80:
		c.n, c.isNum = int64(b), true
		size = 1
	case b < 0xc0:
		n := int(b & 0x3f)
		if n > len(rest) {
			return pos, errBlobOverrun
		}
		c.b, c.isNum = rest[:n:n], false
		size = 1 + n
	case b < 0xe0:
		if len(rest) < 1 {
			return pos, errBlobOverrun
		}
		v := int64(b&0x1f)<<8 | int64(rest[0])
		c.n, c.isNum = v<<51>>51, true
		size = 2
	case b < 0xf0:
		if len(rest) < 1 {
			return pos, errBlobOverrun
		}
		n := int(b&0x0f)<<8 | int(rest[0])
		if n > len(rest)-1 {
			return pos, errBlobOverrun
		}
		c.b, c.isNum = rest[1:1+n:1+n], false
		size = 2 + n
	case b == 0xf0:
		if len(rest) < 4 {
			return pos, errBlobOverrun
		}
		n := uint64(binary.LittleEndian.Uint32(rest))
		if n > uint64(len(rest)-4) {
			return pos, errBlobOverrun
		}
		c.b, c.isNum = rest[4:4+n:4+n], false
		size = 5 + int(n)
	case b <= 0xf4:
		width := listpackWidths[b-0xf1]
		if width > len(rest) {
			return pos, errBlobOverrun
		}
		c.n, c.isNum = leInt(rest[:width]), true
		size = 1 + width
	default:
		return pos, errBlobEntry
	}
	next := pos + size + listpackBackBytes(size)
	if next >= len(p) { // the end mark follows at least
		return pos, errBlobOverrun
	}
	return next, nil
}

var listpackWidths = [...]int{2, 3, 4, 8}

// listpackBackBytes is how many bytes the length behind an entry takes. The limits are the server's: one less than what
// would fit, from two bytes on (lpEncodeBacklen).
func listpackBackBytes(size int) int {
	switch {
	case size <= 127:
		return 1
	case size < 1<<14-1:
		return 2
	case size < 1<<21-1:
		return 3
	case size < 1<<28-1:
		return 4
	}
	return 5
}

// leInt is the signed little-endian number in p, of one to eight bytes.
func leInt(p []byte) int64 {
	switch len(p) {
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(p)))
	case 3:
		return int64(int32(uint32(p[0])<<8|uint32(p[1])<<16|uint32(p[2])<<24)) >> 8
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(p)))
	case 8:
		return int64(binary.LittleEndian.Uint64(p))
	}
	return int64(int8(p[0]))
}
