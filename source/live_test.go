package source_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/source"
)

func brokers(t *testing.T, w *testkit.World) map[string]kafka.Config {
	t.Helper()
	return map[string]kafka.Config{
		"embedded": {Brokers: []string{w.FakeKafka().Addr()}},
		"kafka":    {Brokers: []string{w.Kafka().Addr()}},
	}
}

// running is a source in this process.
type running struct {
	s      *source.Source
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, cfg source.Config) *running {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	s, err := source.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{s: s, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil {
			t.Fatalf("stop source: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the source does not stop")
	}
}

// caughtUp reports whether every shard is committed up to its master's offset.
func (r *running) caughtUp(ctx context.Context, c *redistest.Cluster) error {
	for _, s := range r.s.Status() {
		if s.Stage != source.StageStreaming {
			return fmt.Errorf("shard %d is %s (%s)", s.Shard, s.Stage, s.LastError)
		}
		n := c.Node(s.Master)
		if n == nil {
			return fmt.Errorf("shard %d follows %q", s.Shard, s.Master)
		}
		info, err := n.Client().InfoMap(ctx, "replication").Result()
		if err != nil {
			return err
		}
		at := info["Replication"]["master_repl_offset"]
		// Keep-alives of the master move its offset on without a commit of ours for a while.
		var master int64
		if _, err := fmt.Sscan(at, &master); err != nil {
			return err
		}
		if behind := master - int64(s.Committed.Offset); behind > 200 {
			return fmt.Errorf("shard %d is %d bytes behind", s.Shard, behind)
		}
	}
	if len(r.s.Status()) == 0 {
		return errors.New("no shard yet")
	}
	return nil
}

// streams reports whether every shard is past its snapshot.
func (r *running) streams() error {
	for _, s := range r.s.Status() {
		if s.Stage != source.StageStreaming || s.Units == 0 {
			return fmt.Errorf("shard %d is %s with %d units (%s)", s.Shard, s.Stage, s.Units, s.LastError)
		}
	}
	return nil
}

func TestSourcePublishesSnapshotAndStreamWithoutHoles(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	cluster := w.ClusterWith(redistest.Config{Masters: 3, Args: []string{"--repl-backlog-size", "64mb"}})
	if err := load.Fill(t.Context(), cluster.Client(), load.FillConfig{Keys: 20_000, Seed: 1, TTLShare: 0.2}); err != nil {
		t.Fatal(err)
	}
	for name, kc := range brokers(t, w) {
		t.Run(name, func(t *testing.T) {
			cfg := source.Config{
				Connector: w.Name("src"), Prefix: w.Name("s"), Kafka: kc, DataDir: t.TempDir(), Partitions: 16,
				Dialer: &topology.Dialer{}, Seeds: cluster.Addrs()[:1],
			}
			ctx, stopWriters := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for i := range 3 {
				wr, err := load.NewWriter(cluster.Client(), load.WriterConfig{Seed: uint64(i + 1), Prefix: fmt.Sprintf("w%d", i), Shared: "shared", Rate: 3000})
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { _ = wr.Run(ctx) })
			}
			r := start(t, cfg)
			w.Eventually(time.Minute, "all shards stream", func() error {
				if n := len(r.s.Status()); n < 3 {
					return fmt.Errorf("%d shards", n)
				}
				return r.streams()
			})
			time.Sleep(time.Second)
			for range 3 {
				r.stop(t)
				r = start(t, cfg)
				time.Sleep(1500 * time.Millisecond)
			}
			stopWriters()
			wg.Wait()
			w.Eventually(30*time.Second, "caught up", func() error { return r.caughtUp(t.Context(), cluster) })
			r.stop(t)

			inFirst := 0 // records of the first partition
			c := chain.Checker{Mutate: func(r *kgo.Record) int {
				if r.Partition == 0 {
					inFirst++
				}
				return 1
			}}
			if err := c.All(t.Context(), kc, cfg.Prefix+".changes"); err != nil {
				t.Fatal(err)
			}
			t.Logf("%v, generations %v", c.Counts, c.Generations)
			if c.Counts[event.Entry] < 20_000 || c.Counts[event.Unit] < 1000 {
				t.Errorf("too little was published: %v", c.Counts)
			}
			for s, g := range c.Generations {
				if g != 1 {
					t.Errorf("shard %d took %d snapshots, though it was stopped and started within its backlog", s, g)
				}
			}
			for what, times := range map[string]int{"dropped": 0, "repeated": 2} {
				n := 0
				mutant := chain.Checker{Mutate: func(r *kgo.Record) int {
					if r.Partition != 0 {
						return 1
					}
					if n++; n == inFirst/2 { // nobody would miss the last one
						return times
					}
					return 1
				}}
				if err := mutant.All(t.Context(), kc, cfg.Prefix+".changes"); err == nil {
					t.Errorf("the check does not see a record that is %s", what)
				}
			}
		})
	}
}
