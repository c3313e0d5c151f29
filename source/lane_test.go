package source

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/source/spool"
)

var laneID = event.ReplID{1, 2, 3}

func emptyRDB() []byte { return append([]byte("REDIS0010\xff"), make([]byte, 8)...) }

type laneWorld struct {
	t     *testing.T
	s     *Source
	adm   *kadm.Client
	topic kafka.Topic
	sp    *spool.Spool
}

func newLaneWorld(t *testing.T) *laneWorld {
	t.Helper()
	f, err := kafkatest.StartFake(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	kc := kafka.Config{Brokers: []string{f.Addr()}}
	s, err := New(Config{Connector: "rv", Prefix: "rv", Kafka: kc, DataDir: t.TempDir(), Partitions: 4, Dialer: &topology.Dialer{}, Seeds: []string{"127.0.0.1:1"}}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	adm, err := kc.Admin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(adm.Close)
	topic, err := s.topics(t.Context(), adm)
	if err != nil {
		t.Fatal(err)
	}
	return &laneWorld{t: t, s: s, adm: adm, topic: topic, sp: openSpool(t)}
}

// lane is a fresh one, as after a restart, whose link is played by the test.
func (w *laneWorld) lane() *lane {
	g := newGate()
	g.set(true)
	lk := &link{cfg: &w.s.cfg, arrivals: &w.s.arrivals, gate: g, spool: w.sp, status: &ShardStatus{}, log: w.s.log, wake: make(chan struct{}, 1)}
	lk.replID.Store(&laneID)
	l := &lane{cfg: &w.s.cfg, shard: 1, topic: w.topic, adm: w.adm, spool: w.sp, link: lk, gate: g, status: lk.status, log: w.s.log, ready: make(chan struct{}), isReady: true, budget: w.s.cfg.budget(1), arrivals: &w.s.arrivals, pieces: &w.s.pieces}
	l.owned = func() slot.Set { var s slot.Set; s.AddRange(slot.Range{First: 0, Last: slot.Count - 1}); return s }
	return l
}

func (w *laneWorld) begin(k spool.Kind, off event.Offset, bytes []byte) {
	w.t.Helper()
	if _, err := w.sp.Begin(spool.Header{Kind: k, ReplID: laneID, Offset: off}); err != nil {
		w.t.Fatal(err)
	}
	w.append(bytes)
	if k == spool.Snapshot && len(bytes) > 0 {
		w.sp.Done()
	}
}

func (w *laneWorld) append(b []byte) {
	w.t.Helper()
	if err := w.sp.Append(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
}

// run runs the lane until cond, or until the time is over; it reports whether cond came true.
func (w *laneWorld) run(l *lane, limit time.Duration, cond func(Snapshot) bool) bool {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.run(ctx) }()
	ok := false
	for end := time.Now().Add(limit); !ok && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ok = cond(l.status.read())
	}
	cancel()
	if err := <-done; err != nil {
		w.t.Log("lane:", err)
	}
	return ok
}

func (w *laneWorld) must(l *lane, cond func(Snapshot) bool) {
	w.t.Helper()
	if !w.run(l, 10*time.Second, cond) {
		w.t.Fatalf("lane stands at %+v", l.status.read())
	}
}

func at(off event.Offset) func(Snapshot) bool {
	return func(s Snapshot) bool { return s.Committed.Offset == off }
}

// keys in partitions of their own (4 partitions).
func keyIn(p int32) string {
	for i := 0; ; i++ {
		if k := fmt.Sprint("k", i); slot.Partition(slot.Of([]byte(k)), 4) == p {
			return k
		}
	}
}

func TestAQuietShardThatIsRestartedTwiceTakesAFalseAlarm(t *testing.T) {
	w := newLaneWorld(t)
	one, two := commands("SET "+keyIn(0)+" 1"), commands("SET "+keyIn(3)+" 1")
	w.begin(spool.Snapshot, 100, emptyRDB())
	w.begin(spool.Stream, 100, one)
	w.must(w.lane(), at(100+event.Offset(len(one))))
	// restart; one more write, to another partition
	w.append(two)
	w.must(w.lane(), at(100+event.Offset(len(one)+len(two))))
	// restart
	l := w.lane()
	pos, err := l.position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.checkLog(t.Context(), pos); err != nil {
		t.Errorf("nothing is wrong with the log, but: %v (ends %v, wrote %v)", err, pos.Ends, pos.Wrote)
	}
}

func TestPositionOnlyAfterRestartTakesAFalseAlarm(t *testing.T) {
	t.Parallel()
	w := newLaneWorld(t)
	one, ping := commands("SET "+keyIn(0)+" 1"), commands("PING")
	w.begin(spool.Snapshot, 100, emptyRDB())
	w.begin(spool.Stream, 100, one)
	w.must(w.lane(), at(100+event.Offset(len(one))))
	w.append(ping)
	w.run(w.lane(), time.Second, func(Snapshot) bool { return false }) // commits the keep-alive when it stops
	l := w.lane()
	pos, _ := l.position(t.Context())
	if _, err := l.checkLog(t.Context(), pos); err != nil {
		t.Errorf("nothing is wrong with the log, but: %v", err)
	}
}

func TestASectionThatEndsInsideAUnit(t *testing.T) {
	w := newLaneWorld(t)
	stream := commands("SET a 1", "SET b 2", "SET c 3")
	half := len(commands("SET a 1")) + 5
	w.begin(spool.Snapshot, 100, emptyRDB())
	w.begin(spool.Stream, 100, stream[:half])
	// What goOn does behind a restart (the recovered section is Done) or a failover: a new section at the old one's end.
	w.begin(spool.Stream, 100+event.Offset(half), stream[half:])
	l := w.lane()
	if w.run(l, 20*time.Second, at(100+event.Offset(len(stream)))) {
		return
	}
	t.Errorf("not followed over the joint; a resync was asked for: %v", l.link.wanted.Load() > 0)
	// The link takes the new snapshot that was asked for, whole.
	l.link.served.Store(l.link.wanted.Load())
	w.begin(spool.Snapshot, 1000, emptyRDB())
	w.begin(spool.Stream, 1000, commands("SET d 4"))
	l2 := w.lane()
	if !w.run(l2, 20*time.Second, func(s Snapshot) bool { return s.Generation == 2 }) {
		t.Errorf("the new snapshot lies whole in the spool and is never published; asked for another: %v; %+v", (l2.link.wanted.Load() > 0), l2.status.read())
	}
}

func TestADamagedSnapshotIsGivenUpForTheNextOne(t *testing.T) {
	t.Parallel()
	w := newLaneWorld(t)
	bad := append([]byte("REDIS0010\xff"), 1, 2, 3, 4, 5, 6, 7, 8) // the checksum is wrong
	w.begin(spool.Snapshot, 100, bad)
	w.begin(spool.Stream, 100, commands("SET a 1"))
	l := w.lane()
	w.run(l, time.Second, func(s Snapshot) bool { return false })
	t.Logf("asked for another: %v", l.link.wanted.Load() > 0)
	w.begin(spool.Snapshot, 200, emptyRDB())
	w.begin(spool.Stream, 200, commands("SET b 1"))
	l = w.lane()
	if !w.run(l, 20*time.Second, func(s Snapshot) bool { return s.Committed.Offset > 200 }) {
		t.Errorf("the good snapshot behind it is never published: %+v, asked for another: %v", l.status.read(), l.link.wanted.Load() > 0)
	}
}

func TestATrimmedSnapshotAfterAnAbortIsGivenUpForTheNextOne(t *testing.T) {
	w := newLaneWorld(t)
	w.begin(spool.Snapshot, 100, nil)
	w.append(emptyRDB()[:9])
	l := w.lane()
	w.must(l, func(s Snapshot) bool { return s.Generation == 1 })
	sec, _ := w.sp.Last()
	if err := w.sp.Trim(spool.Place{Section: sec.Number, Byte: 9}); err != nil { // relieve
		t.Fatal(err)
	}
	w.append(emptyRDB()[9:])
	w.sp.Done()
	w.begin(spool.Stream, 100, commands("SET a 1"))
	// The link has taken the next snapshot, as asked.
	w.begin(spool.Snapshot, 200, emptyRDB())
	w.begin(spool.Stream, 200, commands("SET b 1"))
	l = w.lane()
	l.isReady = true
	if !w.run(l, 20*time.Second, func(s Snapshot) bool { return s.Committed.Offset > 200 }) {
		t.Errorf("the good snapshot behind it is never published: %+v, asked for another: %v", l.status.read(), l.link.wanted.Load() > 0)
	}
}

func TestReservationInterrupted(t *testing.T) {
	w := newLaneWorld(t)
	w.begin(spool.Snapshot, 100, nil)
	l := w.lane()
	w.must(l, func(s Snapshot) bool { return s.Generation == 1 })
	if n := l.link.acknowledged(); n != 0 {
		t.Errorf("offset %d is acknowledged though nothing of the snapshot has arrived", n)
	}
	// The session ends here (Kafka); the next one resumes the generation.
	w.append(emptyRDB())
	w.sp.Done()
	w.begin(spool.Stream, 100, commands("SET a 1"))
	w.must(l, func(s Snapshot) bool { return s.Committed.Offset > 100 })
	for _, b := range w.state().Newest() {
		for p, begin := range b.Begin {
			if begin != 1 { // behind the marker with which the lane sealed what was left of its producer's transactions
				t.Errorf("boundary says that the snapshot begins at offset %d of partition %d; it is 1", begin, p)
			}
		}
	}
}

func (w *laneWorld) state() *offsets.State {
	topic := offsets.Topic("rv")
	spans, err := kafka.Spans(w.t.Context(), w.adm, topic)
	if err != nil {
		w.t.Fatal(err)
	}
	var state offsets.State
	if err := w.s.cfg.Kafka.ReadCommitted(w.t.Context(), topic, spans, func(r *kgo.Record) error { return state.Apply("rv", r.Key, r.Value) }); err != nil {
		w.t.Fatal(err)
	}
	return &state
}

func TestALostPositionReusesNoGeneration(t *testing.T) {
	w := newLaneWorld(t)
	w.begin(spool.Snapshot, 100, emptyRDB())
	w.begin(spool.Stream, 100, commands("SET a 1"))
	w.must(w.lane(), func(s Snapshot) bool { return s.Committed.Offset > 100 })
	old, _ := w.lane().position(t.Context())
	w.begin(spool.Snapshot, 1000, emptyRDB())
	w.begin(spool.Stream, 1000, commands("SET a 1"))
	w.must(w.lane(), func(s Snapshot) bool { return s.Committed.Offset > 1000 })
	// The offsets partition loses its tail.
	k, v, _ := offsets.PositionRecord("rv", old)
	cl, err := w.s.cfg.Kafka.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: offsets.Topic("rv"), Partition: offsets.LanePartition(1), Key: k, Value: v}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	l := w.lane()
	go func() {
		for l.link.wanted.Load() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		w.begin(spool.Snapshot, 2000, emptyRDB())
		w.begin(spool.Stream, 2000, commands("SET a 1"))
	}()
	w.must(l, func(s Snapshot) bool { return s.Committed.Offset > 2000 })
	var c chain.Checker
	if err := c.All(t.Context(), w.s.cfg.Kafka, "rv.changes"); err != nil {
		t.Errorf("the log is no chain any more: %v", err)
	}
}

// The embedded broker's producer ids are 63 bit hashes of the transactional id.
func TestChunksOfEveryAttemptCanBeJoined(t *testing.T) {
	for _, name := range []string{"src-1", "src-2", "src-3", "demo-1", "demo-2", "demo-3", "source-1", "source-2", "from-a-1", "prod-1", "redis-1", "sync-1", "sync-2", "sync-3", "orders-1"} {
		h := fnv.New64()
		h.Write([]byte(name))
		id := int64(h.Sum64()) & math.MaxInt64
		attempt := uint64(id)<<16 | uint64(uint16(3))
		value := make([]byte, 5000)
		binary.BigEndian.PutUint64(value, 7)
		j := codec.Joiner{MaxBytes: 1 << 20}
		for i := range codec.Chunks(len(value), 2000) {
			if _, _, err := j.Add(codec.AppendChunk(nil, value, 1, attempt, i, 2000)); err != nil {
				t.Errorf("%s (attempt %x): %v", name, attempt, err)
				break
			}
		}
	}
}

func startLive(t *testing.T, w *testkit.World, c *redistest.Cluster) (*Source, func()) {
	s, err := New(Config{Connector: "src", Prefix: w.Name("s"), Kafka: kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}, DataDir: t.TempDir(), Partitions: 16, Dialer: &topology.Dialer{}, Seeds: c.Addrs()[:1]},
		slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Log("run:", err)
		}
	}
}

func streaming(s *Source, want int) func() error {
	return func() error {
		st := s.Status()
		for _, n := range st {
			if n.Stage != StageStreaming || n.Generation == 0 {
				return fmt.Errorf("shard %d: %s %s", n.Shard, n.Stage, n.LastError)
			}
		}
		if len(st) != want {
			return fmt.Errorf("%d shards", len(st))
		}
		return nil
	}
}

func TestDisklessDelayAboveTheHandshakeTimeout(t *testing.T) {
	t.Parallel()
	// By the link, and by both kinds of channels.
	for version, args := range map[string][]string{
		redistest.DefaultVersion: nil, "redis-8.6": nil, "valkey-9.1": {"--dual-channel-replication-enabled", "yes"},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := testkit.New(t)
			args := append([]string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "12"}, args...)
			c := w.ClusterWith(redistest.Config{Version: version, Masters: 3, Args: args})
			s, stop := startLive(t, w, c)
			defer stop()
			if err := testkit.Poll(t.Context(), 45*time.Second, streaming(s, 3)); err != nil {
				t.Error(err)
			}
			// A keep-alive that is counted as a part of the stream would show.
			for n := range 100 {
				if err := c.Client().Set(t.Context(), fmt.Sprint("key:", n), n, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			w.Eventually(20*time.Second, "all is committed, and no more than was sent", func() error {
				for _, n := range s.Status() {
					if n.Units < 10 || n.Generation != 1 {
						return fmt.Errorf("shard %d has published %d units in generation %d", n.Shard, n.Units, n.Generation)
					}
					for _, m := range c.Masters() {
						sent, err := m.Client().InfoMap(t.Context(), "replication").Result()
						if err != nil {
							return err
						}
						if offset := sent["Replication"]["master_repl_offset"]; m.Addr() == n.Master && offset != fmt.Sprint(n.Committed.Offset) {
							return fmt.Errorf("shard %d is at offset %d, its master at %s", n.Shard, n.Committed.Offset, offset)
						}
					}
				}
				return nil
			})
		})
	}
}

func TestAReplicaThatMovedToAnotherShard(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	c := w.Cluster(3, 1)
	s, stop := startLive(t, w, c)
	defer stop()
	w.Eventually(30*time.Second, "streams", streaming(s, 3))
	masters := c.Masters()
	first, _ := masters[0].Client().Do(t.Context(), "CLUSTER", "MYID").Text()
	moved := c.ReplicasOf(1)[0]
	if err := moved.Client().Do(t.Context(), "CLUSTER", "REPLICATE", first).Err(); err != nil {
		t.Fatal(err)
	}
	w.Eventually(20*time.Second, "all know", func() error {
		for _, n := range c.Nodes() {
			text, err := n.Client().ClusterNodes(t.Context()).Result()
			if err != nil {
				return err
			}
			if strings.Count(text, "slave "+first) != 2 {
				return fmt.Errorf("%s does not know", n.Addr())
			}
		}
		return nil
	})
	before := map[event.Shard]string{}
	for _, n := range s.Status() {
		before[n.Shard] = n.Master
	}
	// A network blip between us and the second master.
	if err := masters[1].Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	w.Eventually(30*time.Second, "streams", streaming(s, 3))
	for _, n := range s.Status() {
		if n.Master != before[n.Shard] {
			t.Errorf("shard %d followed %s and follows %s now (generation %d, slots %s)", n.Shard, before[n.Shard], n.Master, n.Generation, n.Slots)
		}
	}
}

func rdbEntry(keys ...string) (b []byte) {
	for _, k := range keys {
		b = append(b, 0, byte(len(k)))
		b = append(b, k...)
		b = append(b, 1, 'v')
	}
	return b
}

func TestNoTransactionStaysOpenWhileTheMasterMakesItsSnapshot(t *testing.T) {
	w := newLaneWorld(t)
	w.begin(spool.Snapshot, 100, nil)
	w.append(append(emptyRDB()[:9:9], rdbEntry("a")...))
	l := w.lane()
	if !w.run(l, 3*time.Second, func(s Snapshot) bool { return s.SnapshotEntries == 1 }) {
		t.Errorf("an entry is in an open transaction for 3 s: %+v", l.status.read())
	}
}

func TestASnapshotAtTheSameOffsetIsNotTheSameSnapshot(t *testing.T) {
	t.Parallel()
	w := newLaneWorld(t)
	w.begin(spool.Snapshot, 100, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		w.append(append(emptyRDB()[:9:9], rdbEntry("a")...))
		time.Sleep(400 * time.Millisecond)
		w.append(rdbEntry("b"))
		time.Sleep(400 * time.Millisecond)
		w.append([]byte{0})
	})
	w.must(w.lane(), func(s Snapshot) bool { return s.SnapshotEntries == 2 })
	wg.Wait()
	// The link and Kafka were lost; the source is idle, and its next RDB has another order.
	w.begin(spool.Snapshot, 100, append(append(emptyRDB()[:9:9], rdbEntry("c", "a", "b")...), emptyRDB()[9:]...))
	w.begin(spool.Stream, 100, commands("SET d 1"))
	w.must(w.lane(), func(s Snapshot) bool { return s.Committed.Offset > 100 })
	newest, got := event.Generation(0), map[event.Generation]string{}
	spans, _ := kafka.Spans(t.Context(), w.adm, "rv.changes")
	err := w.s.cfg.Kafka.ReadCommitted(t.Context(), "rv.changes", spans, func(r *kgo.Record) error {
		var e event.Event
		if err := codec.DecodeRaw(r.Key, r.Value, &e); err != nil {
			return err
		}
		newest = max(newest, e.Generation)
		if e.Kind == event.Entry {
			got[e.Generation] += string(e.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"a", "b", "c"} {
		if strings.Count(got[newest], k) != 1 {
			t.Errorf("generation %d is complete and holds %q: %s is missing or there twice", newest, got[newest], k)
		}
	}
}

func TestAPlaceThatWasTrimmedNeedsANewGeneration(t *testing.T) {
	w := newLaneWorld(t)
	one, two := commands("SET a 1"), commands("SET a 2")
	w.begin(spool.Snapshot, 100, emptyRDB())
	w.begin(spool.Stream, 100, one)
	w.must(w.lane(), at(100+event.Offset(len(one))))
	// The brokers have lost the last transaction whole (data and position), the spool had been trimmed behind it.
	w.append(two)
	sec, _ := w.sp.Last()
	if err := w.sp.Trim(spool.Place{Section: sec.Number, Byte: int64(len(one) + len(two))}); err != nil {
		t.Fatal(err)
	}
	l := w.lane()
	w.run(l, 20*time.Second, func(Snapshot) bool { return l.link.wanted.Load() > 0 })
	if l.link.wanted.Load() == 0 {
		t.Errorf("tries again for ever: %s", l.status.read().LastError)
	}
}
