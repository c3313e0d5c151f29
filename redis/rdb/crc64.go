package rdb

import "encoding/binary"

// crcPoly is the Jones polynomial, reflected: least significant bit first, as src/crc64.c of Redis computes.
const crcPoly = 0x95ac9329ac4bc9b5

// crcTables[k][b] is the checksum of byte b followed by k zero bytes. hash/crc64 would do the same work, but it keeps
// slicing tables only for its own two polynomials and builds any other anew on every call.
var crcTables = makeCRCTables()

func makeCRCTables() *[16][256]uint64 {
	t := new([16][256]uint64)
	for b := range t[0] {
		c := uint64(b)
		for range 8 {
			c = c>>1 ^ crcPoly&-(c&1)
		}
		t[0][b] = c
	}
	for k := 1; k < len(t); k++ {
		for b, c := range t[k-1] {
			t[k][b] = c>>8 ^ t[0][byte(c)]
		}
	}
	return t
}

// CRC64 continues the checksum crc over p, starting from 0: CRC-64/Jones, no inversion before or after. It is what
// ends an RDB and a DUMP payload.
func CRC64(crc uint64, p []byte) uint64 {
	t := crcTables
	for len(p) >= 16 {
		a := crc ^ binary.LittleEndian.Uint64(p)
		b := binary.LittleEndian.Uint64(p[8:16])
		crc = t[15][byte(a)] ^ t[14][byte(a>>8)] ^ t[13][byte(a>>16)] ^ t[12][byte(a>>24)] ^
			t[11][byte(a>>32)] ^ t[10][byte(a>>40)] ^ t[9][byte(a>>48)] ^ t[8][a>>56] ^
			t[7][byte(b)] ^ t[6][byte(b>>8)] ^ t[5][byte(b>>16)] ^ t[4][byte(b>>24)] ^
			t[3][byte(b>>32)] ^ t[2][byte(b>>40)] ^ t[1][byte(b>>48)] ^ t[0][b>>56]
		p = p[16:]
	}
	for _, b := range p {
		crc = crc>>8 ^ t[0][byte(crc)^b]
	}
	return crc
}
