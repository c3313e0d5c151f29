package rdb

import "encoding/binary"

// AppendPayload appends the argument of RESTORE for a value: type byte, value, RDB version (2 bytes, little-endian)
// and checksum. A version is judged by the server that restores: it refuses one above its own.
//
// With typ [OpFunction] and the payload of a KindFunction item it makes the argument of FUNCTION RESTORE.
func AppendPayload(dst []byte, typ byte, value []byte, rdbVersion int) []byte {
	start := len(dst)
	dst = append(dst, typ)
	dst = append(dst, value...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(rdbVersion))
	return binary.LittleEndian.AppendUint64(dst, CRC64(0, dst[start:]))
}
