package sink

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
)

// TestReshard moves slots of the target from node to node while writes come in.
func TestReshard(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	s := r.start(r.config())
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() { // ends when the slots are moved
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			l.commit(func() {
				for range 30 {
					l.random(rng)
				}
			})
			time.Sleep(5 * time.Millisecond)
		}
	})
	var slots []int
	for i := range 60 {
		if n := int(slot.Of(fmt.Appendf(nil, "{%d}", i))); n < 5461 {
			slots = append(slots, n)
		}
	}
	// The first slots of partitions hold the watermarks and fences.
	slots = append(slots, 0, 2048, 4096, 1, 2)
	m := r.target.Masters()
	var stop sync.Once
	end := func() {
		stop.Do(func() { close(done) })
		wait.Wait()
	}
	defer end()
	move := func(from, to int) {
		t.Helper()
		if err := r.target.MoveSlots(t.Context(), m[from], m[to], slots...); err != nil {
			t.Fatal(err)
		}
		if err := r.target.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	move(0, 1)
	move(1, 2)
	move(2, 0)
	move(0, 1)
	end()
	r.same(s)
	s.stop()
	// While no sink runs.
	move(1, 2)
	l.commit(func() {
		for range 500 {
			l.random(rng)
		}
	})
	s = r.start(r.config())
	r.same(s)
	s.stop()
}

// TestFlush: FLUSHALL of the source, with writes before and behind it, and a crash.
func TestFlush(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	for round := range 3 {
		s := r.start(r.config())
		l.commit(func() {
			for range 300 {
				l.random(rng)
			}
		})
		l.commit(func() {
			l.flush()
			for range 300 {
				l.random(rng)
			}
		})
		if round > 0 {
			time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
			s.crash()
			s = r.start(r.config())
		}
		r.same(s)
		s.stop()
	}
}

// TestChunks: events larger than a record, between others, over crashes.
func TestChunks(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	l.limit = 2000
	l.source.Set(t.Context(), "big", strings.Repeat("x", 300_000), 0)
	l.snapshot()
	cfg := r.config()
	s := r.start(cfg)
	for i := range 30 {
		l.commit(func() {
			for range 20 {
				l.random(rng)
			}
			key := fmt.Sprintf("{%d}:big", i%5)
			l.do([]string{"APPEND", key, strings.Repeat(strconv.Itoa(i), 30_000)})
			l.do([]string{"SET", key + "2", strings.Repeat("y", 20_000)})
		})
		if i%7 == 6 {
			s.crash()
			s = r.start(cfg)
		}
	}
	r.same(s)
	s.stop()
}

// TestTwoLanes: two shards share a partition; a snapshot of one is open while the other writes, ends one of its own, and
// the sink crashes in between.
func TestTwoLanes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	r.partitions = 2
	other := r.w.Server("")
	a := newLane(t, r.kafka, r.prefix, 1, 2, slot.Range{First: 0, Last: 3000}, r.source)
	b := newLane(t, r.kafka, r.prefix, 2, 2, slot.Range{First: 3001, Last: everything}, r.source)
	_ = other
	key := func(first, last slot.Slot, n int) string {
		for i := 0; ; i++ {
			k := fmt.Sprintf("k%d-%d", n, i)
			if s := slot.Of([]byte(k)); first <= s && s <= last {
				return k
			}
		}
	}
	for i := range 100 {
		r.source.Client().Set(t.Context(), key(0, 3000, i), i, 0)
		r.source.Client().Set(t.Context(), key(3001, everything, i), i, 0)
	}
	a.snapshot()
	b.snapshot()
	n := 0
	work := func(l *lane, first, last slot.Slot) {
		l.commit(func() {
			for range 50 {
				n++
				l.do([]string{"INCR", key(first, last, n%20)})
				l.do([]string{"SET", key(first, last, 20+n%20), strconv.Itoa(n)})
			}
		})
	}
	restart := func(s *running) *running {
		time.Sleep(200 * time.Millisecond)
		s.crash()
		return r.start(r.config())
	}
	s := r.start(r.config())
	work(a, 0, 3000)
	work(b, 3001, everything)
	r.same(s)
	a.source.Del(t.Context(), key(0, 3000, 70))
	b.source.Del(t.Context(), key(3001, everything, 71))
	a.commit(func() { a.begin(); a.entries() })
	s = restart(s)
	work(b, 3001, everything)
	b.commit(func() { b.begin(); b.entries() })
	s = restart(s)
	a.commit(func() { a.end(); a.boundary() })
	work(a, 0, 3000)
	s = restart(s) // inside b's snapshot, around a's end
	a.commit(func() { a.begin(); a.entries() })
	b.commit(func() { b.end(); b.boundary() })
	work(b, 3001, everything)
	s = restart(s) // the end of b's snapshot lies within a's, which is open
	// a gives its generation up and takes another.
	a.commit(func() { a.begin(); a.entries() })
	s = restart(s)
	a.commit(func() { a.end(); a.boundary() })
	work(a, 0, 3000)
	r.same(s)
	s.stop()

	// A new sink starts at the boundaries, in the middle of what is there.
	cfg := r.config()
	cfg.Name, cfg.ExistingKeys = "another", ExistingReplace
	r.target.Client().Set(t.Context(), "foreign", 1, 0)
	cfg.BatchUnits = 10
	for range 5 {
		s = r.start(cfg)
		time.Sleep(100 * time.Millisecond)
		s.crash()
	}
	s = r.start(cfg)
	r.same(s)
	s.stop()
}

// TestRefusedStarts: what must not be started is not.
func TestRefusedStarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	for i := range 50 {
		l.source.Set(t.Context(), fmt.Sprint("k", i), i, 0)
	}
	l.snapshot()
	work := func() {
		l.commit(func() {
			for range 300 {
				l.random(rng)
			}
		})
	}
	work()
	s := r.start(r.config())
	r.same(s)
	s.stop()

	adm, err := r.kafka.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	topic := offsets.ChangesTopic(r.prefix)
	ends, err := adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("wiped in part", func(t *testing.T) {
		// Partition 2 lies on the first two nodes of three.
		key := own.Key(own.Watermark, "t", slot.PartitionRange(2, 8).First)
		kept := r.target.Client().Get(t.Context(), string(key)).Val()
		if kept == "" {
			t.Fatal("no watermark where it should be")
		}
		r.target.Client().Del(t.Context(), string(key))
		err := r.start(r.config()).await()
		if e := (*StartError)(nil); !errors.As(err, &e) || e.Partition != 2 {
			t.Fatalf("got %v", err)
		}
		r.target.Client().Set(t.Context(), string(key), kept, 0)
	})

	t.Run("retention", func(t *testing.T) {
		work()
		work()
		moved, err := adm.ListEndOffsets(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		del := kadm.Offsets{}
		moved.Each(func(o kadm.ListedOffset) { del.AddOffset(topic, o.Partition, o.Offset-3, -1) })
		if _, err := adm.DeleteRecords(t.Context(), del); err != nil {
			t.Fatal(err)
		}
		err = r.start(r.config()).await()
		var lost *LostError
		if !errors.As(err, &lost) {
			t.Fatalf("got %v", err)
		}
		if end, _ := ends.Lookup(topic, lost.Partition); lost.From != end.Offset || lost.To <= lost.From {
			t.Errorf("lost %d to %d, applied was %d", lost.From, lost.To, end.Offset)
		}
		cfg := r.config()
		cfg.Name, cfg.ExistingKeys = "new", ExistingReplace
		if err := r.start(cfg).await(); !errors.As(err, &lost) {
			t.Errorf("a new sink without a snapshot in the log: %v", err)
		}
		// A new snapshot is all it takes.
		l.snapshot()
		s := r.start(cfg)
		r.same(s)
		s.stop()
	})

	t.Run("another log", func(t *testing.T) {
		cfg := r.config()
		cfg.Name, cfg.ExistingKeys = "running", ExistingReplace
		runs := r.start(cfg)
		r.same(runs)
		if _, err := adm.DeleteTopics(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		l := r.lane()
		l.snapshot()
		err := runs.await()
		if e := (*StartError)(nil); !errors.As(err, &e) || !strings.Contains(e.Why, "made again") {
			t.Fatalf("the sink that ran: %v", err)
		}
		err = r.start(r.config()).await()
		if e := (*StartError)(nil); !errors.As(err, &e) || !strings.Contains(e.Why, "topic id") {
			t.Fatalf("got %v", err)
		}
	})
}

// TestRefusedWrite: what the target refuses for good stops the sink, also the next one.
func TestRefusedWrite(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	l := r.lane()
	l.snapshot()
	cfg := r.config()
	cfg.ExistingKeys = ExistingKeep
	r.target.Client().RPush(t.Context(), "list", "x")
	l.commit(func() { l.do([]string{"HSET", "list", "f", "v"}) })
	for range 3 {
		err := r.start(cfg).await()
		if e := (*RefusedError)(nil); !errors.As(err, &e) || e.Command != "HSET" || string(e.Key) != "list" || e.Exec {
			t.Fatalf("got %v", err)
		}
	}
	r.target.Client().Del(t.Context(), "list")
	s := r.start(cfg)
	r.same(s)
	s.stop()

	r.target.Client().RPush(t.Context(), "n", "x")
	l.commit(func() { l.do([]string{"SET", "{n}other", "v"}, []string{"INCR", "n"}) })
	err := r.start(cfg).await()
	if e := (*RefusedError)(nil); !errors.As(err, &e) || e.Command != "INCR" || !e.Exec {
		t.Fatalf("got %v", err)
	}
	if err := r.start(cfg).await(); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Fatalf("the next start passes over it: %v", err)
	}
}

// TestHole: a record that is missing in the log stops the sink.
func TestHole(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	l := r.lane()
	l.snapshot()
	s := r.start(r.config())
	l.commit(func() {
		l.do([]string{"SET", "{a}1", "1"})
		l.prev[l.partition(slot.Of([]byte("{a}")))] -= 5
		l.do([]string{"SET", "{a}2", "1"})
	})
	err := s.await()
	if e := (*event.ChainError)(nil); !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if r.target.Client().Get(t.Context(), "{a}1").Val() != "1" {
		t.Error("what comes before the hole was not applied")
	}
}

// TestTargetAway: a target that is down or full holds writes up and loses none.
func TestTargetAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	s := r.start(r.config())
	work := func() {
		for range 5 {
			l.commit(func() {
				for range 100 {
					l.random(rng)
				}
			})
		}
	}
	work()
	r.same(s)
	m := r.target.Masters()[1].Client()
	m.ConfigSet(t.Context(), "maxmemory", "1")
	work()
	time.Sleep(time.Second)
	m.ConfigSet(t.Context(), "maxmemory", "0")
	r.same(s)
	if err := r.target.Masters()[2].Pause(); err != nil {
		t.Fatal(err)
	}
	work()
	time.Sleep(time.Second)
	if err := r.target.Masters()[2].Continue(); err != nil {
		t.Fatal(err)
	}
	r.same(s)
	s.stop()
}

// TestFence: a fence that is not ours any more means that nothing we remember holds.
func TestFence(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	var taken atomic.Int64
	s := r.run(r.prepareLogged(r.config(), func(message string) {
		if strings.Contains(message, "was taken over") {
			taken.Add(1)
		}
	}))
	work := func() {
		l.commit(func() {
			for range 300 {
				l.random(rng)
			}
		})
	}
	work()
	r.same(s)
	fence := string(own.Key(own.Fence, r.name, 0))
	steal := func() {
		if err := r.target.Client().Incr(t.Context(), fence).Err(); err != nil {
			t.Fatal(err)
		}
		r.target.Masters()[0].Client().ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
	}
	steal()
	work()
	r.same(s)
	if n := taken.Load(); n != 1 {
		t.Errorf("noticed %d times", n)
	}
	// Somebody who is in no group with us and will not stop.
	ended := false
	for range 40 {
		steal()
		select {
		case <-s.ended:
			ended = true
		case <-time.After(500 * time.Millisecond):
		}
		if ended {
			break
		}
	}
	if !ended || s.err == nil || !strings.Contains(s.err.Error(), "another sink called") {
		t.Errorf("ended %v: %v", ended, s.err)
	}
}

// TestUnknownWindow (trap 61): HSET, DEL, SET of one key again on their own result: the first meets a string. That is of no
// consequence as far as it may have been applied before, and an error behind that.
func TestUnknownWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	l := r.lane()
	l.snapshot()
	s := r.start(r.config())
	r.waitApplied(s)
	l.commit(func() { l.do([]string{"SET", "{k}before", "1"}) })
	r.same(s)
	s.stop()
	p := l.partition(slot.Of([]byte("k")))
	before := s.Status().Partitions[p].Applied
	l.commit(func() {
		l.do([]string{"HSET", "k", "f", "v"})
		l.do([]string{"DEL", "k"})
		l.do([]string{"SET", "k", "v"})
	})
	s = r.start(r.config())
	r.same(s)
	s.stop()

	// As if the sink had died before it could write another watermark.
	back := func(window bool) {
		r.changeWatermarks(p, func(m *watermark) {
			m.restart, m.applied = before, before
			if !window {
				m.sent = before
			}
		})
	}
	back(true)
	s = r.start(r.config())
	r.waitApplied(s)
	r.same(s)
	if n := s.Status().PassedOver; n != 1 {
		t.Errorf("%d writes were passed over", n)
	}
	s.stop()
	back(false)
	err := r.start(r.config()).await()
	if e := (*RefusedError)(nil); !errors.As(err, &e) || e.Command != "HSET" || !strings.HasPrefix(e.Reply, "WRONGTYPE") {
		t.Errorf("got %v", err)
	}
}
