package slot

import "bytes"

// Slot is a hash slot, 0 to Count-1.
type Slot uint16

// Count is the number of hash slots (CLUSTER_SLOTS in redis src/cluster.h).
const Count = 16384

// Of returns the slot of a key.
//
// If the key holds a '{', and a '}' somewhere after that first '{', and there is
// at least one byte between the two, only these bytes are hashed (keyHashSlot in
// redis src/cluster.h). So "{}{a}" is hashed as a whole.
func Of(key []byte) Slot {
	if open := bytes.IndexByte(key, '{'); open >= 0 {
		tail := key[open+1:]
		if end := bytes.IndexByte(tail, '}'); end > 0 {
			key = tail[:end]
		}
	}
	return Slot(crc16(key) % Count)
}

// crcTable is the CRC-16/XMODEM table: polynomial 0x1021, nothing reflected,
// initial value and final xor 0.
var crcTable = makeCRCTable()

func makeCRCTable() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}

func crc16(b []byte) uint16 {
	var crc uint16
	for _, c := range b {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^c]
	}
	return crc
}
