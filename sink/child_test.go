package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit/proc"
)

// childEnv holds the configuration of a sink that a copy of this test binary is to run, so that it can be killed and
// stopped for real.
const childEnv = "REDRIVER_SINK_CHILD"

func TestMain(m *testing.M) {
	redis.SetLogger(silence{}) // it reports each refused dial
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func child(text string) int {
	var cfg Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		fmt.Println(err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := New(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err == nil {
		err = s.Run(ctx)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func (r *rig) child(cfg Config) *proc.Process {
	r.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		r.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	return r.w.Start(proc.Config{
		Name: "sink", Path: self, Env: []string{childEnv + "=" + string(text)}, LogPath: r.w.Path(fmt.Sprintf("sink-%d.log", time.Now().UnixNano())),
	})
}

// TestKill kills sinks with -9 while writes come in.
func TestKill(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	for i := range 500 {
		l.source.Set(t.Context(), fmt.Sprintf("k%d", i), i, 0)
	}
	l.snapshot()
	cfg := r.config()
	// The embedded broker never forgets a member that dies while it waits to join or to sync, so it is always the same one.
	cfg.BatchUnits, cfg.Instance = 100, "one"
	written := make(chan struct{})
	faults := rand.New(rand.NewPCG(rng.Uint64(), 2))
	var wait sync.WaitGroup
	wait.Go(func() { // ends after a fixed number of writes
		defer close(written)
		for range 150 {
			l.commit(func() {
				for range 1 + rng.IntN(100) {
					l.random(rng)
				}
			})
			time.Sleep(20 * time.Millisecond)
		}
	})
	kills := 0
	s := r.child(cfg)
	for running := true; running; {
		select {
		case <-written:
			running = false
		case <-time.After(time.Duration(300+faults.IntN(900)) * time.Millisecond):
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		kills++
		s = r.child(cfg)
	}
	wait.Wait()
	r.same()
	t.Logf("%d kills", kills)
}

// TestStopped (trap 56): a sink that is stopped for longer than the session timeout loses its partitions, and must not
// write when it goes on.
//
// On a real broker: this is about its coordinator, which the embedded one stands in for only roughly.
func TestStopped(t *testing.T) {
	t.Parallel()
	r := newKafkaRig(t)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	cfg := r.config()
	cfg.BatchUnits = 20
	first := r.child(cfg)
	burst := func(n int) {
		for range n {
			l.commit(func() {
				for range 40 {
					l.random(rng)
				}
			})
		}
	}
	burst(10)
	r.same()
	for range 3 {
		// Stopped in the middle of work, with a successor that takes over and goes on.
		burst(5)
		if err := first.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		second := r.child(cfg)
		burst(20)
		r.same()
		burst(5)
		if err := first.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		burst(20)
		r.same()
		if !first.Running() || !second.Running() {
			t.Fatalf("a sink ended: %s %s", first.LogTail(3), second.LogTail(3))
		}
		if err := first.Kill(); err != nil {
			t.Fatal(err)
		}
		burst(5)
		r.same()
		first = second
	}
}

// TestRebalance lets sinks come and go in good order.
func TestRebalance(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() { // ends after a fixed number of writes
		defer close(done)
		for range 100 {
			l.commit(func() {
				for range 40 {
					l.random(rng)
				}
			})
			time.Sleep(30 * time.Millisecond)
		}
	})
	cfg := r.config()
	sinks := []*running{r.start(cfg), r.start(cfg)}
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(700 * time.Millisecond):
		}
		sinks[0].stop()
		sinks = append(sinks[1:], r.start(cfg))
	}
	wait.Wait()
	r.same(sinks...)
	passed := int64(0)
	for _, s := range sinks {
		passed += s.Status().PassedOver
		s.stop()
	}
	if passed > 0 {
		t.Errorf("%d writes were passed over although every hand-over was in good order", passed)
	}
}
