package sink

import (
	"fmt"
	"strconv"
	"testing"
	"time"

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

// TestCrowdsOfGuardedWritesShareTransactions: what comes fast shares the transactions of its slot, what is alone is there at
// once, and a sink that stops does not wait for more.
func TestCrowdsOfGuardedWritesShareTransactions(t *testing.T) {
	t.Parallel()
	const (
		wait    = 2 * time.Second
		keys    = 10
		commits = 60
		each    = 500
	)
	r := newRig(t, 1, 0)
	l := r.lane()
	var names []string
	for i := 0; len(names) < keys; i++ {
		if k := fmt.Sprint("n", i); l.partition(slot.Of([]byte(k))) == 0 {
			names = append(names, k)
		}
	}
	l.snapshot()
	cfg := r.config()
	cfg.GuardedWait = wait
	s := r.start(cfg)
	sum := 0
	incr := func(n int) {
		l.commit(func() {
			for range n {
				k := names[sum%keys]
				l.write(k, resp.AppendCommand(nil, "INCR", k), 1)
				sum++
			}
		})
	}
	there := func() (got int) {
		for _, k := range names {
			n, _ := strconv.Atoi(r.target.Client().Get(t.Context(), k).Val())
			got += n
		}
		return got
	}
	alone := func() {
		t.Helper()
		begun := time.Now()
		incr(1)
		for there() < sum {
			if time.Since(begun) > wait/2 {
				t.Fatalf("%d of %d writes after %s: a single one waits for others", there(), sum, time.Since(begun))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	r.waitApplied(s)
	alone()
	before := r.calls("exec")
	for range commits {
		incr(each)
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
