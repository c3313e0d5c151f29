package verify_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/verify"
)

// Writes in flight are no differences: a master and Redis's own replica of it, while the whole mix of commands is written.
func TestNoFalseAlarmUnderWrites(t *testing.T) {
	w := testkit.New(t)
	master, replica := w.Server("redis-7.4").Client(), w.Server("redis-7.4").Client()
	host, port, _ := strings.Cut(master.Options().Addr, ":")
	if err := load.Fill(t.Context(), master, load.FillConfig{Keys: 3000, TTLShare: 0.1, ShortTTLShare: 0.1}); err != nil {
		t.Fatal(err)
	}
	if err := replica.Do(t.Context(), "replicaof", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	w.Eventually(20*time.Second, "the replica is in step", func() error {
		if info := replica.Info(t.Context(), "replication").Val(); !strings.Contains(info, "master_link_status:up") {
			return errors.New(info)
		}
		return nil
	})
	write := func(writers, rate, keys int) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range writers {
			lw, err := load.NewWriter(master, load.WriterConfig{Seed: uint64(i), Prefix: "p:", Shared: "s:", Keys: keys, Rate: rate})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { _ = lw.Run(ctx) })
		}
		once := sync.OnceFunc(func() { cancel(); wg.Wait() })
		t.Cleanup(once)
		return once
	}
	stop := write(3, 0, 20) // few keys, as fast as it goes: all of them change all the time
	time.Sleep(200 * time.Millisecond)
	unsettled := int64(0)
	for _, opt := range []verify.Options{
		{Rounds: 3}, {Rounds: 3, LargeBytes: 1}, {Rounds: 3, Mode: verify.Digest}, {Rounds: 2}, {Rounds: 6},
	} {
		opt.Interval = 150 * time.Millisecond
		r := compare(t, master, replica, opt)
		if r.Total() > 0 {
			t.Errorf("under heavy writes, %+v: %v", opt, r)
		}
		unsettled += r.Unsettled
	}
	stop()
	t.Logf("%d unsettled in sum under heavy writes", unsettled)
	stop = write(1, 50, 100)
	r := compare(t, master, replica, verify.Options{Rounds: 8, Interval: 300 * time.Millisecond})
	if !r.Identical() || r.Keys < 2500 {
		t.Errorf("under slow writes: %v", r)
	}
	stop()
}
