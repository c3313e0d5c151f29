package sink

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func addAll(t *testing.T, s *seenSet, all ...uint64) {
	t.Helper()
	for _, h := range all {
		if err := s.add(h); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSeenSetInMemory(t *testing.T) {
	s := &seenSet{}
	if s.has(0) || s.has(7) {
		t.Error("an empty set has something")
	}
	for i := range uint64(100_000) {
		addAll(t, s, i*0x9e3779b97f4a7c15, i*0x9e3779b97f4a7c15)
	}
	for i := range uint64(100_000) {
		if !s.has(i * 0x9e3779b97f4a7c15) {
			t.Fatalf("%d is missing", i)
		}
	}
	if s.has(12345) || s.n != 99_999 || !s.inMemory() {
		t.Errorf("%d in the set", s.n)
	}
}

// TestSeenSetsOnDisk: whatever does not fit into the budget is found all the same, through any number of runs and levels.
func TestSeenSetsOnDisk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ budget, n int }{{0, 3}, {0, 100_000}, {16 << 10, 200_000}, {1 << 20, 300_000}} {
		dir := filepath.Join(t.TempDir(), "made", "if missing")
		st := newSeenStore(c.budget, dir)
		seen, have := st.newSet(), st.newSet()
		var want []uint64
		edges := []uint64{0, 1, math.MaxUint64 - 1, math.MaxUint64}
		addAll(t, have, edges...)
		addAll(t, seen, edges[1:3]...)
		want = append(want, 0, math.MaxUint64)
		for range c.n {
			h := rng.Uint64()
			if rng.IntN(10) > 0 {
				addAll(t, seen, h, h)
			}
			switch {
			case rng.IntN(3) == 0:
				addAll(t, seen, rng.Uint64()) // the source alone has it
			case rng.IntN(20) == 0:
				h = rng.Uint64()
				addAll(t, have, h, h)
				want = append(want, h)
			}
			if st.used > st.budget {
				t.Fatalf("tables of %d bytes, the budget is %d", st.used, st.budget)
			}
		}
		slices.Sort(want)
		for range 2 { // a sweep that is begun again
			var got []uint64
			if err := have.missing(seen, func(h uint64) error {
				got = append(got, h)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("budget %d, %d: %d are missing, want %d", c.budget, c.n, len(got), len(want))
			}
		}
		if c.n > 100 && seen.inMemory() || st.used != 0 {
			t.Errorf("budget %d, %d: %d runs, %d bytes of tables behind it", c.budget, c.n, len(seen.runs.runs), st.used)
		}
		if c.budget == 0 && c.n > 100 && !slices.ContainsFunc(seen.runs.runs, func(r seenRun) bool { return r.level > 1 }) {
			t.Errorf("runs %+v: want some of the third level", seen.runs.runs)
		}
		if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
			t.Errorf("files have names: %v", left)
		}
		st.close()
		if len(st.sets) > 0 || have.runs.file != nil {
			t.Error("sets are left open")
		}
	}
}

// TestManySeenSetsShareABudget: the largest goes to disk when another one grows.
func TestManySeenSetsShareABudget(t *testing.T) {
	st := newSeenStore(64<<10, t.TempDir())
	defer st.close()
	var sets []*seenSet
	for i := range 20 {
		s := st.newSet()
		sets = append(sets, s)
		for j := range uint64(1000 * (i%3 + 1)) {
			addAll(t, s, (j+1)*0x9e3779b97f4a7c15+uint64(i))
		}
		if st.used > st.budget {
			t.Fatalf("tables of %d bytes", st.used)
		}
	}
	for i, s := range sets {
		n := 0
		if err := s.missing(&seenSet{store: st}, func(uint64) error {
			n++
			return nil
		}); err != nil || n != 1000*(i%3+1) {
			t.Errorf("set %d has %d: %v", i, n, err)
		}
	}
}

// Fault (sink): the folder for fingerprints cannot be written. The error names it, and the partition tries again.
func TestFingerprintsWithoutAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSeenStore(0, file).newSet()
	var err error
	for h := uint64(1); err == nil && h < 1000; h++ {
		err = s.add(h)
	}
	e, ok := errors.AsType[*SpillError](err)
	if !ok || e.Dir != file || classOf(err) != Retry {
		t.Errorf("got %v", err)
	}
	in := newIntake(0, 1, limits{}, 0, newSeenStore(0, ""), startPlan{})
	if !errors.Is(in.fault(7, err), e) {
		t.Error("the record is blamed")
	}
}
