package sink

// seenSet is a set of key fingerprints: open addressing over 64-bit hashes, at most three quarters full, so a key takes 11
// to 22 bytes. It lives in memory and is never used in part: who loses it reads the snapshot again from its begin.
type seenSet struct {
	slots []uint64 // 0 is empty
	n     int
	zero  bool // the fingerprint 0 is in the set
}

func (s *seenSet) add(h uint64) {
	if h == 0 {
		s.zero = true
		return
	}
	if s.n*4 >= len(s.slots)*3 {
		s.grow()
	}
	if s.put(h) {
		s.n++
	}
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

func (s *seenSet) grow() {
	old := s.slots
	s.slots = make([]uint64, max(2*len(old), 1024))
	for _, h := range old {
		if h != 0 {
			s.put(h)
		}
	}
}

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
