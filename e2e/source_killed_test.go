package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
)

// The source is killed in the middle of a snapshot, of a large value in chunks, and of a transaction that is larger than
// one of Kafka's. What was begun counts for nothing; the target holds all of it, once, in the end.
//
// Fault (source): killed by SIGKILL in a snapshot, in a large value, in a large transaction. What was begun counts for
// nothing, and is published again.
func TestSourceKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := w.ClusterWith(redistest.Config{Masters: 1, Args: []string{
		"--repl-backlog-size", backlog, "--repl-diskless-sync-delay", "0", "--rdbcompression", "no", "--rdb-key-save-delay", "2000",
	}})
	c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source)
	killAt := func(t *testing.T, what string, at func(r *kgo.Record) bool) {
		t.Helper()
		c.logBrings(t, what, at)
		if err := c.from.Kill(); err != nil {
			t.Fatal(err)
		}
		c.from = c.run(c.fromConfig)
	}
	newGeneration := func(t *testing.T) {
		t.Helper()
		c.from.Kill()
		// The position names a history that the master does not know any more.
		for range 2 {
			if err := source.Masters()[0].Client().Do(t.Context(), "DEBUG", "CHANGE-REPL-ID").Err(); err != nil {
				t.Fatal(err)
			}
		}
		c.from = c.run(c.fromConfig)
	}
	t.Run("snapshot", func(t *testing.T) {
		setConfig(t, source.Masters()[0], "rdb-key-save-delay", "10000")
		newGeneration(t)
		entries := 0
		killAt(t, "the middle of generation 2", func(r *kgo.Record) bool {
			var e event.Event
			if codec.IsChunk(r.Value) || codec.DecodeHead(r.Value, &e) != nil || e.Generation != 2 {
				return false
			}
			if e.Kind == event.SnapshotEnd {
				t.Error("the snapshot has come to an end: the test shows nothing")
			}
			if e.Kind == event.Entry {
				entries++
			}
			return entries > 20
		})
		c.arrives()
	})
	t.Run("large value", func(t *testing.T) {
		setConfig(t, source.Masters()[0], "rdb-key-save-delay", "0")
		value := make([]byte, 40<<20)
		for i := range value {
			value[i] = byte(i >> 12)
		}
		if err := source.Client().Set(t.Context(), "large", value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		c.arrives()
		newGeneration(t)
		killAt(t, "a chunk of the large value", chunkOf("large", 3))
		c.arrives()
	})
	t.Run("transaction", func(t *testing.T) {
		part := string(make([]byte, 1<<20))
		if _, err := source.Client().TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := range 48 {
				p.Append(t.Context(), fmt.Sprintf("{multi}:%d", i%4), part)
			}
			p.Incr(t.Context(), "{multi}:count")
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		killAt(t, "a chunk of the transaction", chunkOf("{multi}:0", 0))
		c.arrives()
		if n := c.target.Client().Get(t.Context(), "{multi}:count").Val(); n != "1" {
			t.Errorf("the transaction counts %s times", n)
		}
	})
	c.settle()
}

// chunkOf is a chunk of a key behind the n-th, and not the last.
func chunkOf(key string, n uint32) func(*kgo.Record) bool {
	return func(r *kgo.Record) bool {
		if string(r.Key) != key || !codec.IsChunk(r.Value) {
			return false
		}
		c, err := codec.ParseChunk(r.Value)
		return err == nil && c.Index > n && !c.Last()
	}
}

// logBrings reads the log from here on until it brings what is looked for.
func (c *carried) logBrings(t *testing.T, what string, found func(*kgo.Record) bool) {
	t.Helper()
	cfg := kafka.Config{Brokers: []string{c.broker}}
	cl, err := cfg.Client(kgo.ConsumeTopics(c.prefix+".changes"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		for it := cl.PollFetches(ctx).RecordIter(); !it.Done(); {
			if found(it.Next()) {
				return
			}
		}
	}
	t.Fatalf("the log does not bring %s", what)
}

// A source is stopped by SIGSTOP, another worker takes over, and the first goes on with what it had read: it publishes
// nothing any more, says so, and ends.
//
// Fault (source): stopped by SIGSTOP until another worker has taken over, then continued. It publishes nothing any more,
// says so and ends.
func TestSourcePausedPastATakeOverPublishesNothing(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := sourceCluster(w, 3, 0)
	c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source)
	first := c.from
	pause(t, first)
	// What arrives now waits in its sockets.
	waiting := c.history.Stats().Acked + 100
	w.Eventually(time.Minute, "the load goes on", func() error {
		if n := c.history.Stats().Acked; n < waiting {
			return fmt.Errorf("%d of %d numbers", n, waiting)
		}
		return nil
	})
	other := *c.pipeline
	other.dir = filepath.Join(c.dir, "other")
	mustMkdir(t, other.dir)
	c.from = other.run(other.sourceConfig())
	c.arrives()
	resume(t, first)
	err := testkit.Poll(t.Context(), time.Minute, func() error {
		if first.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	if err != nil {
		t.Errorf("the first worker goes on behind its successor: %v", err)
	}
	if logged(first, "another worker has taken over") == 0 {
		t.Errorf("the first worker does not say why it ends:\n%s", first.LogTail(10))
	}
	c.settle()
}
