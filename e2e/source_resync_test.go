package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// smallBacklog is the least that Redis keeps.
func smallBacklog(w *testkit.World, masters int, args ...string) *redistest.Cluster {
	return w.ClusterWith(redistest.Config{Masters: masters, Args: append([]string{"--repl-backlog-size", "16kb"}, args...)})
}

// The link is lost, and meanwhile the source writes more than its backlog holds, and deletes. A new generation follows by
// itself; what was deleted goes from the targets as their policies say, and no key that stays is ever missing there.
//
// Fault (source): the link is away for longer than the backlog reaches. A new snapshot follows by itself; what was deleted
// meanwhile goes, and no key that stays is missing for a moment.
func TestSourceBacklogLostIsSweptWithoutAHole(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := smallBacklog(w, 1)
	const staying, deleted = 300, 40
	for i := range staying {
		mustSet(t, source, fmt.Sprint("staying:", i))
	}
	for i := range deleted {
		mustSet(t, source, fmt.Sprint("deleted:", i))
	}
	c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source)
	policies := map[string][]string{
		"report": {"sweep.policy", "report"},
		"keep":   {"sweep.policy", "keep"},
		// 40 keys of more than 600 lie below what a breaker minds.
		"strict": {"sweep.max", "0.01"},
	}
	targets, sinks := map[string]*redistest.Cluster{}, map[string]*testkit.Redriver{}
	for name, extra := range policies {
		targets[name] = w.Cluster(1, 0)
		sinks[name] = c.run(c.sinkConfig(c.prefix+"-"+name, targets[name], extra...))
	}
	for _, to := range targets {
		c.mark(to.Client(), time.Minute)
	}
	missing := watchKeys(t, c.target, staying)
	full := c.says(saysFull)
	loseBacklog(t, c, func() {
		for i := range deleted {
			if err := source.Client().Del(t.Context(), fmt.Sprint("deleted:", i)).Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
	c.arrives()
	for _, to := range targets {
		c.mark(to.Client(), time.Minute)
	}
	if n := c.says(saysFull) - full; n != 1 {
		t.Errorf("%d new generations, want 1", n)
	}
	for name, want := range map[string]int{"report": deleted, "keep": deleted, "strict": 0} {
		n := 0
		for i := range deleted {
			n += int(targets[name].Client().Exists(t.Context(), fmt.Sprint("deleted:", i)).Val())
		}
		if n != want {
			t.Errorf("policy %s: %d of %d deleted keys are there, want %d", name, n, deleted, want)
		}
	}
	if got := logged(sinks["report"], "the target has keys that the source does not have"); got == 0 {
		t.Error("report: nothing is reported")
	}
	c.settle()
	if err := missing(); err != nil {
		t.Error(err)
	}
}

func mustSet(t *testing.T, c *redistest.Cluster, key string) {
	t.Helper()
	if err := c.Client().Set(t.Context(), key, key, 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// loseBacklog cuts the links of a source that is paused, and has every master write more than its backlog meanwhile.
func loseBacklog(t *testing.T, c *carried, meanwhile func()) {
	t.Helper()
	pause(t, c.from)
	for _, m := range c.source.Masters() {
		if err := m.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err(); err != nil {
			t.Fatal(err)
		}
	}
	meanwhile()
	flood(t, c.source)
	resume(t, c.from)
}

// flood writes a megabyte to each master: Redis keeps the backlog in blocks, more of it than it was told to.
func flood(t *testing.T, c *redistest.Cluster) {
	t.Helper()
	for i := range 8 * len(c.Masters()) {
		if err := c.Client().Set(t.Context(), fmt.Sprintf("flood:%d", i), string(make([]byte, 256<<10)), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// watchKeys asks a target for the keys that stay, again and again; stop tells which one was missing.
func watchKeys(t *testing.T, c *redistest.Cluster, n int) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	client := c.Masters()[0].NewClient()
	var missing error
	var rounds int
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; ctx.Err() == nil; rounds++ {
			cmds := make([]*redis.StringCmd, n)
			_, _ = client.Pipelined(context.WithoutCancel(ctx), func(p redis.Pipeliner) error {
				for i := range n {
					cmds[i] = p.Get(ctx, fmt.Sprint("staying:", i))
				}
				return nil
			})
			for i := range n {
				if errors.Is(cmds[i].Err(), redis.Nil) && missing == nil {
					missing = fmt.Errorf("staying:%d was missing at the target", i)
				}
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	return func() error {
		cancel()
		wg.Wait()
		t.Logf("looked at %d keys %d times", n, rounds)
		return errors.Join(missing, client.Close())
	}
}

// A master that ends every link before its snapshot has passed is not asked without end: the source says why it waits, and
// goes on by itself when the trouble is over.
//
// Fault (source): a master ends every link before its snapshot has passed. The source stops asking without end, says why,
// and goes on when it is over.
func TestSourceThatResynchronisesInVainWaitsAndSaysWhy(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	// A snapshot takes its time: ten milliseconds for each key.
	source := smallBacklog(w, 1, "--rdb-key-save-delay", "10000", "--repl-diskless-sync-delay", "0")
	if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 1500, Seed: 5}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = source.Masters()[0].Client().Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err()
			time.Sleep(100 * time.Millisecond)
		}
	})
	c := &carried{pipeline: newPipeline(t, w, w.FakeKafka().Addr(), source), target: w.Cluster(1, 0)}
	c.from = c.run(c.sourceConfig("resync.max", "3", "resync.pause", "5s"))
	c.to = c.run(c.sinkConfig(c.prefix, c.target))
	c.hears(1, "3 full resynchronisations in a row led to nothing")
	if n := c.says(saysFull); n != 3 {
		t.Errorf("%d full resynchronisations before the source waits, want 3", n)
	}
	if c.says("client-output-buffer-limit") == 0 {
		t.Error("the source does not say what to look at")
	}
	c.hears(2, "full resynchronisations in a row led to nothing")
	stop()
	wg.Wait()
	setConfig(t, source.Masters()[0], "rdb-key-save-delay", "0")
	c.load()
	c.mark(c.target.Client(), time.Minute)
	c.settle()
}

// A command that is larger than the master's limit for replicas, and within its backlog, ends every link at the same place
// (before Redis 7). A snapshot gets past it.
//
// Fault (source): a command larger than the master's limit for replicas ends every link at the same place. A snapshot gets
// past it.
func TestSourceGetsPastACommandThatEndsEveryLink(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := w.ClusterWith(redistest.Config{Version: "redis-6.2", Masters: 1, Args: []string{
		"--repl-backlog-size", "64mb", "--client-output-buffer-limit", "replica", "1mb", "0", "0", "--repl-diskless-sync-delay", "0",
	}})
	c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source)
	full := c.says(saysFull)
	if err := source.Client().Set(t.Context(), "large", string(make([]byte, 8<<20)), 0).Err(); err != nil {
		t.Fatal(err)
	}
	c.hears(1, "the master closes the link each time before it has sent anything")
	c.settle()
	if n := c.says(saysFull) - full; n != 1 {
		t.Errorf("%d new generations, want 1", n)
	}
}
