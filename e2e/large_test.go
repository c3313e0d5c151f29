package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// The sizes of a test run, of which the sorted set is too large for one RESTORE; "make large" takes those of the docs.
func largeSizes(t *testing.T) (members, stringMB int) {
	t.Helper()
	return envInt(t, "REDRIVER_LARGE_MEMBERS", 600_000), envInt(t, "REDRIVER_LARGE_STRING_MB", 32)
}

func envInt(t *testing.T, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// maxResident is what each process may take, whatever the size of a value.
const maxResident = 256 << 20

// A sorted set and a string that are larger than the processes may be pass from the snapshot to the target, while the
// target goes on answering; and again with the sink killed in the middle of them.
func TestValuesLargerThanTheProcesses(t *testing.T) {
	members, stringMB := largeSizes(t)
	w := testkit.New(t)
	source := w.ClusterWith(redistest.Config{Masters: 1, Args: []string{"--repl-backlog-size", backlog, "--client-output-buffer-limit", "replica 0 0 0"}})
	writeLarge(t, source.Client(), members, stringMB)
	for _, killed := range []bool{false, true} {
		t.Run(map[bool]string{false: "undisturbed", true: "the sink killed"}[killed], func(t *testing.T) {
			w := testkit.New(t)
			target := w.Cluster(1, 0)
			p := newPipeline(t, w, w.Kafka().Addr(), source)
			from := p.run(p.sourceConfig())
			name := p.prefix
			file := p.sinkConfig(name, target)
			to := p.run(file)
			stop := pinger(t, target.Masters()[0].Addr())
			var peak int64
			if killed {
				p.killAmidst(target, func() {
					peak = to.Usage().PeakRSSBytes
					to.Kill()
					to = p.run(file)
				})
			}
			start := time.Now()
			p.mark(target.Client(), 20*time.Minute)
			t.Logf("%d members and %d MiB in %s", members, stringMB, time.Since(start).Round(time.Millisecond))
			t.Logf("the target answered: %s", stop())
			identical(t, source, target)
			to.Stop()
			from.Stop()
			peak = max(peak, to.Usage().PeakRSSBytes)
			t.Logf("source %+v, sink %+v", from.Usage(), to.Usage())
			if s := from.Usage().PeakRSSBytes; s > maxResident || peak > maxResident {
				t.Errorf("resident: source %d MiB, sink %d MiB, want at most %d", s>>20, peak>>20, maxResident>>20)
			}
		})
	}
}

func writeLarge(t *testing.T, c redis.UniversalClient, members, stringMB int) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < members; {
		_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for range 50 {
				args := []any{"zadd", "large:zset"}
				for range 500 {
					args = append(args, float64(i)*1.25, fmt.Sprintf("member:%d", i))
					i++
				}
				p.Do(t.Context(), args...)
			}
			return nil
		})
		check(err)
	}
	rng := rand.NewChaCha8([32]byte{1})
	piece := make([]byte, 1<<20)
	for i := stringMB - 1; i >= 0; i-- {
		_, _ = rng.Read(piece) // never fails
		check(c.SetRange(t.Context(), "large:string", int64(i)<<20, string(piece)).Err())
	}
	for i := range 1000 {
		check(c.Set(t.Context(), fmt.Sprint("small:", i), i, 0).Err())
	}
}

// killAmidst calls kill when the target holds a part of the large values and none of them is there.
func (p *pipeline) killAmidst(target *redistest.Cluster, kill func()) {
	p.t.Helper()
	c := target.Masters()[0].Client()
	p.w.Eventually(5*time.Minute, "a large value is being built", func() error {
		keys, _, err := c.ScanType(p.t.Context(), 0, "redriver!s!*", 100_000, "zset").Result()
		if err != nil {
			return err
		}
		for _, k := range keys {
			if n := c.ZCard(p.t.Context(), k).Val(); n > 1000 {
				p.t.Logf("killed with %d members built", n)
				kill()
				return nil
			}
		}
		return fmt.Errorf("nothing so far: %v", keys)
	})
}

// pinger asks a server for a sign of life each millisecond, on a connection of its own, and tells how long it took.
func pinger(t *testing.T, addr string) (stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 64)
		for ctx.Err() == nil {
			start := time.Now()
			if _, err := conn.Write([]byte("PING\r\n")); err != nil {
				return
			}
			if _, err := conn.Read(buf); err != nil {
				return
			}
			took = append(took, time.Since(start))
			time.Sleep(time.Millisecond)
		}
	})
	once := sync.OnceValue(func() string {
		cancel()
		wg.Wait()
		_ = conn.Close()
		slices.Sort(took)
		at := func(q float64) time.Duration {
			return took[min(int(q*float64(len(took))), len(took)-1)].Round(100 * time.Microsecond)
		}
		if len(took) == 0 {
			return "not at all"
		}
		return fmt.Sprintf("%d times, p50 %s, p99 %s, p99.9 %s, at most %s", len(took), at(0.5), at(0.99), at(0.999), took[len(took)-1].Round(100*time.Microsecond))
	})
	t.Cleanup(func() { once() })
	return once
}
