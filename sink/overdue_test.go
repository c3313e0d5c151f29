package sink

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redriver/redriver/redis/resp"
)

// A sink that was away for longer than it holds expiry times finds a key gone that the source had renewed meanwhile. It stops
// before it makes a part of that key anew, each time it is started; told to, it goes on and says so. What is old, but not as
// old as that, is applied.
//
// Fault (sink): an outage longer than the hold of expiry times. It is refused, or accepted with a warning, by policy.
func TestAnOutageLongerThanTheHoldIsRefused(t *testing.T) {
	r := newVersionRig(t, "redis-7.0")
	l := r.laneAlone()
	hold := MinExpiryHold
	l.commit(l.begin)
	l.commit(l.end)
	const short = 250 * time.Millisecond
	l.ago = hold - 2*holdMargin
	l.commit(func() {
		l.write("old", resp.AppendCommand(nil, "SET", "old", "1"), 1)
		// It would have ended a hold ago, so at the target it ends now.
		ends := time.Now().Add(-hold + short).UnixMilli()
		l.write("session", resp.AppendCommand(nil, "SET", "session", "a", "PXAT", strconv.FormatInt(ends, 10)), 1)
	})
	cfg := r.config()
	cfg.ExpiryHold = hold
	s := r.start(cfg)
	r.waitApplied(s)
	s.stop()
	c := r.target.Client()
	if v := c.Get(t.Context(), "old").Val(); v != "1" {
		t.Errorf("old is %q", v)
	}
	r.w.Eventually(30*time.Second, "the session ends at the target", func() error {
		if n := c.Exists(t.Context(), "session").Val(); n != 0 {
			return errors.New("it is there")
		}
		return nil
	})
	l.ago = hold + 10*time.Minute
	l.commit(func() {
		l.write("session", resp.AppendCommand(nil, "PERSIST", "session"), 1)
		l.write("session", resp.AppendCommand(nil, "APPEND", "session", "b"), 1)
	})
	for range 2 {
		err := r.start(cfg).await()
		overdue, ok := errors.AsType[*OverdueError](err)
		if !ok || overdue.Hold != hold || overdue.Late < hold || !strings.Contains(err.Error(), "expiry.overdue") {
			t.Fatalf("the sink ended with %v", err)
		}
		if n := c.Exists(t.Context(), "session").Val(); n != 0 {
			t.Fatal("a part of the session was made anew")
		}
	}
	cfg.Overdue = OverdueAccept
	var told atomic.Int64
	s = r.run(r.prepareLogged(cfg, func(message string) {
		if strings.Contains(message, "later than expiry times are held") {
			told.Add(1)
		}
	}))
	r.waitApplied(s)
	if v := c.Get(t.Context(), "session").Val(); v != "b" || told.Load() != 1 {
		t.Errorf("the session is %q, told %d times", v, told.Load())
	}
	s.stop()

	// A value of a snapshot in chunks, and one that is not, are as late as anything else.
	for _, cut := range []int{0, 300} {
		t.Run(fmt.Sprintf("entry cut at %d", cut), func(t *testing.T) {
			r := newVersionRig(t, "redis-7.0")
			l := r.laneAlone()
			from := r.w.Server("").Client()
			from.Set(t.Context(), "k", strings.Repeat("x1y2", 500), 0)
			l.ago = hold + time.Hour
			l.commit(func() {
				l.begin()
				p, e := l.entry("k", from.Dump(t.Context(), "k").Val())
				if cut == 0 {
					l.publish(p, e, nil)
				} else {
					l.send(p, e, func() int { return 10 }, -1)
				}
			})
			l.commit(l.end)
			cfg := r.config()
			cfg.ExpiryHold, cfg.RebuildBytes = hold, 1
			if _, ok := errors.AsType[*OverdueError](r.start(cfg).await()); !ok {
				t.Error("the entry was taken")
			}
		})
	}
}
