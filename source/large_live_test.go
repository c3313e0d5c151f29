package source_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/rdb"
)

// memoryGoal is what a source may use, whatever it carries.
const memoryGoal = 256 << 20

// large is set by "make large", which runs the live tests of large values at full size.
func large() bool { return os.Getenv("REDRIVER_LARGE") != "" }

// fillLarge makes a hash of 300 MB, a string of 200 MB and a sorted set of 5 million members, all in one shard, among small
// keys; a quarter of that where it is not asked for more. They are kept uncompressed in the snapshot.
func fillLarge(t *testing.T, c *redis.ClusterClient) (keys []string) {
	t.Helper()
	ctx := t.Context()
	hash, set, text := "{t}hash", "{t}set", "{t}text"
	const step = 50_000
	loops, stringBytes := 25, 80<<20
	if large() {
		loops, stringBytes = 100, 200<<20
	}
	for i := range loops {
		if err := c.Eval(ctx, `for i = 1, ARGV[2] do redis.call('zadd', KEYS[1], i * 7 % 1000, 'member:'..(ARGV[1] + i)) end return 1`, []string{set}, i*step, step).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Eval(ctx, `for i = 1, 600 do redis.call('hset', KEYS[1], ARGV[1]..':'..i, string.rep(string.char(32 + i % 90), 5000)..i) end return 1`, []string{hash}, i).Err(); err != nil {
			t.Fatal(err)
		}
	}
	big := make([]byte, stringBytes)
	rnd := rand.NewChaCha8([32]byte{})
	_, _ = rnd.Read(big)
	if err := c.Set(ctx, text, big, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.PExpireAt(ctx, text, time.Now().Add(time.Hour)).Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := c.Set(ctx, fmt.Sprint("small", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return []string{hash, set, text}
}

// sum of a value's bytes as they are in a snapshot.
type sum [sha256.Size]byte

func dumpSum(t *testing.T, c *redis.ClusterClient, key string) (typ byte, s sum) {
	t.Helper()
	payload, err := c.Dump(t.Context(), key).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	typ, value, _, err := rdb.SplitPayload(payload)
	if err != nil {
		t.Fatal(err)
	}
	return typ, sha256.Sum256(value)
}

// reading goes through a topic as a consumer does that holds no event whole.
type reading struct {
	chain.Checker
	sums map[string]sum // of the newest entry of a key
	seen map[string]int
	open map[int32]hash.Hash
}

func readTopic(t *testing.T, kc kafka.Config, topic string) *reading {
	t.Helper()
	r := &reading{sums: map[string]sum{}, seen: map[string]int{}, open: map[int32]hash.Hash{}}
	adm, err := kc.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	spans, err := kafka.Spans(t.Context(), adm, topic)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := kc.ReadCommitted(ctx, topic, spans, r.take); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reading) take(rec *kgo.Record) error {
	if err := r.Check(rec); err != nil {
		return err
	}
	var e event.Event
	if !codec.IsChunk(rec.Value) {
		if err := codec.DecodeRaw(rec.Key, rec.Value, &e); err != nil {
			return err
		}
		if e.Kind == event.Entry {
			r.sums[string(e.Key)] = sha256.Sum256(e.Value)
			r.seen[string(e.Key)]++
		}
		return nil
	}
	c, err := codec.ParseChunk(rec.Value)
	if err != nil {
		return err
	}
	piece := c.Piece
	if c.First() {
		if err := codec.DecodeRaw(rec.Key, piece, &e); err != nil {
			return err
		}
		r.open[rec.Partition], piece = sha256.New(), e.Value
	}
	h := r.open[rec.Partition]
	h.Write(piece)
	if c.Last() {
		r.sums[string(rec.Key)] = sum(h.Sum(nil))
		r.seen[string(rec.Key)]++
	}
	return nil
}

func (r *reading) must(t *testing.T, c *redis.ClusterClient, keys []string) {
	t.Helper()
	for _, k := range keys {
		if typ, want := dumpSum(t, c, k); r.sums[k] != want {
			t.Errorf("%s (type %d): what the topic holds is not what DUMP answers", k, typ)
		}
	}
	if n := r.Counts[event.Entry]; n < 1000 {
		t.Errorf("%d entries", n)
	}
}

// binarySource runs the project's binary as a source.
func binarySource(t *testing.T, w *testkit.World, broker, prefix string, c *redistest.Cluster, extra ...string) (run func() *testkit.Redriver) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "source.yaml")
	text := fmt.Sprintf("worker:\n  data.dir: %s\n  kafka.brokers: [%q]\nconnectors:\n  %s:\n    type: source\n    topic.prefix: %s\n    topic.partitions: 8\n    redis.address: %s\n",
		filepath.Join(dir, "data"), broker, prefix, prefix, c.Addrs()[0])
	for i := range extra {
		extra[i] = "    " + extra[i] + "\n"
	}
	if err := os.WriteFile(path, []byte(text+strings.Join(extra, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() *testkit.Redriver { return w.Redriver("run", "--config", path, "--no-progress") }
}

// complete waits until each of the shards has a complete snapshot.
func complete(w *testkit.World, t *testing.T, kc kafka.Config, prefix string, shards int) {
	t.Helper()
	w.Eventually(3*time.Minute, "snapshots complete", func() error {
		s, err := stateOf(t.Context(), kc, prefix)
		if err != nil {
			return err
		}
		if n := len(s.Newest()); n != shards {
			return fmt.Errorf("%d of %d", n, shards)
		}
		return nil
	})
}

func stateOf(ctx context.Context, kc kafka.Config, prefix string) (*offsets.State, error) {
	adm, err := kc.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	var state offsets.State
	spans, err := kafka.Spans(ctx, adm, offsets.Topic(prefix))
	if err != nil {
		return nil, err
	}
	return &state, kc.ReadCommitted(ctx, offsets.Topic(prefix), spans, func(r *kgo.Record) error { return state.Apply(prefix, r.Key, r.Value) })
}

// insideText waits until some of the text is published, and not all of it.
func insideText(w *testkit.World, t *testing.T, kc kafka.Config, topic string) {
	t.Helper()
	cl, err := kc.Client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		for it := cl.PollFetches(ctx).RecordIter(); !it.Done(); {
			rec := it.Next()
			if string(rec.Key) != "{t}text" || !codec.IsChunk(rec.Value) {
				continue
			}
			if c, err := codec.ParseChunk(rec.Value); err == nil && c.Index > 10 {
				return
			}
		}
	}
	t.Fatal("the text is never published")
}

func TestLargeValuesPassInBoundedMemory(t *testing.T) {
	for version, embedded := range map[string]bool{"redis-7.0": true, "redis-8.6": false} {
		t.Run(version, func(t *testing.T) {
			w := testkit.New(t)
			c := w.ClusterWith(redistest.Config{Version: version, Masters: 3, Args: []string{"--rdbcompression", "no", "--repl-diskless-sync-delay", "0"}})
			keys := fillLarge(t, c.Client())
			var addr string
			if embedded {
				addr = w.FakeKafka().Addr()
			} else {
				addr = w.Kafka().Addr()
			}
			kc, prefix := kafka.Config{Brokers: []string{addr}}, w.Name("l")
			run := binarySource(t, w, addr, prefix, c)
			began := time.Now()
			p := run()
			complete(w, t, kc, prefix, 3)
			t.Logf("%v for the snapshot, %+v", time.Since(began), p.Usage())
			if peak := p.Usage().PeakRSSBytes; peak > memoryGoal {
				t.Errorf("the source used %d MiB", peak>>20)
			}
			p.Stop()
			r := readTopic(t, kc, prefix+".changes")
			r.must(t, c.Client(), keys)
			t.Logf("%v, %d chunks", r.Counts, r.Chunks)
		})
	}
}

func TestInterruptionsInsideALargeValue(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	c := w.ClusterWith(redistest.Config{Masters: 3, Args: []string{"--rdbcompression", "no", "--repl-diskless-sync-delay", "0"}})
	keys := fillLarge(t, c.Client())
	for name, inside := range map[string]func(*testing.T, *testkit.World, *redistest.Cluster, []string) bool{"kill": killInside, "abort": abortInside} {
		t.Run(name, func(t *testing.T) {
			w := testkit.New(t)
			for range 6 { // on a busy machine the value may be whole before it is interrupted
				if inside(t, w, c, keys) || t.Failed() {
					return
				}
			}
			t.Error("the value was never met in the middle")
		})
	}
}

// killInside reports whether the value was met in the middle, as abortInside does.
func killInside(t *testing.T, w *testkit.World, c *redistest.Cluster, keys []string) bool {
	t.Helper()
	addr, prefix := w.Kafka().Addr(), w.Name("l")
	kc := kafka.Config{Brokers: []string{addr}}
	run := binarySource(t, w, addr, prefix, c)
	p := run()
	insideText(w, t, kc, prefix+".changes")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	p = run()
	complete(w, t, kc, prefix, 3)
	if peak := p.Usage().PeakRSSBytes; peak > memoryGoal {
		t.Errorf("the source used %d MiB", peak>>20)
	}
	p.Stop()
	r := readTopic(t, kc, prefix+".changes")
	r.must(t, c.Client(), keys)
	if r.Abandoned > 1 {
		t.Errorf("%d events were given up, want the one in which the source was killed", r.Abandoned)
	}
	t.Logf("%v, %d chunks, generations %v, %v", r.Counts, r.Chunks, r.Generations, r.seen["{t}text"])
	return r.Abandoned == 1
}

func abortInside(t *testing.T, w *testkit.World, c *redistest.Cluster, keys []string) bool {
	t.Helper()
	addr, prefix := w.Kafka().Addr(), w.Name("l")
	kc := kafka.Config{Brokers: []string{addr}}
	p := binarySource(t, w, addr, prefix, c)()
	insideText(w, t, kc, prefix+".changes")
	signal := func(s syscall.Signal) {
		if err := p.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	// Another producer of the lanes' names: whatever is open is aborted.
	for shard := event.Shard(1); shard <= 3; shard++ {
		cl, err := kc.Client(kgo.TransactionalID(offsets.TransactionalID(prefix, shard)))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := cl.ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
		cl.Close()
	}
	signal(syscall.SIGCONT)
	complete(w, t, kc, prefix, 3)
	interrupted := strings.Contains(p.Log(), "publishing interrupted")
	if !interrupted {
		_ = p.Kill() // what it was fenced out of was its last
		return false
	}
	p.Stop()
	r := readTopic(t, kc, prefix+".changes")
	r.must(t, c.Client(), keys)
	if r.Abandoned > 1 {
		t.Errorf("%d events were given up, want the one in which the transaction was aborted", r.Abandoned)
	}
	for s, g := range r.Generations {
		if g != 1 {
			t.Errorf("shard %d is in generation %d: its snapshot was not gone on with", s, g)
		}
	}
	return r.Abandoned == 1
}
