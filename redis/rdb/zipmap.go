package rdb

import "encoding/binary"

// A zipmap (src/zipmap.c), which Redis wrote for small hashes before 2.6: number of pairs (1, 254 and above: unknown),
// then field and value of each, and 255. Before each stands its length: one byte, or 254 and four more, little-endian.
// Between the length of a value and the value stands how many unused bytes follow the value.
const (
	zipmapBigLen = 254
	zipmapEnd    = 255
)

func zipmapStart(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, errBlobHeader
	}
	return 1, nil
}

// zipmapEntry reads the field or value at pos and returns where the next one begins.
func zipmapEntry(p []byte, pos int, value bool, c *cell) (int, error) {
	if pos >= len(p) {
		return pos, errBlobOverrun
	}
	n, from := uint64(p[pos]), pos+1
	switch n {
	case zipmapBigLen:
		if len(p)-from < 4 {
			return pos, errBlobOverrun
		}
		n, from = uint64(binary.LittleEndian.Uint32(p[from:])), from+4
	case zipmapEnd:
		return pos, errBlobEntry
	}
	unused := uint64(0)
	if value {
		if from >= len(p) {
			return pos, errBlobOverrun
		}
		unused, from = uint64(p[from]), from+1
	}
	if n+unused > uint64(len(p)-from) {
		return pos, errBlobOverrun
	}
	end := from + int(n)
	c.b, c.isNum = p[from:end:end], false
	return end + int(unused), nil
}
