package e2e_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// What the source says of what happens to it; tests look for these.
const (
	saysFull      = `"full resynchronisation"`
	saysRenamed   = "the shard goes on under another replication ID"
	saysDiverged  = "the new master lacks writes that are published"
	saysDiscarded = "the new master lacks writes that were read and are not published"
)

// carried is a source that is carried to a target, under a light load of numbered writes throughout.
type carried struct {
	*pipeline
	target   *redistest.Cluster
	from, to *testkit.Redriver
	history  *load.History
	stop     func()
	// of the source's configuration, to start it again
	fromConfig string
}

const lightLoad = 60

// carryUnderLoad starts both sides and the load, and waits until the target follows. extra is of the source.
func carryUnderLoad(t *testing.T, w *testkit.World, broker string, source *redistest.Cluster, extra ...string) *carried {
	t.Helper()
	c := &carried{pipeline: newPipeline(t, w, broker, source), target: w.Cluster(1, 0)}
	if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 300, Seed: 5, TTLShare: 0.1}); err != nil {
		t.Fatal(err)
	}
	c.fromConfig = c.sourceConfig(extra...)
	c.from, c.to = c.run(c.fromConfig), c.run(c.sinkConfig(c.prefix, c.target))
	c.mark(c.target.Client(), time.Minute)
	c.load()
	return c
}

// load begins to write, under a prefix of its own each time.
func (c *carried) load() {
	c.t.Helper()
	h, err := load.NewHistory(c.source.Client(), load.HistoryConfig{Prefix: c.w.Name("h") + ":", Keys: 24, Workers: 3, Rate: lightLoad})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	c.history = h
	c.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	c.t.Cleanup(c.stop)
	c.w.Eventually(time.Minute, "the load writes", func() error {
		if n := h.Stats().Acked; n < 20 {
			return fmt.Errorf("%d numbers written", n)
		}
		return nil
	})
}

// arrives waits until what is written now is at the target.
func (c *carried) arrives() {
	c.t.Helper()
	if err := c.source.WaitReady(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	if err := c.takesWrites(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.mark(c.target.Client(), time.Minute)
}

// takesWrites waits until every shard of the source takes writes of the client that tests share.
func (p *pipeline) takesWrites(ctx context.Context) error {
	return testkit.Poll(ctx, 30*time.Second, func() error {
		p.source.Client().ReloadState(ctx) // by itself it looks once a minute
		for i := range p.source.Masters() {
			first := slot.Slot(i * slot.Count / len(p.source.Masters()))
			if err := p.source.Client().Set(ctx, "probe:{"+slot.Tag(first+1)+"}", "", 0).Err(); err != nil {
				return fmt.Errorf("shard %d takes no writes: %w", i, err)
			}
		}
		return nil
	})
}

// settle ends the load and holds the target to all promises.
func (c *carried) settle() {
	c.t.Helper()
	c.stop()
	c.arrives()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if err := c.history.WaitCaughtUp(ctx, c.source.Client(), c.target.Client()); err != nil {
		c.t.Error(err)
	}
	violations, err := c.history.Check(c.t.Context(), c.source.Client(), c.target.Client())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, v := range violations {
		c.t.Error(v)
	}
	identical(c.t, c.source, c.target)
	chain := c.chainHolds()
	c.t.Logf("%+v, %d events of the log are not whole", c.history.Stats(), chain.Abandoned)
}

// says counts what the source has said since it was started.
func (c *carried) says(what string) int { return logged(c.from, what) }

// matches counts the lines of the source's log that match a regular expression.
func (c *carried) matches(what string) int {
	return len(regexp.MustCompile(what).FindAllString(c.from.Log(), -1))
}

// hears waits until the source has said it n times.
func (c *carried) hears(n int, what string) {
	c.t.Helper()
	c.w.Eventually(time.Minute, "the source says: "+what, func() error {
		if got := c.says(what); got < n {
			return fmt.Errorf("%d times, want %d", got, n)
		}
		return nil
	})
}

// firstShard is the nodes that have ever been its master.
func firstShard(c *redistest.Cluster) []*redistest.Node {
	return append([]*redistest.Node{c.Masters()[0]}, c.ReplicasOf(0)...)
}

// masterOf returns the master of the first shard, and its replica.
func masterOf(t *testing.T, c *redistest.Cluster) (master, replica *redistest.Node) {
	t.Helper()
	owner, err := c.Owner(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range firstShard(c) {
		if n != owner {
			replica = n
		}
	}
	return owner, replica
}

// ownUser gives the source a user of its own at every node, so that a replica of Redis can be told from it.
func ownUser(t *testing.T, c *redistest.Cluster) (extra []string) {
	t.Helper()
	for _, n := range c.Nodes() {
		if err := n.Client().Do(t.Context(), "ACL", "SETUSER", "redriver", "on", ">secret", "~*", "&*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"redis.username", "redriver", "redis.password", "secret"}
}

// cutReplicas has the node lose its replicas, but for the source, for good.
func cutReplicas(t *testing.T, master, replica *redistest.Node) {
	t.Helper()
	ctx := t.Context()
	for _, cmd := range [][]any{
		{"ACL", "SETUSER", "default", "-psync", "-sync"},
		{"CLIENT", "KILL", "USER", "default", "TYPE", "replica"},
	} {
		if err := master.Client().Do(ctx, cmd...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := testkit.Poll(ctx, 30*time.Second, func() error {
		if status := replication(ctx, replica.Client())["master_link_status"]; status != "down" {
			return fmt.Errorf("link of the replica is %q", status)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// inStep waits until the replica has what the master has written so far.
func inStep(t *testing.T, master, replica *redistest.Node) {
	t.Helper()
	at := func(n *redistest.Node, what string) int {
		v, _ := strconv.Atoi(replication(t.Context(), n.Client())[what])
		return v
	}
	want := at(master, "master_repl_offset")
	if err := testkit.Poll(t.Context(), 30*time.Second, func() error {
		if got := at(replica, "slave_repl_offset"); got < want || want == 0 {
			return fmt.Errorf("the replica is at %d, the master was at %d", got, want)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// replication is that section of INFO.
func replication(ctx context.Context, c *redis.Client) map[string]string {
	all, _ := c.InfoMap(ctx, "replication").Result() // no answer: an empty map
	return all["Replication"]
}

func logged(r *testkit.Redriver, what string) int { return strings.Count(r.Log(), what) }

// pause freezes a process of ours, resume has it go on.
func pause(t *testing.T, r *testkit.Redriver) {
	t.Helper()
	if err := r.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

func resume(t *testing.T, r *testkit.Redriver) {
	t.Helper()
	if err := r.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func mustMkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}
