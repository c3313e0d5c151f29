package rdb

import "encoding/binary"

// An intset (src/intset.c): width of a number (4, little-endian: 2, 4 or 8), how many (4), and the numbers, ascending,
// signed, little-endian.
const intsetHeaderBytes = 8

func intsetStart(p []byte) (pos, width int, err error) {
	if len(p) < intsetHeaderBytes {
		return 0, 0, errBlobHeader
	}
	w := uint64(binary.LittleEndian.Uint32(p))
	if w != 2 && w != 4 && w != 8 || w*uint64(binary.LittleEndian.Uint32(p[4:])) != uint64(len(p)-intsetHeaderBytes) {
		return 0, 0, errBlobHeader
	}
	return intsetHeaderBytes, int(w), nil
}
