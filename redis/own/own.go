// Package own knows the names of the keys that Redriver itself keeps in a target: checkpoints, watermarks, fences
// and staging keys. It is only names: what the keys hold belongs to who writes them.
//
// The shape, where <tag> is the fixed tag of the slot the key lies in (slot.Tag):
//
//	redriver!<kind>!<name>!{<tag>}        kind c, w, f
//	redriver!s!<name>!<n>!{<tag>}         staging; n is a decimal number
//
// name is [A-Za-z0-9._-]+. The exact shape matters: a comparison leaves these keys out, so anything that only looks
// like them, such as the same words before another tag, must count as a user's key.
package own

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/redriver/redriver/redis/slot"
)

// The kinds of keys.
const (
	Checkpoint byte = 'c'
	Watermark  byte = 'w'
	Fence      byte = 'f'
	Stage      byte = 's'
)

const prefix = "redriver!"

// Key names the checkpoint, watermark or fence called name in slot s. It panics when Is would not know the result:
// kind or name is not of the alphabet, which ValidName tells beforehand.
func Key(kind byte, name string, s slot.Slot) []byte { return AppendKey(nil, kind, name, s) }

// AppendKey appends what Key returns to dst.
func AppendKey(dst []byte, kind byte, name string, s slot.Slot) []byte {
	if kind != Checkpoint && kind != Watermark && kind != Fence {
		panic("own: no such kind of key: " + strconv.QuoteRune(rune(kind)))
	}
	return appendKey(dst, kind, name, "", s)
}

// StagingKey names the n-th staging key of name in slot s: where a large value is built before it is renamed. It
// panics for a name that ValidName refuses.
func StagingKey(name string, n uint64, s slot.Slot) []byte {
	return appendKey(nil, Stage, name, strconv.FormatUint(n, 10)+"!", s)
}

func appendKey(dst []byte, kind byte, name, part string, s slot.Slot) []byte {
	if !ValidName(name) {
		panic("own: no name of a key: " + strconv.Quote(name))
	}
	tag := slot.Tag(s)
	k := append(slices.Grow(dst, len(prefix)+len(name)+len(part)+len(tag)+5), prefix...)
	k = append(k, kind, '!')
	k = append(k, name...)
	k = append(k, '!')
	k = append(k, part...)
	k = append(k, '{')
	k = append(k, tag...)
	return append(k, '}')
}

// ValidName tells whether name may stand in a key: [A-Za-z0-9._-]+.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return name != ""
}

// Is tells whether key is one of Redriver's own, by exact shape and by the tag of the slot it lies in.
func Is(key []byte) bool {
	rest, ok := bytes.CutPrefix(key, []byte(prefix))
	if !ok || len(rest) < 2 || rest[1] != '!' {
		return false
	}
	kind := rest[0]
	name, rest, ok := bytes.Cut(rest[2:], []byte{'!'})
	if !ok || !ValidName(string(name)) {
		return false
	}
	switch kind {
	case Checkpoint, Watermark, Fence:
	case Stage:
		var n []byte
		if n, rest, ok = bytes.Cut(rest, []byte{'!'}); !ok || !canonical(n) {
			return false
		}
	default:
		return false
	}
	// Nothing before the tag can hold a brace, so the tag is what the slot was computed from.
	if len(rest) < 2 || rest[0] != '{' || rest[len(rest)-1] != '}' {
		return false
	}
	return string(rest[1:len(rest)-1]) == slot.Tag(slot.Of(key))
}

// canonical tells whether n is a number as StagingKey writes it: no sign, no leading zero, within 64 bits.
func canonical(n []byte) bool {
	v, err := strconv.ParseUint(string(n), 10, 64)
	return err == nil && strconv.FormatUint(v, 10) == string(n)
}
