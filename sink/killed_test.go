package sink

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/redis/topology"
)

// TestKilledInTheMiddle kills sinks with -9 at the moment in which certain commands are on their way to the target, of which it
// gets a part, or all, and nobody hears of it.
//
// Fault (sink): killed by SIGKILL in a snapshot, a sweep, a large value in pieces or at once, a large transaction. It goes on from what the
// target says.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, 0)
	rng := seed(t)
	l := r.lane()
	l.limit = 3000
	proxies, addresses := r.proxies()
	cfg := r.config()
	cfg.Dialer = &topology.Dialer{Timeout: 2 * time.Second, AddressMap: addresses}
	cfg.Instance, cfg.BatchUnits, cfg.RebuildBytes, cfg.RestoreBytes, cfg.SweepMax = "one", 20, 4000, 120_000, 1

	ctx := t.Context()
	source := l.source
	fill := func(from, to int) {
		pipe := source.Pipeline()
		for i := from; i < to; i++ {
			pipe.Set(ctx, fmt.Sprintf("fill%d", i), i, 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name string
		do   func()
		word string
		// at which occurrence it is killed, time and again, and what part of the piece still arrives.
		at   []int
		part []float64
	}{
		{"snapshot", func() { fill(0, 2000); l.snapshot() }, "fill", []int{10, 200, 300}, []float64{0.5, 1, 0.3}},
		{"sweep", func() {
			pipe := source.Pipeline()
			for i := range 1500 {
				pipe.Del(ctx, fmt.Sprintf("fill%d", i))
			}
			if _, err := pipe.Exec(ctx); err != nil {
				t.Fatal(err)
			}
			l.snapshot()
		}, "UNLINK", []int{1, 100, 200}, []float64{0.5, 1, 0.3}},
		{"value at once", func() {
			for i := range 1500 { // 70 KB, which count as 96
				source.HSet(ctx, "{whole}hash", fmt.Sprint("part", i), strings.Repeat(strconv.Itoa(i), 9))
			}
			l.snapshot()
		}, "part", []int{1, 600, 1100}, []float64{0.5, 0.9, 1}},
		{"value in chunks", func() {
			for i := range 3000 {
				source.HSet(ctx, "{large}hash", fmt.Sprint("field", i), strings.Repeat(strconv.Itoa(i), 5))
			}
			l.snapshot()
		}, "redriver!s!", []int{1, 4, 8}, []float64{0.5, 1, 0.9}},
		{"transaction", func() {
			l.commit(func() {
				for range 5 {
					var cmds [][]string
					for i := range 400 {
						cmds = append(cmds, []string{"INCR", fmt.Sprintf("{tx}%d", i)}, []string{"APPEND", fmt.Sprintf("{tx}a%d", i), "0123456789"})
					}
					l.do(cmds...)
				}
			})
		}, "{tx}", []int{1, 900, 900}, []float64{0.5, 1, 1}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			var mu sync.Mutex
			var s *proc.Process
			watch, stop := context.WithCancel(ctx)
			defer stop()
			torn := make(chan string, 1)
			go func() { torn <- r.watchPair(watch, "{tx}0", "{tx}399") }()
			step.do()
			for i, at := range step.at {
				killed := make(chan struct{})
				once := sync.OnceFunc(func() {
					mu.Lock()
					defer mu.Unlock()
					if err := s.Kill(); err != nil {
						t.Error(err)
					}
					close(killed)
				})
				for _, w := range proxies {
					w.set(&trap{word: step.word, count: at, part: step.part[i], fn: once})
				}
				mu.Lock()
				s = r.child(cfg)
				mu.Unlock()
				select {
				case <-killed:
				case <-time.After(30 * time.Second):
					t.Fatalf("%d times %s did not come by", at, step.word)
				}
			}
			for _, w := range proxies {
				w.set(nil)
			}
			s = r.child(cfg)
			l.commit(func() {
				for range 100 {
					l.random(rng)
				}
			})
			r.same()
			if n := r.calls("rename"); step.name == "value at once" && n > 0 {
				t.Errorf("%d values were built in pieces", n)
			}
			stop()
			if what := <-torn; what != "" {
				t.Error(what)
			}
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// watchPair reads two counters of one transaction until ctx ends, and returns how they were seen to differ.
func (r *rig) watchPair(ctx context.Context, a, b string) string {
	c := r.target.Client()
	for ctx.Err() == nil {
		got, err := c.MGet(context.WithoutCancel(ctx), a, b).Result()
		if err == nil && got[0] != got[1] {
			return fmt.Sprintf("%s is %v and %s is %v", a, got[0], b, got[1])
		}
		time.Sleep(time.Millisecond)
	}
	return ""
}
