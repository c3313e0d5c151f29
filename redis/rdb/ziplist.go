package rdb

import "encoding/binary"

// A ziplist (src/ziplist.c), which listpacks replaced in Redis 7:
//
//	total bytes (4, little-endian)  offset of the last entry (4)  number of entries (2, 65535: unknown)  entry ...  255
//	entry: size of the entry before, encoding and length, data
//
// The size of the entry before takes one byte, or 254 and four more; five may stand where one would do.
//
//	00xxxxxx        string of up to 63 bytes
//	01xxxxxx +1     string of up to 16383 bytes
//	10______ +4     string, length big-endian
//	11000000        number of 2 bytes, little-endian and signed as all
//	11010000        4 bytes
//	11100000        8 bytes
//	11110000        3 bytes
//	11111110        1 byte
//	1111xxxx        0 to 12: xxxx from 0001 to 1101, less one
const (
	ziplistHeaderBytes = 10
	ziplistEnd         = 255
)

func ziplistStart(p []byte) (int, error) {
	if len(p) < ziplistHeaderBytes+1 || uint64(binary.LittleEndian.Uint32(p)) != uint64(len(p)) {
		return 0, errBlobHeader
	}
	return ziplistHeaderBytes, nil
}

// ziplistEntry reads the entry at pos and returns where the next one begins.
func ziplistEntry(p []byte, pos int, c *cell) (int, error) {
	from := pos + 1
	if pos < len(p) && p[pos] == 254 {
		from = pos + 5
	}
	if from >= len(p) {
		return pos, errBlobOverrun
	}
	b := p[from]
	rest := p[from+1:]
	var n uint64 // of a string
	head := 0    // bytes of its length behind b
	switch b >> 6 {
	case 0:
		n = uint64(b & 0x3f)
	case 1:
		if len(rest) < 1 {
			return pos, errBlobOverrun
		}
		n, head = uint64(b&0x3f)<<8|uint64(rest[0]), 1
	case 2:
		if len(rest) < 4 {
			return pos, errBlobOverrun
		}
		n, head = uint64(binary.BigEndian.Uint32(rest)), 4
	default:
		if b > 0xf0 && b < 0xfe {
			c.n, c.isNum = int64(b&0x0f)-1, true
			return from + 1, nil
		}
		width := ziplistWidth(b)
		if width == 0 {
			return pos, errBlobEntry
		}
		if width > len(rest) {
			return pos, errBlobOverrun
		}
		c.n, c.isNum = leInt(rest[:width]), true
		return from + 1 + width, nil
	}
	rest = rest[head:]
	if n > uint64(len(rest)) {
		return pos, errBlobOverrun
	}
	c.b, c.isNum = rest[:n:n], false
	return from + 1 + head + int(n), nil
}

// ziplistWidth is how many bytes a number takes behind its encoding; 0: there is no such encoding.
func ziplistWidth(b byte) int {
	switch b {
	case 0xc0:
		return 2
	case 0xd0:
		return 4
	case 0xe0:
		return 8
	case 0xf0:
		return 3
	case 0xfe:
		return 1
	}
	return 0
}
