package sink

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit/redistest"
)

// TestTargetThatEvicts (traps 43, 66): a target that removes keys when it is full gets nothing, also when it is told to do so
// later; where that is accepted, what it evicts is told.
//
// Fault (sink): a node of the target evicts keys, or is set up to. The sink refuses it, or says what is evicted.
func TestTargetThatEvicts(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, err error, node *redistest.Node, words ...string) {
		t.Helper()
		e := (*EvictionError)(nil)
		if !errors.As(err, &e) || e.Node != node.Addr() {
			t.Fatalf("got %v", err)
		}
		for _, w := range append(words, "target.eviction: accept") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q is not in %v", w, err)
			}
		}
	}

	t.Run("from the begin", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 3, 0)
		l := r.lane()
		l.source.Set(t.Context(), "k", 1, 0)
		l.snapshot()
		m := r.target.Masters()[1]
		r.set(m, "maxmemory", "100mb")
		for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
			r.set(m, "maxmemory-policy", policy)
			refused(t, r.start(r.config()).await(), m, policy, "104857600 bytes")
			if n := m.Client().DBSize(t.Context()).Val(); n != 0 {
				t.Errorf("%d keys were written", n)
			}
		}
		r.set(m, "maxmemory-policy", "noeviction")
		s := r.start(r.config())
		r.same(s)
		r.set(m, "maxmemory-policy", "allkeys-random")
		refused(t, s.await(), m, "allkeys-random")
		r.set(m, "maxmemory", "0") // no policy does anything then
		s = r.start(r.config())
		r.same(s)
		s.stop()
	})

	t.Run("never in import mode", func(t *testing.T) {
		t.Parallel()
		r := newRigWith(t, redistest.Config{Masters: 1, Version: "valkey-8.1"})
		l := r.lane()
		l.source.Set(t.Context(), "k", 1, 0)
		l.snapshot()
		m := r.target.Masters()[0]
		r.set(m, "maxmemory-policy", "allkeys-random")
		r.set(m, "maxmemory", "100mb")
		cfg := r.config()
		cfg.ExpiryMode = ExpiryImport
		s := r.start(cfg)
		r.same(s)
		s.stop()
		m.Client().Do(t.Context(), "DEBUG", "POPULATE", "100000", "theirs", "100")
		r.set(m, "maxmemory", "10mb")
		if err := m.Client().Set(t.Context(), "x", 1, 0).Err(); err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("a full node in import mode answers %v", err)
		}
	})

	t.Run("accepted", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 1, 0)
		l := r.lane()
		l.snapshot()
		m := r.target.Masters()[0]
		r.set(m, "maxmemory-policy", "allkeys-random")
		r.set(m, "maxmemory", "100mb")
		cfg := r.config()
		cfg.Eviction, cfg.ExistingKeys = EvictionAccept, ExistingKeep
		var told atomic.Int64
		s := r.run(r.prepareLogged(cfg, func(message string) {
			if strings.Contains(message, "evicts keys") {
				told.Add(1)
			}
		}))
		r.waitApplied(s)
		if n := told.Load(); n != 0 {
			t.Errorf("told %d times before anything was evicted", n)
		}
		m.Client().Do(t.Context(), "DEBUG", "POPULATE", "100000", "theirs", "100")
		r.set(m, "maxmemory", "10mb")
		r.w.Eventually(30*time.Second, "it is told", func() error {
			if told.Load() == 0 {
				return fmt.Errorf("evicted: %s", m.Client().Info(t.Context(), "stats").Val())
			}
			return nil
		})
	})
}
