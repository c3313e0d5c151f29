package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// keyIn is the n-th key of a range of slots.
func keyIn(r slot.Range, n int) string {
	for i := 0; ; i++ {
		k := fmt.Sprintf("k%d-%d", n, i)
		if s := slot.Of([]byte(k)); r.First <= s && s <= r.Last {
			return k
		}
	}
}

// twoLanes are lanes of shards 1 and 2, which share the only partition.
func twoLanes(r *rig) (a, b *lane, of map[*lane]slot.Range) {
	r.partitions = 1
	low, high := slot.Range{First: 0, Last: 8000}, slot.Range{First: 8001, Last: everything}
	a = newLane(r.TB, r.kafka, r.prefix, 1, 1, low, r.source)
	b = newLane(r.TB, r.kafka, r.prefix, 2, 1, high, r.source)
	return a, b, map[*lane]slot.Range{a: low, b: high}
}

// pieces are the chunks of a SET, which is carried out at the source: each is published when it is called.
func (l *lane) pieces(key string, size int) (out []func()) {
	l.t.Helper()
	value := strings.Repeat("x", size)
	if err := l.source.Set(l.t.Context(), key, value, 0).Err(); err != nil {
		l.t.Fatal(err)
	}
	wire := resp.AppendCommand(nil, "SET", key, value)
	s := slot.Of([]byte(key))
	p := l.partition(s)
	begin := l.offset
	l.offset += event.Offset(len(wire))
	e := &event.Event{
		Kind: event.Unit, Shard: l.shard, Generation: l.generation, ReplID: l.replID, CapturedMs: time.Now().UnixMilli(),
		Begin: begin, End: l.offset, Prev: l.prev[p], Slot: s, Key: []byte(key), Commands: wire, Count: 1,
	}
	l.prev[p] = l.offset
	whole := codec.AppendRaw(nil, e)
	l.attempt++
	attempt := l.attempt
	const limit = 2000
	for i := range codec.Chunks(len(whole), limit) {
		out = append(out, func() {
			l.cl.Produce(context.Background(), &kgo.Record{
				Topic: l.topic.Name, Partition: p, Key: codec.RecordKey(e), Value: codec.AppendChunk(nil, whole, l.shard, attempt, i, limit),
			}, func(_ *kgo.Record, err error) {
				if err != nil {
					l.t.Errorf("produce: %v", err)
				}
			})
		})
	}
	return out
}

// TestNewSinkAmidChunks: a new sink begins at the snapshot of one lane, where another is in the middle of an event.
func TestNewSinkAmidChunks(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 0)
	a, b, of := twoLanes(r)
	for i := range 20 {
		r.source.Client().Set(t.Context(), keyIn(of[a], i), i, 0)
		r.source.Client().Set(t.Context(), keyIn(of[b], i), i, 0)
	}
	b.snapshot()
	chunks := b.pieces(keyIn(of[b], 3), 9000)
	b.commit(func() {
		chunks[0]()
		chunks[1]()
	})
	a.snapshot()
	b.commit(func() {
		for _, c := range chunks[2:] {
			c()
		}
	})
	b.commit(func() { b.do([]string{"INCR", keyIn(of[b], 4)}) })
	b.snapshot()
	a.commit(func() { a.do([]string{"INCR", keyIn(of[a], 4)}) })
	b.commit(func() { b.do([]string{"INCR", keyIn(of[b], 4)}) })
	s := r.start(r.config())
	r.same(s)
	s.stop()
}

// registry publishes the source's list of shards.
func (l *lane) registry(shards ...offsets.Known) {
	l.t.Helper()
	key, value, err := offsets.RegistryRecord("test", offsets.Registry{TopicID: l.topic.ID, Partitions: l.topic.Partitions, Shards: shards})
	if err != nil {
		l.t.Fatal(err)
	}
	l.commit(func() {
		l.cl.Produce(context.Background(), &kgo.Record{Topic: offsets.Topic(l.prefix), Partition: offsets.RegistryPartition, Key: key, Value: value}, nil)
	})
}

// TestLaneThatIsGone: what a shard has left unfinished that is gone from the source does not hold the restart offset for ever,
// which retention would pass some day.
func TestLaneThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 0)
	a, b, of := twoLanes(r)
	known := func(l *lane, gone bool) offsets.Known {
		var set slot.Set
		set.AddRange(of[l])
		return offsets.Known{Shard: l.shard, Slots: set.String(), Gone: gone}
	}
	a.registry(known(a, false), known(b, false))
	for i := range 20 {
		r.source.Client().Set(t.Context(), keyIn(of[a], i), i, 0)
		r.source.Client().Set(t.Context(), keyIn(of[b], i), i, 0)
	}
	a.snapshot()
	b.snapshot()
	cfg := r.config()
	cfg.RebuildBytes, cfg.RestoreBytes = 1000, 50_000
	start := func() *running {
		s := r.prepare(cfg)
		s.releaseInterval = 100 * time.Millisecond
		return r.run(s)
	}
	s := start()
	pinned := func() bool {
		p := s.Status().Partitions[0]
		return p.Restart < p.Applied
	}
	free := func() error {
		if pinned() {
			return errors.New("the restart offset stays behind")
		}
		return nil
	}
	hash := func(l *lane, fields int) {
		key := keyIn(of[l], 50)
		for i := range fields { // each by itself
			l.source.HSet(t.Context(), key, i, fmt.Sprint(i, strings.Repeat("v", 60)))
		}
		l.commit(l.begin)
		p, e := l.entry(key, l.source.Dump(t.Context(), key).Val())
		l.commit(func() { l.send(p, e, func() int { return 500 }, 10) })
		l.source.Del(t.Context(), key)
	}
	leave := map[string]func(l *lane){
		"snapshot":      func(l *lane) { l.commit(func() { l.begin(); l.entries() }) },
		"value at once": func(l *lane) { hash(l, 600) },
		"value": func(l *lane) {
			hash(l, 1000)
			r.w.Eventually(30*time.Second, "a part of it is at the target", func() error {
				if len(r.staged()) == 0 {
					return fmt.Errorf("%+v", s.Status().Partitions)
				}
				return nil
			})
		},
		"command": func(l *lane) {
			chunks := l.pieces(keyIn(of[l], 60), 9000)
			l.source.Del(t.Context(), keyIn(of[l], 60))
			l.commit(func() { chunks[0](); chunks[1]() })
		},
	}
	for _, what := range []string{"snapshot", "value", "value at once", "command"} {
		t.Run(what, func(t *testing.T) {
			leave[what](b)
			a.commit(func() { a.do([]string{"INCR", keyIn(of[a], 4)}) })
			r.waitApplied(s)
			if !pinned() {
				t.Fatal("nothing is open: this test shows nothing")
			}
			// The shard's slots are another's now.
			a.registry(known(a, false), known(b, true))
			a.commit(func() { a.do([]string{"INCR", keyIn(of[a], 4)}) })
			r.w.Eventually(30*time.Second, "the sink gives up what is unfinished", free)
			next := newLane(r.TB, r.kafka, r.prefix, b.shard+1, 1, of[b], r.source)
			of[next] = of[b]
			next.snapshot()
			r.same(s)
			r.noneStaged()
			s.stop()
			s = start()
			r.same(s)
			r.w.Eventually(30*time.Second, "a restart begins behind it", free)
			b = next
			a.registry(known(a, false), known(b, false))
		})
	}
	s.stop()
}

// changeWatermarks changes the watermarks of a partition as a person or a fault would.
func (r *rig) changeWatermarks(p int32, change func(*watermark)) {
	r.Helper()
	n := 0
	for _, node := range r.target.Masters() {
		c := node.Client()
		for _, key := range c.Keys(r.Context(), "redriver!w!"+r.name+"!*").Val() {
			m, err := parseWatermark(c.Get(r.Context(), key).Val())
			if err != nil {
				r.Fatal(err)
			}
			if m.partition == p {
				change(&m)
				c.Set(r.Context(), key, m.String(), 0)
				n++
			}
		}
	}
	if n == 0 {
		r.Fatalf("partition %d has no watermark", p)
	}
}

// TestRefusedTogether: of several units that are refused in one go none is passed over by the next start.
//
// Fault (sink): the target refuses several writes at once. None is passed over by the next start.
func TestRefusedTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, 0)
	r.partitions = 1
	l := r.lane()
	l.snapshot()
	cfg := r.config()
	cfg.ExistingKeys = ExistingKeep
	// Two in one slot, one in a slot of the other node.
	keys := []string{"{a}n", "{a}m", "{b}n"}
	for _, k := range keys {
		r.target.Client().RPush(t.Context(), k, "x")
	}
	l.commit(func() {
		for _, k := range keys {
			l.do([]string{"SET", k + ":side", "1"}, []string{"INCR", k})
		}
	})
	err := r.start(cfg).await()
	if e := (*RefusedError)(nil); !errors.As(err, &e) || !e.Exec {
		t.Fatalf("got %v", err)
	}
	for _, k := range keys {
		e := (*RecordError)(nil)
		if err := r.start(cfg).await(); !errors.As(err, &e) || !strings.Contains(err.Error(), "by hand") {
			t.Fatalf("%s was passed over: %v", k, err)
		}
		r.target.Client().Del(t.Context(), k)
		r.target.Client().Set(t.Context(), k, 1, 0)
		r.changeWatermarks(0, func(m *watermark) {
			if len(m.refused) == 0 || m.refused[0] != e.Offset {
				t.Fatalf("refused are %d, the sink stopped at %d", m.refused, e.Offset)
			}
			m.refused = m.refused[1:]
		})
	}
	s := r.start(cfg)
	r.same(s)
	s.stop()
}

// TestLogWrittenOnBehindALostEnd: a log that lost its end and was written on has another snapshot where the target believes to
// be behind it.
//
// Fault (sink): brokers lost the end of the log, and it was written on. The sink notices and stops.
func TestLogWrittenOnBehindALostEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 0)
	r.partitions = 1
	l := r.lane()
	l.source.Set(t.Context(), "a", 1, 0)
	l.snapshot()
	s := r.start(r.config())
	r.same(s)
	r.waitApplied(s)
	r.w.Eventually(30*time.Second, "the watermark is written", func() error {
		if m := l.watermark(r); m.applied < s.Status().Partitions[0].Applied {
			return fmt.Errorf("it is at %d", m.applied)
		}
		return nil
	})
	s.stop()

	// What was lost and what took its place is as long, to the target.
	l.source.Set(t.Context(), "a", 2, 0)
	l.snapshot()
	l.commit(func() { l.do([]string{"SET", "b", "1"}) })
	adm, err := r.kafka.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	ends, err := adm.ListEndOffsets(t.Context(), offsets.ChangesTopic(r.prefix))
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(offsets.ChangesTopic(r.prefix), 0)
	behind := end.Offset
	l.commit(func() { l.do([]string{"SET", "c", "1"}) })
	r.changeWatermarks(0, func(m *watermark) {
		m.restart, m.applied, m.sent = behind, behind, behind
	})
	err = r.start(r.config()).await()
	if e := (*StartError)(nil); !errors.As(err, &e) || !strings.Contains(e.Why, "its end was lost") {
		t.Fatalf("got %v", err)
	}
	if r.target.Client().Exists(t.Context(), "c").Val() != 0 {
		t.Error("it wrote on")
	}
}

// watermark is that of the only partition at the only node.
func (l *lane) watermark(r *rig) (m watermark) {
	r.changeWatermarks(0, func(found *watermark) { m = *found })
	return m
}
