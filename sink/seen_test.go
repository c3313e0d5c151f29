package sink

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/redriver/redriver/event"
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
	for _, c := range []struct{ budget, n int }{{0, 3}, {0, 30_000}, {16 << 10, 200_000}, {1 << 20, 300_000}} {
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
			if err := have.missing(seen, nil, func(h uint64) error {
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
			t.Errorf("budget %d, %d: %d bytes of tables behind it", c.budget, c.n, st.used)
		}
		if c.budget == 0 && c.n > 100 && (len(seen.runs.main.runs) != 1 || len(seen.runs.fresh.runs) >= mergeRuns) {
			t.Errorf("%d and %d runs: want one that many were merged into", len(seen.runs.main.runs), len(seen.runs.fresh.runs))
		}
		if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
			t.Errorf("files have names: %v", left)
		}
		st.close()
		if len(st.sets) > 0 || have.runs.main.file != nil || have.runs.fresh.file != nil {
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
		if err := s.missing(&seenSet{store: st}, nil, func(uint64) error {
			n++
			return nil
		}); err != nil || n != 1000*(i%3+1) {
			t.Errorf("set %d has %d: %v", i, n, err)
		}
	}
}

// Where the folder cannot be written the system's own is used; where neither can, the error names it and nothing is lost.
func TestFingerprintsWithoutAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSeenStore(0, file).newSet()
	for h := range uint64(1000) {
		addAll(t, s, h)
	}
	if s.inMemory() {
		t.Error("nothing went into the folder for temporary files")
	}
	s.close()

	t.Setenv("TMPDIR", file)
	s = newSeenStore(0, file).newSet()
	var err error
	for h := uint64(1); err == nil && h < 1000; h++ {
		err = s.add(h)
	}
	for h := uint64(1); h <= uint64(s.n); h++ {
		if !s.has(h) {
			t.Errorf("%d is lost with the write that failed", h)
		}
	}
	e, ok := errors.AsType[*SpillError](err)
	if !ok || e.Dir != file || classOf(err) != Resync {
		t.Errorf("got %v", err)
	}
	in := newIntake(0, 1, limits{}, 0, newSeenStore(0, ""), startPlan{})
	if !errors.Is(in.fault(7, err), e) {
		t.Error("the record is blamed")
	}
}

// Fault (sink): fingerprints on disk are not what was written. No sweep believes them: the partition reads the snapshot again.
func TestDamagedFingerprintsAreNotBelieved(t *testing.T) {
	for name, damage := range map[string]func(b []byte){
		"zeros":         func(b []byte) { clear(b[24:32]) },
		"order":         func(b []byte) { copy(b[16:24], b[40:48]) },
		"one bit":       func(b []byte) { b[24] ^= 1 },
		"the last one":  func(b []byte) { b[len(b)-1] ^= 1 },
		"another's all": func(b []byte) { copy(b, bytes.Repeat(b[8:16], len(b)/8)) },
	} {
		st := newSeenStore(0, t.TempDir())
		seen, have := st.newSet(), st.newSet()
		for h := range uint64(100) {
			addAll(t, seen, h<<8)
			addAll(t, have, h<<8)
		}
		if _, err := seen.seal(); err != nil {
			t.Fatal(err)
		}
		run := seen.runs.fresh.runs[0]
		b := make([]byte, run.n*fingerprintBytes)
		if _, err := seen.runs.fresh.file.ReadAt(b, run.at); err != nil {
			t.Fatal(err)
		}
		damage(b)
		if _, err := seen.runs.fresh.file.WriteAt(b, run.at); err != nil {
			t.Fatal(err)
		}
		err := have.missing(seen, nil, func(uint64) error { return nil })
		if !errors.Is(err, errRunDamaged) || classOf(err) != Resync {
			t.Errorf("%s: %v", name, err)
		}
		st.close()
	}
}

// What is given up gives back its part of the budget, and its file.
func TestFingerprintsOfAShardThatIsGone(t *testing.T) {
	in := newIntake(0, 1, limits{}, 0, newSeenStore(0, t.TempDir()), startPlan{})
	for shard := range event.Shard(3) {
		g := &generation{span: in.open(0), seen: in.seen.newSet()}
		in.gens[shard] = g
		for h := range uint64(100) {
			addAll(t, g.seen, h)
		}
	}
	in.abandon(1, 5)
	if len(in.seen.sets) != 2 {
		t.Errorf("%d sets, want 2", len(in.seen.sets))
	}
	in.close()
	if len(in.seen.sets) != 0 || in.seen.used != 0 {
		t.Errorf("%d sets with %d bytes are left", len(in.seen.sets), in.seen.used)
	}
}

// Merging ends when the partition is taken away.
func TestMergeOfFingerprintsEnds(t *testing.T) {
	st := newSeenStore(64<<10, t.TempDir())
	defer st.close()
	s := st.newSet()
	for h := range uint64(3 * pulseEvery) {
		addAll(t, s, h*0x9e3779b97f4a7c15)
	}
	beats := 0
	err := s.missing(st.newSet(), func() error {
		if beats++; beats == 2 {
			return errStopped
		}
		return nil
	}, func(uint64) error { return nil })
	if !errors.Is(err, errStopped) || beats != 2 {
		t.Errorf("%d beats: %v", beats, err)
	}
}
