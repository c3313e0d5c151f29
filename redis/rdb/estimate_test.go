package rdb

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// A collection's length is judged by its first bytes, of whatever layout.
func TestEstimate(t *testing.T) {
	const elements = 5000
	long := func(n int) []byte { return binary.BigEndian.AppendUint64([]byte{0x81}, uint64(n)) }
	text := func(dst []byte, i int) []byte { return AppendText(dst, fmt.Appendf(nil, "element:%010d", i)) }
	node := func(dst []byte, i int) []byte { // a quicklist's node that is one plain text
		return text(append(dst, 1), i)
	}
	for name, v := range map[string]struct {
		typ  byte
		each func(dst []byte, i int) []byte
	}{
		"set":  {typeSet, text},
		"hash": {typeHash, func(dst []byte, i int) []byte { return text(text(dst, i), i) }},
		"zset": {typeZset2, func(dst []byte, i int) []byte { return append(text(dst, i), make([]byte, 8)...) }},
		"list": {typeListQuick2, node},
	} {
		t.Run(name, func(t *testing.T) {
			value := long(elements)
			for i := range elements {
				value = v.each(value, i)
			}
			for _, n := range []int{200, 10_000, len(value)} {
				got, known := EstimateOf(v.typ, value[:n], FormatOf(11))
				if want := int64(len(value)); !known || got.Parts != elements || got.Bytes < want*9/10 || got.Bytes > want*15/10 {
					t.Errorf("by %d bytes: %+v, %v, want about %d", n, got, known, want)
				}
			}
			if got, known := EstimateOf(v.typ, value[:12], FormatOf(11)); known {
				t.Errorf("by 12 bytes: %+v", got)
			}
		})
	}
	for name, typ := range map[string]byte{"string": typeString, "unknown type": 200} {
		if got, known := EstimateOf(typ, AppendText(nil, []byte(strings.Repeat("x", 1000)))[:500], FormatOf(11)); known {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
