package rdb

import (
	"errors"
	"slices"
)

var errLZF = errors.New("corrupt LZF data")

// appendLZF appends the n bytes that src decompresses to. dst grows with what src really yields, not by n.
//
// A control byte below 32 is followed by that many literals plus one. Else its upper three bits are a length, 7 meaning
// that a byte with the rest follows, plus 2; its lower five bits and the next byte are a distance, plus 1.
func appendLZF(dst, src []byte, n uint64) ([]byte, error) {
	base := len(dst)
	if grow := min(n, uint64(8*len(src))); uint64(cap(dst)-base) < grow {
		dst = slices.Grow(dst, int(grow)) // text compresses no better as a rule
	}
	for i := 0; i < len(src); {
		c := int(src[i])
		i++
		if c < 32 {
			c++
			if c > len(src)-i {
				return dst[:base], errLZF
			}
			dst = append(dst, src[i:i+c]...)
			i += c
		} else {
			length, distance := c>>5, c&31<<8
			if length == 7 {
				if i == len(src) {
					return dst[:base], errLZF
				}
				length += int(src[i])
				i++
			}
			if i == len(src) {
				return dst[:base], errLZF
			}
			distance += int(src[i]) + 1
			i++
			from := len(dst) - distance
			if from < base {
				return dst[:base], errLZF
			}
			// Source and copy may overlap: a run repeats what it has just written, twice as much each time.
			for length += 2; length > 0; {
				k := min(length, len(dst)-from)
				dst = append(dst, dst[from:from+k]...)
				length -= k
			}
		}
		if uint64(len(dst)-base) > n {
			return dst[:base], errLZF
		}
	}
	if uint64(len(dst)-base) != n {
		return dst[:base], errLZF
	}
	return dst, nil
}
