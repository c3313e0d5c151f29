package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
)

// Filter says which keys are compared: those in one of Slots, with one of Prefixes or matching one of Patterns, and of
// one of Types. What is not set lets all pass.
type Filter struct {
	Slots    slot.Set
	Prefixes []string
	Patterns []string // as KEYS and SCAN understand them
	Types    []string // as TYPE names them; a key of two types counts if either is listed
}

// types that a filter may name. Those of modules have names of their own, which hold a '-' or capital letters.
var types = []string{"string", "list", "set", "zset", "hash", "stream"}

func (f *Filter) validate() error {
	for _, t := range f.Types {
		if !slices.Contains(types, t) && strings.ToLower(t) == t && !strings.ContainsAny(t, "-_") {
			return fmt.Errorf("type %q: want one of %s, or the name of a module's type", t, strings.Join(types, ", "))
		}
	}
	return nil
}

// passes tells whether a key is compared, its type apart.
func (f *Filter) passes(key string) bool {
	if !f.Slots.IsEmpty() && !f.Slots.Has(slot.Of([]byte(key))) {
		return false
	}
	if f.Prefixes == nil && f.Patterns == nil {
		return true
	}
	return slices.ContainsFunc(f.Prefixes, func(p string) bool { return strings.HasPrefix(key, p) }) ||
		slices.ContainsFunc(f.Patterns, func(p string) bool { return match(p, key) })
}

func (f *Filter) slots() slot.Set {
	if f.Slots.IsEmpty() {
		var all slot.Set
		all.AddRange(slot.Range{First: 0, Last: slot.Count - 1})
		return all
	}
	return f.Slots
}

func isOwn(key string) bool {
	const prefix = "redriver!"
	return strings.HasPrefix(key, prefix) && own.Is([]byte(key))
}

// match tells whether a key matches a pattern, by the rules of KEYS (stringmatchlen in redis src/util.c): * ? [abc]
// [^a] [a-z], and \ before a character that means itself. It takes time in proportion to the product of both lengths.
// The empty key matches the empty pattern and *, and no other, for a server too.
func match(pattern, key string) bool {
	if key == "" {
		return pattern == "" || pattern == "*"
	}
	// Where to go on when a character does not match: behind the last *, one character later.
	star, from := -1, 0
	p, k := 0, 0
	for {
		if p < len(pattern) && pattern[p] == '*' {
			star, from = p+1, k
			p++
			continue
		}
		if k == len(key) {
			return p == len(pattern)
		}
		if n, ok := matchOne(pattern[p:], key[k]); ok {
			p, k = p+n, k+1
			continue
		}
		if star < 0 {
			return false
		}
		from++
		p, k = star, from
	}
}

// matchOne matches one character against the first element of a pattern, and returns the element's length.
func matchOne(pattern string, c byte) (int, bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	case '[':
		return matchClass(pattern, c)
	}
	return 1, pattern[0] == c
}

// matchClass matches [...]. One that is not closed ends with the pattern.
func matchClass(pattern string, c byte) (int, bool) {
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	in := false
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			in = in || pattern[i] == c
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := pattern[i], pattern[i+2]
			if low > high {
				low, high = high, low
			}
			in = in || low <= c && c <= high
			i += 2
		default:
			in = in || pattern[i] == c
		}
	}
	return min(i+1, len(pattern)), in != not
}
