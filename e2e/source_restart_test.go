package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// A source is restarted with the data it had, with an older dump, and empty. It is followed where it goes on, repaired where
// it lost writes; and the copy is not emptied before somebody says so.
//
// Fault (source): a master restarts with the same data, or with an older dump. The source goes on, or takes a snapshot that
// repairs what the master lost.
// Fault (source): a master restarts empty. The copy is not emptied before a person says so.
func TestSourceRestartedWithTheSameAnOlderAndNoDump(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := sourceCluster(w, 1, 0)
	c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source)
	m := source.Masters()[0]
	dump := filepath.Join(dirOf(t, m), "dump.rdb")
	again := func(t *testing.T, change func()) {
		t.Helper()
		if err := m.Stop(); err != nil {
			t.Fatal(err)
		}
		change()
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("same", func(t *testing.T) {
		c.stop()
		full := c.says(saysFull)
		setConfig(t, m, "save", "3600 1") // saves when it ends
		again(t, func() {})
		c.arrives()
		if n := c.says(saysFull) - full; n != 0 {
			t.Errorf("%d new generations though nothing was lost", n)
		}
		c.load()
	})
	t.Run("older", func(t *testing.T) {
		save(t, m)
		old, err := os.ReadFile(dump)
		if err != nil {
			t.Fatal(err)
		}
		mustSet(t, source, "later")
		c.arrives()
		c.stop()
		full := c.says(saysFull)
		again(t, func() {
			if err := os.WriteFile(dump, old, 0o600); err != nil {
				t.Fatal(err)
			}
		})
		c.load()
		c.hears(1, saysDiverged)
		c.arrives()
		w.Eventually(time.Minute, "what the dump does not have goes", func() error {
			if c.target.Client().Exists(t.Context(), "later").Val() > 0 {
				return errors.New("it is there")
			}
			return nil
		})
		if n := c.says(saysFull) - full; n != 1 {
			t.Errorf("%d new generations, want 1", n)
		}
	})
	c.settle()
	t.Run("empty", func(t *testing.T) {
		before := keysOf(t, c.target)
		again(t, func() {
			if err := os.Remove(dump); err != nil {
				t.Fatal(err)
			}
		})
		if n := keysOf(t, source); n != 0 {
			t.Fatalf("the source has %d keys", n)
		}
		w.Eventually(time.Minute, "the sink asks", func() error {
			if c.to.Running() {
				return fmt.Errorf("it runs, %d of %d keys are left of the copy", keysOf(t, c.target), before)
			}
			return nil
		})
		wantExit(t, c.to, exitData, "emptied by accident", "sweep.max")
		if n := keysOf(t, c.target); n < before {
			t.Errorf("%d of %d keys are left of the copy", n, before)
		}
		// Somebody says so.
		c.to = c.run(c.sinkConfig(c.prefix, c.target, "sweep.max", "1"))
		c.load()
		c.arrives()
		c.settle()
	})
}

func dirOf(t *testing.T, n *redistest.Node) string {
	t.Helper()
	got, err := n.Client().ConfigGet(t.Context(), "dir").Result()
	if err != nil {
		t.Fatal(err)
	}
	return got["dir"]
}

func save(t *testing.T, n *redistest.Node) {
	t.Helper()
	if err := n.Client().Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}
