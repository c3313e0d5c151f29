package sink

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

func TestCrowd(t *testing.T) {
	const wait = 200 * time.Millisecond // 500 units
	for _, c := range []struct {
		name      string
		perSecond float64
		every     time.Duration
		want      bool
	}{
		{"few", 100, 10 * time.Millisecond, false},
		{"almost a crowd", crowdPerSecond * 0.95, 10 * time.Millisecond, false},
		{"a crowd", crowdPerSecond * 1.3, 10 * time.Millisecond, true},
		{"a crowd that is waited for", crowdPerSecond * 1.3, wait, true},
		{"bursts", 400, time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var cr crowd
			now, got := time.Now(), false
			for range int(10 * time.Second / c.every) {
				now = now.Add(c.every)
				got = cr.add(now, int(c.perSecond*c.every.Seconds()), wait)
			}
			if got != c.want {
				t.Errorf("a crowd: %t, want %t", got, c.want)
			}
			cr.units = 2 * crowdPerSecond * wait.Seconds()
			if cr.add(now.Add(wait+time.Millisecond), 0, wait) {
				t.Error("still a crowd when nothing has come for as long as one waits for it")
			}
		})
	}
}

// TestCrowdsOfGuardedWritesShareTransactions: what comes fast to many slots shares their transactions, what is alone or comes to
// one slot is there at once, and a sink that stops does not wait for more.
func TestCrowdsOfGuardedWritesShareTransactions(t *testing.T) {
	t.Parallel()
	const (
		wait    = 8 * time.Second // a busy machine is no fault
		keys    = 500
		commits = 160
	)
	r := newRig(t, 1, 0)
	l := r.lane()
	var names []string
	known := map[slot.Slot]bool{}
	for i := 0; len(names) < keys; i++ {
		k := fmt.Sprint("n", i)
		if s := slot.Of([]byte(k)); l.partition(s) == 0 && !known[s] {
			known[s] = true
			names = append(names, k)
		}
	}
	l.snapshot()
	cfg := r.config()
	cfg.GuardedWait = wait
	s := r.start(cfg)
	sum := 0
	incr := func(names ...string) {
		l.commit(func() {
			for _, k := range names {
				l.write(k, resp.AppendCommand(nil, "INCR", k), 1)
				sum++
			}
		})
	}
	there := func() (got int) {
		var values []*redis.StringCmd
		_, err := r.target.Client().Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, k := range names {
				values = append(values, p.Get(t.Context(), k))
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		for _, v := range values {
			n, _ := strconv.Atoi(v.Val())
			got += n
		}
		return got
	}
	alone := func() {
		t.Helper()
		begun := time.Now()
		incr(names[0])
		for there() < sum {
			if time.Since(begun) > wait/2 {
				t.Fatalf("%d of %d writes after %s: a single one waits for others", there(), sum, time.Since(begun))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	r.waitApplied(s)
	alone()
	hot := slices.Repeat(names[:1], keys)
	for range commits / 3 {
		incr(hot...)
	}
	alone()
	before := r.calls("exec")
	for range commits {
		incr(names...)
		time.Sleep(20 * time.Millisecond)
	}
	begun := time.Now()
	s.stop()
	if took := time.Since(begun); took > wait*3/4 {
		t.Errorf("the sink took %s to stop", took)
	}
	s = r.start(cfg)
	r.waitApplied(s)
	if got := there(); got != sum {
		t.Errorf("%d writes at the target, want %d", got, sum)
	}
	if got, most := r.calls("exec")-before, commits*keys/2; got > most {
		t.Errorf("%d transactions for %d commits over %d slots, want at most %d", got, commits, keys, most)
	}
	time.Sleep(wait)
	alone()
	s.stop()
}
