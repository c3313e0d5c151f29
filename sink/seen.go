package sink

import (
	"slices"
)

// seenSet is a set of key fingerprints: those of the keys that a generation has, or of those that the target has. In memory they
// stand in a table, open addressing over 64-bit hashes, at most three quarters full. A set that has outgrown its store's budget
// goes on in sorted runs on disk (seenruns.go), where a single fingerprint cannot be looked up: missing compares two whole sets
// then. A set is never used in part: who loses it reads the snapshot again from its begin.
//
// It belongs to the goroutine of its partition. The zero value, without a store, stays in memory.
type seenSet struct {
	slots []uint64 // 0 is empty
	n     int
	zero  bool // the fingerprint 0 is in the set
	off   bool // nobody asks: the set stays empty
	store *seenStore
	runs  seenRuns
}

// seenStore is the memory of a partition's sets, and the folder for what has no room in it.
type seenStore struct {
	budget int // bytes of all tables, one that grows counted twice
	dir    string
	// pulse is called now and then in what may take long, and ends it by an error; nil is never called.
	pulse func() error
	used  int
	sets  []*seenSet
}

// leastSlots is the size of the first table; leastSeenBytes is what every partition gets.
const (
	leastSlots       = 16
	leastSeenBytes   = 256
	fingerprintBytes = 8
	// leastGhosts is how many of those that are missing may be held at a time, whatever the budget.
	leastGhosts = 16 << 10
)

func newSeenStore(budget int, dir string) *seenStore {
	return &seenStore{budget: max(budget, leastSeenBytes), dir: dir}
}

// ghosts is how many fingerprints may be held at a time beside the store, whose tables are empty meanwhile.
func (st *seenStore) ghosts() int { return max(st.budget/fingerprintBytes, leastGhosts) }

func (st *seenStore) newSet() *seenSet {
	s := &seenSet{store: st, runs: seenRuns{pulse: st.pulse}}
	st.sets = append(st.sets, s)
	return s
}

// close lets go of everything.
func (st *seenStore) close() {
	for len(st.sets) > 0 {
		st.sets[0].close()
	}
}

// close lets go of the set, and of what it has on disk.
func (s *seenSet) close() {
	s.runs.close()
	if st := s.store; st != nil {
		st.used -= len(s.slots) * fingerprintBytes
		st.sets = slices.DeleteFunc(st.sets, func(other *seenSet) bool { return other == s })
	}
	*s = seenSet{}
}

func (s *seenSet) add(h uint64) error {
	switch {
	case s.off:
		return nil
	case h == 0:
		s.zero = true
		return nil
	}
	if s.n*4 >= len(s.slots)*3 {
		if err := s.makeRoom(); err != nil {
			return err
		}
	}
	if s.put(h) {
		s.n++
	}
	return nil
}

func (s *seenSet) put(h uint64) bool {
	mask := uint64(len(s.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case 0:
			s.slots[i] = h
			return true
		case h:
			return false
		}
	}
}

// makeRoom makes the table larger, or empties it onto disk: this one, or the largest of the store if that is another.
func (s *seenSet) makeRoom() error {
	size := max(2*len(s.slots), leastSlots)
	if st := s.store; st != nil {
		for st.used+size*fingerprintBytes > st.budget {
			largest := slices.MaxFunc(st.sets, func(a, b *seenSet) int { return len(a.slots) - len(b.slots) })
			if len(largest.slots) <= max(len(s.slots), leastSlots) {
				largest = s
			}
			if len(largest.slots) == 0 {
				break // as many sets as that: each has its least table
			}
			if err := largest.spill(); err != nil {
				return err
			}
			if largest == s {
				return nil
			}
			largest.resize(0)
		}
	}
	s.resize(size)
	return nil
}

// resize puts the table into one of another size.
func (s *seenSet) resize(size int) {
	old := s.slots
	s.slots = make([]uint64, size)
	if s.store != nil {
		s.store.used += (size - len(old)) * fingerprintBytes
	}
	for _, h := range old {
		if h != 0 {
			s.put(h)
		}
	}
}

// spill writes the table into a run and empties it.
func (s *seenSet) spill() error {
	if s.n == 0 {
		return nil
	}
	n := 0
	for _, h := range s.slots {
		if h != 0 {
			s.slots[n] = h
			n++
		}
	}
	slices.Sort(s.slots[:n])
	if err := s.runs.add(s.store.dir, s.slots[:n]); err != nil {
		clear(s.slots[n:])
		s.resize(len(s.slots)) // a table again
		return err
	}
	clear(s.slots)
	s.n = 0
	return nil
}

// inMemory tells whether has may be asked.
func (s *seenSet) inMemory() bool { return s.runs.isEmpty() }

func (s *seenSet) has(h uint64) bool {
	if h == 0 {
		return s.zero
	}
	if len(s.slots) == 0 {
		return false
	}
	mask := uint64(len(s.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case 0:
			return false
		case h:
			return true
		}
	}
}

// seal brings all of a set onto disk, and returns its fingerprints in order but for 0.
func (s *seenSet) seal() (*seenMerge, error) {
	if err := s.spill(); err != nil {
		return nil, err
	}
	s.resize(0)
	return s.runs.merge()
}

// missing calls fn for each fingerprint that is in s and not in other, in order, and pulse now and then. Both are on disk behind that.
func (s *seenSet) missing(other *seenSet, pulse func() error, fn func(h uint64) error) error {
	mine, err := s.seal()
	if err != nil {
		return err
	}
	theirs, err := other.seal()
	if err != nil {
		return err
	}
	mine.pulse, theirs.pulse = pulse, pulse
	if s.zero && !other.zero {
		if err := fn(0); err != nil {
			return err
		}
	}
	var there uint64
	more := true
	for {
		h, ok, err := mine.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		for more && there < h {
			if there, more, err = theirs.next(); err != nil {
				return err
			}
		}
		if more && there == h {
			continue
		}
		if err := fn(h); err != nil {
			return err
		}
	}
	for more && err == nil { // only at its end a run shows that it is whole
		_, more, err = theirs.next()
	}
	return err
}
