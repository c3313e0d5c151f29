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

// The master of a shard is killed, and then its successor; then the replica takes over in every way there is. The source
// goes on by partial resynchronisation. It takes a new generation only where it says that the new master lacks what is
// published, which a failover in good order never does.
//
// Fault (source): a master is killed, and then its successor; manual failovers, FORCE and TAKEOVER. The source goes on by
// partial resynchronisation at the new master.
func TestSourceGoesOnBehindAFailover(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := sourceCluster(w, 3, 1)
	c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source)
	for _, by := range []string{"kill", "kill", "failover", "failover force", "failover takeover"} {
		t.Run(by, func(t *testing.T) {
			full, diverged, renamed := c.says(saysFull), c.says(saysDiverged), c.says(saysRenamed)
			master, replica := masterOf(t, source)
			inStep(t, master, replica)
			for range 5 {
				takeOver(t, source, master, replica, by)
				c.arrives()
				if now, _ := masterOf(t, source); now == replica { // else it has given up again what it won
					break
				}
			}
			if by == "kill" {
				if err := master.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				c.arrives()
			}
			full, diverged, renamed = c.says(saysFull)-full, c.says(saysDiverged)-diverged, c.says(saysRenamed)-renamed
			t.Logf("%d new generations, %d of them because of what was lost, %d continued", full, diverged, renamed)
			if full != diverged || by == "failover" && full > 0 {
				t.Errorf("%d new generations, and %d times writes were lost that were published", full, diverged)
			}
			if full == 0 && renamed != 1 {
				t.Errorf("the history went on under another name %d times, want once", renamed)
			}
		})
	}
	c.settle()
}

// takeOver has the replica become the master.
func takeOver(t *testing.T, source *redistest.Cluster, master, replica *redistest.Node, by string) {
	t.Helper()
	ask := func() error { return master.Kill() }
	if by != "kill" {
		args := []any{"CLUSTER"}
		for word := range strings.FieldsSeq(by) {
			args = append(args, word)
		}
		ask = func() error { return replica.Client().Do(t.Context(), args...).Err() }
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	err := testkit.Poll(t.Context(), time.Minute, func() error {
		owner, err := source.Owner(t.Context(), 0)
		if err != nil || owner == replica {
			return err
		}
		// Redis may take the votes of the election before for its own, and then gives up at once what it won.
		if time.Since(asked) > 5*time.Second {
			asked = time.Now()
			_ = ask()
		}
		return fmt.Errorf("%s is", owner.Addr())
	})
	if err != nil {
		t.Fatalf("the replica is not the master: %v", err)
	}
}

// A master dies with writes that its replica does not have. Those that were read and not committed in Kafka are discarded,
// and the source goes on; those that are in Kafka are a divergence, which a new generation repairs.
//
// Fault (source): the new master lacks writes that were read and are not in Kafka. They are discarded; no snapshot is
// taken.
// Fault (source): the new master lacks writes that are in Kafka already. One new snapshot repairs the log and every target.
func TestSourceFailoverThatLosesWrites(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := sourceCluster(w, 3, 1)
	broker := newLeavingBroker(t)
	c := carryUnderLoad(t, w, broker.Addr(), source, ownUser(t, source)...)

	t.Run("not published", func(t *testing.T) {
		master, replica := masterOf(t, source)
		full := c.says(saysFull)
		broker.leave()
		cutReplicas(t, master, replica)
		writeLost(t, source, "unpublished")
		time.Sleep(time.Second) // nothing tells how far the source has read: what it acknowledges is in Kafka
		if err := master.Kill(); err != nil {
			t.Fatal(err)
		}
		c.hears(1, saysDiscarded)
		broker.comeBack(t)
		c.arrives()
		wantLost(t, c, "unpublished")
		if n := c.says(saysFull) - full; n != 0 {
			t.Errorf("%d new generations, though nothing was published that the shard has lost", n)
		}
		if err := master.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ownUser(t, source) // the node has forgotten it
		c.arrives()
	})
	t.Run("published", func(t *testing.T) {
		master, replica := masterOf(t, source)
		cutReplicas(t, master, replica)
		keys := writeLost(t, source, "published")
		w.Eventually(time.Minute, "published and applied", func() error {
			return c.target.Client().Get(t.Context(), keys[len(keys)-1]).Err()
		})
		if err := master.Kill(); err != nil {
			t.Fatal(err)
		}
		c.hears(1, saysDiverged)
		c.arrives()
		w.Eventually(time.Minute, "what is lost has gone from the target", func() error {
			if n := c.target.Client().Exists(t.Context(), keys[0]).Val(); n > 0 {
				return fmt.Errorf("%s is there", keys[0])
			}
			return nil
		})
		wantLost(t, c, "published")
		// That is repaired: a link that is lost later goes on where it was.
		full := c.says(saysFull)
		if err := replica.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err(); err != nil {
			t.Fatal(err)
		}
		c.arrives()
		if n := c.says(saysFull) - full; n != 0 {
			t.Errorf("%d new generations behind a link that was lost for a moment", n)
		}
	})
	c.settle()
}

// writeLost writes keys of the first shard.
func writeLost(t *testing.T, c *redistest.Cluster, name string) (keys []string) {
	t.Helper()
	for i := range 50 {
		k := fmt.Sprintf("%s:%d:{%s}", name, i, slot.Tag(slot.Slot(i)))
		if err := c.Client().Set(t.Context(), k, "lost", 0).Err(); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	return keys
}

func wantLost(t *testing.T, c *carried, name string) {
	t.Helper()
	for i := range 50 {
		k := fmt.Sprintf("%s:%d:{%s}", name, i, slot.Tag(slot.Slot(i)))
		if c.source.Client().Exists(t.Context(), k).Val() > 0 {
			t.Fatalf("the source has not lost %s: the test shows nothing", k)
		}
		if c.target.Client().Exists(t.Context(), k).Val() > 0 {
			t.Errorf("%s is at the target and not at the source", k)
		}
	}
}
