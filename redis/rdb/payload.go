package rdb

import (
	"encoding/binary"
	"fmt"
)

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

// footerBytes is what follows the value in a DUMP payload: version and checksum.
const footerBytes = 10

// SplitPayload splits what DUMP answers into type byte, value and RDB version, and verifies the checksum; 0 is taken as
// not computed. See [FormatOf] for what a version says. value points into payload.
func SplitPayload(payload []byte) (typ byte, value []byte, version int, err error) {
	if len(payload) < 1+footerBytes {
		return 0, nil, 0, &FormatError{What: "payload is shorter than its footer", Offset: int64(len(payload))}
	}
	footer := len(payload) - footerBytes
	stored := binary.LittleEndian.Uint64(payload[footer+2:])
	if stored != 0 {
		if computed := CRC64(0, payload[:footer+2]); computed != stored {
			what := fmt.Sprintf("checksum mismatch (stored %016x, computed %016x)", stored, computed)
			return 0, nil, 0, &FormatError{What: what, Offset: int64(footer + 2), Err: ErrChecksum}
		}
	}
	return payload[0], payload[1:footer:footer], int(binary.LittleEndian.Uint16(payload[footer:])), nil
}
