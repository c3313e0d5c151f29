package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/verify"
)

const (
	partitions = 24
	// backlog of the sources: a process that is killed and started again resumes within it.
	backlog = "256mb"
	// hold is the default of expiry.hold.
	hold = 87600 * time.Hour
)

// pipeline is one topic and what is around it.
type pipeline struct {
	t      *testing.T
	w      *testkit.World
	broker string
	prefix string
	source *redistest.Cluster
	dir    string
}

func newPipeline(t *testing.T, w *testkit.World, broker string, source *redistest.Cluster) *pipeline {
	t.Helper()
	return &pipeline{t: t, w: w, broker: broker, prefix: w.Name("p"), source: source, dir: t.TempDir()}
}

func sourceCluster(w *testkit.World, masters, replicas int) *redistest.Cluster {
	return w.ClusterWith(redistest.Config{Masters: masters, ReplicasPerMaster: replicas, Args: []string{"--repl-backlog-size", backlog}})
}

// connector is the name of a connector of ours: others on the same broker take part in groups and transactions under theirs.
func (p *pipeline) connector(name string) string { return name + "." + p.prefix }

// config writes a configuration of one connector and returns its path.
func (p *pipeline) config(name string, connector map[string]string) string {
	p.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "worker:\n  data.dir: %s\n  kafka.brokers: [%q]\nconnectors:\n  %s:\n", filepath.Join(p.dir, "data"), p.broker, p.connector(name))
	for k, v := range connector {
		fmt.Fprintf(&b, "    %s: %q\n", k, v)
	}
	path := filepath.Join(p.dir, name+".yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p *pipeline) sourceConfig(extra ...string) string {
	return p.config("from", merge(map[string]string{
		"type": "source", "topic.prefix": p.prefix, "topic.partitions": strconv.Itoa(partitions), "redis.address": p.source.Addrs()[0],
	}, extra))
}

func (p *pipeline) sinkConfig(name string, to *redistest.Cluster, extra ...string) string {
	return p.config(name, merge(map[string]string{"type": "sink", "topic.prefix": p.prefix, "redis.address": to.Addrs()[0]}, extra))
}

func merge(m map[string]string, pairs []string) map[string]string {
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func (p *pipeline) run(config string) *testkit.Redriver {
	p.t.Helper()
	return p.w.Redriver("run", "--config", config, "--no-progress")
}

// writers keeps n writers going until stop is called.
func writers(t *testing.T, client redis.UniversalClient, n, rate int) (stop func() uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	var all []*load.Writer
	for i := range n {
		w, err := load.NewWriter(client, load.WriterConfig{Seed: uint64(i + 1), Prefix: fmt.Sprintf("writer-%d", i), Shared: "shared", Rate: rate})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
		wg.Go(func() { _ = w.Run(ctx) })
	}
	once := sync.OnceValue(func() (commands uint64) {
		cancel()
		wg.Wait()
		for _, w := range all {
			commands += uint64(w.Counts().Commands)
		}
		return commands
	})
	t.Cleanup(func() { once() })
	return once
}

// mark writes a key behind everything else in each partition and waits until all of them are at the target: order holds
// in a partition, so all is applied then. Two keys a partition, because two shards may share it. And all of it twice: the
// first may be in a snapshot, which has no order.
func (p *pipeline) mark(target redis.UniversalClient, timeout time.Duration) {
	p.t.Helper()
	p.markOf(target, partitions, timeout)
}

// markOf is mark for a topic with another number of partitions.
func (p *pipeline) markOf(target redis.UniversalClient, partitions int, timeout time.Duration) {
	p.t.Helper()
	p.markOnce(target, partitions, timeout)
	p.markOnce(target, partitions, timeout)
}

func (p *pipeline) markOnce(target redis.UniversalClient, partitions int, timeout time.Duration) {
	p.t.Helper()
	if err := p.tryMark(p.t.Context(), target, partitions, timeout, p.w.Name("mark")); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pipeline) tryMark(ctx context.Context, target redis.UniversalClient, partitions int, timeout time.Duration, value string) error {
	var keys []string
	for n := range partitions {
		r := slot.PartitionRange(int32(n), partitions)
		keys = append(keys, "mark:{"+slot.Tag(r.First)+"}", "mark:{"+slot.Tag(r.Last)+"}")
	}
	for _, k := range keys {
		if err := p.source.Client().Set(ctx, k, value, 0).Err(); err != nil {
			return fmt.Errorf("write mark: %w", err)
		}
	}
	err := testkit.Poll(ctx, timeout, func() error {
		for _, k := range keys {
			got, err := target.Get(ctx, k).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			if got != value {
				return fmt.Errorf("%s (slot %d, partition %d) is %q", k, slot.Of([]byte(k)), slot.Partition(slot.Of([]byte(k)), partitions), got)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("not all applied at the target after %v: %w", timeout, err)
	}
	return nil
}

// identical compares every key of both sides, in both directions.
func identical(t *testing.T, from, to *redistest.Cluster) {
	t.Helper()
	result, err := verify.Compare(t.Context(), verify.At(from.Addrs()...), verify.At(to.Addrs()...), verify.Options{Rounds: 3, ExpiryHold: hold})
	if err != nil {
		t.Fatalf("compare: %v", err)
	}
	if !result.Identical() {
		t.Fatalf("not identical:\n%s", result.String())
	}
	t.Logf("identical: %d keys", result.Keys)
}

// chainHolds checks the whole topic, and that the check itself notices a record that is dropped or repeated.
func (p *pipeline) chainHolds() *chain.Checker {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	c := &chain.Checker{}
	if err := c.All(ctx, kafka.Config{Brokers: []string{p.broker}}, p.prefix+".changes"); err != nil {
		p.t.Fatalf("chain of %s: %v", p.prefix, err)
	}
	p.t.Logf("chain of %d records holds: %v, generations %v", c.Records, c.Counts, c.Generations)
	return c
}
