package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// One shard is stopped, down, or resynchronises without coming to an end: what is written to the others arrives meanwhile,
// also behind a restart of the source.
//
// Fault (source): one master is stopped, down, or resynchronises without end. The writes of the others arrive meanwhile.
func TestSourceShardInTroubleLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := w.ClusterWith(redistest.Config{Masters: 3, Args: []string{
		"--repl-backlog-size", backlog, "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0",
	}})
	c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source, "redis.address", strings.Join(source.Addrs(), ","))
	sick := source.Masters()[0]
	others := func(t *testing.T) {
		t.Helper()
		for i, m := range source.Masters()[1:] {
			c.passes(t, m, (i+1)*slot.Count/3+1)
		}
	}
	t.Run("paused", func(t *testing.T) {
		c.stop() // its writers would wait for the shard
		if err := sick.Pause(); err != nil {
			t.Fatal(err)
		}
		others(t)
		if err := sick.Continue(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("resynchronising", func(t *testing.T) {
		// Four seconds for each key of the snapshot: it takes longer than the test looks.
		setConfig(t, sick, "rdb-key-save-delay", "4000000")
		c.from.Kill()
		for range 2 { // the position is given up with the backlog
			if err := sick.Client().Do(t.Context(), "DEBUG", "CHANGE-REPL-ID").Err(); err != nil {
				t.Fatal(err)
			}
		}
		c.from = c.run(c.fromConfig)
		c.hears(1, saysFull)
		others(t)
		if n := c.says("snapshot published"); n > 0 {
			t.Errorf("the snapshot has come to an end: the test shows nothing")
		}
		setConfig(t, sick, "rdb-key-save-delay", "0")
		c.from.Kill() // which ends that snapshot too
		c.from = c.run(c.fromConfig)
	})
	t.Run("down", func(t *testing.T) {
		if err := sick.Client().Do(t.Context(), "CONFIG", "SET", "save", "3600 1").Err(); err != nil {
			t.Fatal(err)
		}
		if err := sick.Stop(); err != nil {
			t.Fatal(err)
		}
		others(t)
		c.from.Stop()
		c.from = c.run(c.fromConfig)
		others(t)
		if c.says("a shard's master does not answer") == 0 {
			t.Error("the source does not say that a shard is missing")
		}
		if err := sick.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	c.arrives()
	c.load()
	c.arrives()
	c.settle()
}

func setConfig(t *testing.T, n *redistest.Node, name, value string) {
	t.Helper()
	if err := n.Client().ConfigSet(t.Context(), name, value).Err(); err != nil {
		t.Fatal(err)
	}
}

// passes writes to one master and waits for it at the target.
func (c *carried) passes(t *testing.T, m *redistest.Node, n int) {
	t.Helper()
	key, value := "passes:{"+slot.Tag(slot.Slot(n))+"}", c.w.Name("v")
	if err := m.Client().Set(t.Context(), key, value, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Poll(t.Context(), time.Minute, func() error {
		if got := c.target.Client().Get(t.Context(), key).Val(); got != value {
			return fmt.Errorf("%s is %q, not %q", key, got, value)
		}
		return nil
	}); err != nil {
		t.Fatalf("what was written at %s does not arrive: %v", m.Addr(), err)
	}
}
