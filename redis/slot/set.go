package slot

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"strconv"
	"strings"
)

// Range is the slots First to Last, both included. It is empty when First > Last.
type Range struct{ First, Last Slot }

// Len returns the number of slots in the range.
func (r Range) Len() int { return max(0, int(r.Last)-int(r.First)+1) }

// String writes "5" or "0-5460", as CLUSTER NODES does, and "" when empty.
func (r Range) String() string {
	switch {
	case r.First > r.Last:
		return ""
	case r.First == r.Last:
		return strconv.Itoa(int(r.First))
	}
	return strconv.Itoa(int(r.First)) + "-" + strconv.Itoa(int(r.Last))
}

// Set is a set of slots. The zero value is empty and ready; sets compare with ==.
//
// A number at or above Count is no slot: it is never in a set, and adding it
// changes nothing.
type Set struct{ words [Count / 64]uint64 }

// Add puts a slot into the set.
func (s *Set) Add(n Slot) {
	if n < Count {
		s.words[n/64] |= 1 << (n % 64)
	}
}

// AddRange puts all slots of a range into the set.
func (s *Set) AddRange(r Range) {
	for n := int(r.First); n <= min(int(r.Last), Count-1); n++ {
		s.Add(Slot(n))
	}
}

// Has reports whether a slot is in the set.
func (s *Set) Has(n Slot) bool {
	return n < Count && s.words[n/64]&(1<<(n%64)) != 0
}

// Len returns the number of slots in the set.
func (s *Set) Len() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// IsEmpty reports whether no slot is in the set.
func (s *Set) IsEmpty() bool { return *s == Set{} }

// Intersect returns the slots that are in both sets.
func (s *Set) Intersect(o *Set) Set {
	var out Set
	for i := range s.words {
		out.words[i] = s.words[i] & o.words[i]
	}
	return out
}

// Union returns the slots that are in either set.
func (s *Set) Union(o *Set) Set {
	var out Set
	for i := range s.words {
		out.words[i] = s.words[i] | o.words[i]
	}
	return out
}

// Minus returns the slots of s that are not in o.
func (s *Set) Minus(o *Set) Set {
	var out Set
	for i := range s.words {
		out.words[i] = s.words[i] &^ o.words[i]
	}
	return out
}

// All yields the slots of the set in ascending order. A set changed meanwhile may
// or may not show the change.
func (s *Set) All() iter.Seq[Slot] {
	return func(yield func(Slot) bool) {
		for i := range s.words {
			for w := s.words[i]; w != 0; w &= w - 1 {
				if !yield(Slot(i*64 + bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// Ranges returns the set as the fewest ranges, in ascending order.
func (s *Set) Ranges() []Range {
	var out []Range
	for n := range s.All() {
		if last := len(out) - 1; last >= 0 && out[last].Last+1 == n {
			out[last].Last = n
		} else {
			out = append(out, Range{First: n, Last: n})
		}
	}
	return out
}

// String writes the ranges separated by spaces: "0-5460 5462".
func (s *Set) String() string {
	var b strings.Builder
	for i, r := range s.Ranges() {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(r.String())
	}
	return b.String()
}

var errReversed = errors.New("first slot above last")

// ParseSet reads what [Set.String] writes: slots and ranges in any order,
// separated by white space; they may overlap.
func ParseSet(text string) (Set, error) {
	var out Set
	for word := range strings.FieldsSeq(text) {
		r, err := parseRange(word)
		if err != nil {
			return Set{}, fmt.Errorf("parse slots %q: %w", word, err)
		}
		out.AddRange(r)
	}
	return out, nil
}

func parseRange(word string) (Range, error) {
	low, high, isRange := strings.Cut(word, "-")
	if !isRange {
		high = low
	}
	first, err := parseSlot(low)
	if err != nil {
		return Range{}, err
	}
	last, err := parseSlot(high)
	if err != nil {
		return Range{}, err
	}
	if first > last {
		return Range{}, errReversed
	}
	return Range{First: first, Last: last}, nil
}

func parseSlot(word string) (Slot, error) {
	n, err := strconv.ParseUint(word, 10, 16)
	if err != nil {
		return 0, err
	}
	if n >= Count {
		return 0, fmt.Errorf("slot %d is above %d", n, Count-1)
	}
	return Slot(n), nil
}
