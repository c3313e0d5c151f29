package sink

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// TestFailover (trap 57): the promoted replica lacks the last writes that its master had acknowledged.
func TestFailover(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 1)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	burst := func(n int) {
		for range n {
			l.commit(func() {
				for range 50 {
					l.random(rng)
				}
			})
		}
	}
	var back atomic.Bool
	s := r.run(r.prepareLogged(r.config(), func(message string) {
		if strings.Contains(message, "target's own records") {
			back.Store(true)
		}
	}))
	burst(10)
	r.same(s)
	master, replica := r.target.Masters()[0], r.target.ReplicasOf(0)[0]
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	burst(5)
	// More than what the sockets between master and replica hold.
	l.commit(func() {
		for i := range 200 {
			if key := fmt.Sprintf("fill%d", i); slot.Of([]byte(key)) <= 5460 {
				l.do([]string{"SET", key, strings.Repeat("x", 500_000)})
			}
		}
	})
	burst(5)
	r.waitApplied(s)
	kept := r.target.Masters()[0].Client().DBSize(t.Context()).Val()
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := replica.Continue(); err != nil {
		t.Fatal(err)
	}
	r.w.Eventually(30*time.Second, "the replica is promoted", func() error {
		if !strings.Contains(replica.Client().Info(t.Context(), "replication").Val(), "role:master") {
			return errors.New("it is a replica")
		}
		return nil
	})
	t.Logf("the master had %d keys, the promoted replica began with about %d", kept, replica.Client().DBSize(t.Context()).Val())
	burst(10)
	r.same(s)
	if !back.Load() {
		t.Error("the target did not lose anything: this test shows nothing")
	}
	s.stop()
}

// TestFailoverWithinABatch: the promoted replica has the watermark of the batch under way, which vouches for everything
// before it, and lacks the first writes of the batch, which its master had acknowledged.
//
// Fault (sink): a target node fails over in the middle of a batch, to a replica that lacks the part it had acknowledged.
// That part is sent again.
func TestFailoverWithinABatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 0)
	l := r.lane()
	l.snapshot()
	proxies, addresses := r.proxies()
	cfg := r.config()
	cfg.Dialer = &topology.Dialer{Timeout: 2 * time.Second, AddressMap: addresses}
	s := r.start(cfg)
	r.same(s)
	tag := func(s slot.Slot) string { return "{" + slot.Tag(s) + "}" } // all in the first partition
	var lost bool
	const guardedDone = "*2\r\n:1\r\n+OK\r\n" // EXEC of INCR and the checkpoint; what is before it is acknowledged then too
	proxies[0].set(&trap{word: "never whole", count: 1, part: 0.7, answer: guardedDone, after: func() {
		lost = true
		for _, key := range []string{"blind" + tag(0), "guarded" + tag(1), string(own.Key(own.Checkpoint, r.name, 1))} {
			n, err := r.target.Client().Del(t.Context(), key).Result()
			if err != nil {
				t.Error(err)
			}
			lost = lost && n == 1
		}
	}})
	l.commit(func() {
		l.do([]string{"SET", "blind" + tag(0), "value"})
		l.do([]string{"INCR", "guarded" + tag(1)})
		l.do([]string{"SET", "large" + tag(2), strings.Repeat("never whole", 1000)})
	})
	r.same(s)
	if !lost {
		t.Error("the target did not lose anything: this test shows nothing")
	}
	s.stop()
}

// TestFailoverWithinASweep: keys that a sweep had removed are back.
//
// Fault (sink): a target node fails over in the middle of a sweep, to a replica that has the first ghosts still. They are
// removed again.
func TestFailoverWithinASweep(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 0)
	l := r.lane()
	first, second := "{"+slot.Tag(0)+"}", "{"+slot.Tag(1)+"}" // of the first partition
	fill := l.source.Pipeline()
	for i := range listKeys { // the second slot is listed by itself, when the ghost of the first is removed
		fill.Set(t.Context(), fmt.Sprint(first, i), i, 0)
	}
	fill.MSet(t.Context(), first+"early ghost", 1, first+"stays", 1)
	fill.MSet(t.Context(), second+"late ghost", 1, second+"stays", 1)
	if _, err := fill.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.snapshot()
	proxies, addresses := r.proxies()
	cfg := r.config()
	cfg.Dialer = &topology.Dialer{Timeout: 2 * time.Second, AddressMap: addresses}
	s := r.start(cfg)
	r.same(s)
	l.source.Del(t.Context(), first+"early ghost")
	l.source.Del(t.Context(), second+"late ghost")
	var removed bool
	proxies[0].set(&trap{word: "late ghost", count: 1, part: 0.5, after: func() {
		removed = r.target.Client().Exists(t.Context(), first+"early ghost").Val() == 0
		r.target.Client().Set(t.Context(), first+"early ghost", 1, 0)
	}})
	l.snapshot()
	l.commit(func() { l.do([]string{"INCR", "n"}) })
	r.same(s)
	if !removed {
		t.Error("nothing was removed before the failover: this test shows nothing")
	}
	s.stop()
}

// waitApplied waits until the sink has applied all that is in the log.
func (r *rig) waitApplied(s *running) {
	r.Helper()
	adm, err := r.kafka.Admin()
	if err != nil {
		r.Fatal(err)
	}
	defer adm.Close()
	ends, err := adm.ListEndOffsets(r.Context(), offsets.ChangesTopic(r.prefix))
	if err != nil {
		r.Fatal(err)
	}
	r.w.Eventually(30*time.Second, "all is applied", func() error {
		status := s.Status()
		if len(status.Partitions) == 0 {
			return errors.New("not started")
		}
		for _, p := range status.Partitions {
			if end, _ := ends.Lookup(offsets.ChangesTopic(r.prefix), p.Partition); p.Applied < end.Offset || p.State != StateRunning {
				return fmt.Errorf("the log ends at %d: %+v", end.Offset, p)
			}
		}
		return nil
	})
}

// A target that loses watermarks which vouch for nothing, as a replica does that is promoted right behind the first start, was
// not wiped: there was nothing on it.
//
// Fault (sink): the target fails over before anything was written to it, and loses the sink's first watermarks. The sink begins
// anew by itself.
func TestATargetThatLosesFirstWatermarksIsBegunAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 0)
	rng := seed(t)
	l := r.lane()
	for i := range 50 {
		l.source.Set(t.Context(), fmt.Sprint("k", i), i, 0)
	}
	l.commit(l.begin) // offsets in the log, and nothing to write
	s := r.start(r.config())
	first := string(own.Key(own.Watermark, "t", 0))
	r.w.Eventually(time.Minute, "a watermark behind the begin", func() error {
		m, err := parseWatermark(r.target.Client().Get(t.Context(), first).Val())
		if err == nil && m.applied <= 0 {
			err = fmt.Errorf("applied %d", m.applied)
		}
		return err
	})
	// As with a failover, connections end with it.
	if _, err := r.target.Masters()[0].Client().TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.FlushAll(t.Context())
		p.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	l.commit(l.entries)
	l.commit(func() {
		l.end()
		l.boundary()
		for range 300 {
			l.random(rng)
		}
	})
	r.same(s)
	s.stop()
}
