package source

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/topology"
)

func TestRestartsUnderLargeValuesNeedNoSnapshot(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	c := w.ClusterWith(redistest.Config{Masters: 3, Args: []string{"--repl-backlog-size", "512mb"}})
	kc := kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}
	cfg := Config{Connector: "src", Prefix: w.Name("s"), Kafka: kc, DataDir: t.TempDir(), Partitions: 16, Dialer: &topology.Dialer{}, Seeds: c.Addrs()[:1]}
	ctx, stopWriters := context.WithCancel(t.Context())
	defer stopWriters()
	for i := range 3 {
		go func() {
			v, client := strings.Repeat("x", 1_500_000), c.Client()
			for n := 0; ctx.Err() == nil; n++ {
				client.Set(ctx, fmt.Sprint("k", i, "-", n%20), v, 0)
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	for round := range 6 {
		s, err := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }() // ends with cancel
		if round == 0 {
			w.Eventually(60*time.Second, "streams", streaming(s, 3))
		}
		time.Sleep(2 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, n := range s.Status() {
			if n.Generation > 1 || strings.Contains(n.LastError, "goes on at") {
				t.Errorf("shard %d is in generation %d: %s", n.Shard, n.Generation, n.LastError)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func TestTwoWorkersOfOneConnector(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	c := w.ClusterWith(redistest.Config{Masters: 3, Args: []string{"--repl-backlog-size", "64mb"}})
	kc := kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}
	prefix := w.Name("s")
	ctx, cancel := context.WithCancel(t.Context())
	client := c.Client()
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			client.Incr(ctx, fmt.Sprint("k", n%100))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	var ran []*Source
	var ends []chan error
	for range 2 {
		s, err := New(Config{Connector: "src", Prefix: prefix, Kafka: kc, DataDir: t.TempDir(), Partitions: 16, Dialer: &topology.Dialer{}, Seeds: c.Addrs()[:1]}, slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err != nil {
			t.Fatal(err)
		}
		end := make(chan error, 1)
		go func() { end <- s.Run(ctx) }()
		w.Eventually(30*time.Second, "streams", streaming(s, 3))
		ran, ends = append(ran, s), append(ends, end)
	}
	// The second is the successor: the first has to give up.
	time.Sleep(12 * time.Second)
	select {
	case err := <-ends[0]:
		t.Logf("the first ended: %v", err)
	default:
		t.Errorf("the first worker goes on though it was fenced")
	}
	for i, s := range ran {
		for _, n := range s.Status() {
			t.Logf("worker %d: shard %d generation %d %s", i+1, n.Shard, n.Generation, n.LastError)
			if n.Generation > 1 {
				t.Errorf("worker %d: shard %d is in generation %d", i+1, n.Shard, n.Generation)
			}
		}
	}
	cancel()
	<-ends[1]
}
