package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGhosts: a second generation takes away what the source lost while no one watched, and nothing else.
func TestGhosts(t *testing.T) {
	t.Parallel()
	for name, memory := range map[string]int{"with fingerprints in memory": 0, "with fingerprints on disk": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ghosts(t, newRig(t, 3, 0), memory)
		})
	}
}

func ghosts(t *testing.T, r *rig, sweepMemory int) {
	config := func() Config {
		cfg := r.config()
		cfg.SweepMemoryBytes, cfg.DataDir = sweepMemory, t.TempDir()
		return cfg
	}
	l := r.lane()
	for i := range 2000 {
		l.source.Set(t.Context(), fmt.Sprintf("k%d", i), i, 0)
	}
	l.snapshot()
	s := r.start(config())
	l.commit(func() { l.do([]string{"INCR", "n"}) })
	r.same(s)
	for i := range 100 {
		l.source.Del(t.Context(), fmt.Sprintf("k%d", i))
	}
	l.source.Set(t.Context(), "new", 1, 0)
	// A crash in the middle of the second snapshot must not make the sink forget what it has seen.
	l.commit(func() {
		l.begin()
		l.entries()
	})
	time.Sleep(300 * time.Millisecond)
	s.crash()
	s = r.start(config())
	l.commit(func() {
		l.end()
		l.boundary()
	})
	l.commit(func() {
		l.do([]string{"SET", "k5", "again"})
		l.do([]string{"INCR", "n"})
	})
	r.same(s)
	if n := s.Status().Swept; n != 100 {
		t.Errorf("%d keys were swept", n)
	}

	// A source that comes back empty stops at the breaker.
	l.source.FlushAll(t.Context())
	l.snapshot()
	err := s.await()
	if breaker := (*SweepError)(nil); !errors.As(err, &breaker) || breaker.Ghosts < 100 {
		t.Fatalf("got %v", err)
	}
	cfg := config()
	cfg.Sweep = SweepReport
	s = r.start(cfg)
	r.waitApplied(s)
	if s.Status().Swept != 0 {
		t.Error("something was swept under the policy report")
	}
	s.stop()
	// The next generation, now with leave.
	cfg.Sweep, cfg.SweepMax = SweepDelete, 1
	l.source.Set(t.Context(), "last", 1, 0)
	l.snapshot()
	s = r.start(cfg)
	r.same(s)
	s.stop()
}

// Slots with very many keys are swept without a list of all of them.
func TestSlotWithVeryManyKeysIsSwept(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	l := r.lane()
	for i := range 500 {
		l.source.Set(t.Context(), fmt.Sprintf("{a}%d", i*7), i, 0)
		l.source.Set(t.Context(), fmt.Sprintf("k%d", i), i, 0)
	}
	const ghosts = hugeSlotKeys + 1000
	p := r.target.Client().Pipeline()
	for i := range ghosts {
		p.Set(t.Context(), fmt.Sprintf("{a}%d", i), "old", 0)
	}
	p.Set(t.Context(), "old", "old", 0)
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.snapshot()
	cfg := r.config()
	cfg.ExistingKeys = ExistingReplace
	s := r.start(cfg)
	r.waitApplied(s) // to compare keys while they are swept takes longer than the sweep
	r.same(s)
	if n := s.Status().Swept; n != ghosts-500+1 {
		t.Errorf("%d keys were swept", n)
	}
	s.stop()
}

// A sink that finds no folder for fingerprints says so, and goes on once there is one.
//
// Fault (sink): the folder for fingerprints cannot be written, and the system's own neither. The error names it; the partition
// tries again every ten seconds.
func TestFolderForFingerprintsComesLater(t *testing.T) {
	r := newRig(t, 3, 0)
	l := r.lane()
	for i := range 2000 {
		l.source.Set(t.Context(), fmt.Sprintf("k%d", i), i, 0)
	}
	l.snapshot()
	cfg := r.config()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.SweepMemoryBytes, cfg.DataDir = 1, file
	t.Setenv("TMPDIR", file)
	s := r.start(cfg)
	r.w.Eventually(time.Minute, "an error that names the folder", func() error {
		for _, p := range s.Status().Partitions {
			if strings.Contains(p.LastError, "fingerprints") && strings.Contains(p.LastError, file) {
				return nil
			}
		}
		return fmt.Errorf("%+v", s.Status().Partitions)
	})
	if err := os.Remove(file); err != nil { // it can be made now
		t.Fatal(err)
	}
	r.same(s)
	s.stop()
}

// While fingerprints are merged the target's nodes hear of us, and nobody goes on who may not.
func TestNodesHearOfUsWhileFingerprintsAreMerged(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	s, err := New(r.config(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addr := r.target.Masters()[0].Addr()
	c, err := s.dialConn(t.Context(), addr, "redriver.t.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	soft, stop := context.WithCancel(t.Context())
	w := &worker{conns: map[string]*conn{addr: c}, soft: soft, hard: t.Context()}
	pings := func() int {
		text, err := r.target.Masters()[0].Client().Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if _, rest, ok := strings.Cut(text, "cmdstat_ping:calls="); ok {
			fmt.Sscan(rest[:strings.IndexByte(rest, ',')], &n)
		}
		return n
	}
	before := pings()
	for range 3 { // the first one alone has something to do
		c.used = c.used.Add(-idleLook / 2)
		if err := w.keepAlive(); err != nil {
			t.Fatal(err)
		}
	}
	if n := pings() - before; n != 1 {
		t.Errorf("%d PINGs, want 1", n)
	}
	stop()
	if err := w.keepAlive(); !errors.Is(err, errStopped) {
		t.Errorf("a partition that was taken away goes on: %v", err)
	}
}
