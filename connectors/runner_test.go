package connectors_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
)

// copying runs a source and a sink until the test or stop ends it.
func copying(t *testing.T, dir, broker, prefix string, from, to *redistest.Cluster) (r *connectors.Runner, stop func() error) {
	t.Helper()
	cfg, err := connectors.NewConfig(map[string]string{"data.dir": dir, "kafka.brokers": broker}, map[string]map[string]string{
		"in":  {"type": "source", "topic.prefix": prefix, "redis.address": from.Addrs()[0]},
		"out": {"type": "sink", "topic.prefix": prefix, "redis.address": to.Addrs()[0]},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = connectors.New(cfg, discard()); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	ended := false
	stop = func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return r, stop
}

// What is applied can be removed from the log, and the next run goes on without it.
func TestBarrierTrimAndResume(t *testing.T) {
	for name, broker := range map[string]func(*testkit.World) string{
		"embedded": func(w *testkit.World) string { return w.FakeKafka().Addr() },
		"kafka":    func(w *testkit.World) string { return w.Kafka().Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			w := testkit.New(t)
			barrierTrimAndResume(t, w, broker(w), w.Name("p"))
		})
	}
}

func barrierTrimAndResume(t *testing.T, w *testkit.World, broker, prefix string) {
	t.Helper()
	from, to := w.Cluster(3, 0), w.Cluster(2, 0)
	write := func(value string) {
		t.Helper()
		for i := range 500 {
			if err := from.Client().Set(t.Context(), fmt.Sprintf("key:%d", i), value, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(r *connectors.Runner, value string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Barrier(ctx); err != nil {
			t.Fatalf("barrier: %v", err)
		}
		for i := range 500 {
			if got, err := to.Client().Get(t.Context(), fmt.Sprintf("key:%d", i)).Result(); got != value {
				t.Fatalf("key:%d behind the barrier is %q, %v; want %q", i, got, err, value)
			}
		}
	}
	write("snapshot")
	r, stop := copying(t, w.Path("data"), broker, prefix, from, to)
	check(r, "snapshot")
	write("stream")
	check(r, "stream")
	w.Eventually(20*time.Second, "the log is trimmed", func() error {
		if err := r.Trim(t.Context()); err != nil {
			return err
		}
		return trimmed(t, broker, prefix)
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	write("later")
	r, _ = copying(t, w.Path("data"), broker, prefix, from, to)
	check(r, "later")
}

func trimmed(t *testing.T, broker, prefix string) error {
	t.Helper()
	adm, err := kafka.Config{Brokers: []string{broker}}.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	spans, err := kafka.Spans(t.Context(), adm, prefix+".changes")
	if err != nil {
		return err
	}
	kept := int64(0)
	for _, s := range spans {
		kept += s.End - s.Start
	}
	if kept > 0 {
		return fmt.Errorf("%d offsets are kept", kept)
	}
	return nil
}

func TestCheckFindsAllFaults(t *testing.T) {
	w := testkit.New(t)
	unformed := w.Server("", "--cluster-enabled", "yes")
	cfg, err := connectors.NewConfig(
		map[string]string{"data.dir": w.Path("data"), "kafka.brokers": fmt.Sprintf("127.0.0.1:%d", w.Port()), "kafka.timeout": "1s"},
		map[string]map[string]string{
			"in":  {"type": "source", "topic.prefix": "p", "redis.address": unformed.Addr()},
			"out": {"type": "sink", "topic.prefix": "p", "redis.address": fmt.Sprintf("127.0.0.1:%d", w.Port()), "redis.timeout": "1s"},
		}, nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	r, err := connectors.New(cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	err = r.Check(t.Context())
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 3 {
		t.Errorf("want three faults: %v", err)
	}
}
