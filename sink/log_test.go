package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// lane is a source in miniature: what it does to its own server it publishes.
type lane struct {
	t          testing.TB
	cl         *kgo.Client
	topic      kafka.Topic
	prefix     string
	shard      event.Shard
	generation event.Generation
	replID     event.ReplID
	offset     event.Offset
	prev       map[int32]event.Offset
	number     map[int32]uint64
	slots      []slot.Range
	limit      int // of a record value, in bytes
	attempt    uint64
	source     *redis.Client
	ago        time.Duration // how long ago the link read what is published
	// begins are the Kafka offsets of the present snapshot's begin.
	begins map[int32]int64
}

const everything = slot.Count - 1

func newLane(t testing.TB, cfg kafka.Config, prefix string, shard event.Shard, partitions int32, slots slot.Range, source *redistest.Node) *lane {
	t.Helper()
	adm, err := cfg.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	topic := ensure(t, adm, offsets.ChangesTopic(prefix), partitions)
	ensure(t, adm, offsets.Topic(prefix), offsets.Partitions)
	cl, err := cfg.Client(kgo.TransactionalID(fmt.Sprintf("%s-%d", prefix, shard)), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	l := &lane{
		t: t, cl: cl, topic: topic, prefix: prefix, shard: shard, offset: 1000, slots: []slot.Range{slots}, limit: 1 << 20,
		prev: map[int32]event.Offset{}, number: map[int32]uint64{}, begins: map[int32]int64{},
	}
	l.replID[0] = byte(shard)
	if source != nil {
		l.source = source.Client()
	}
	return l
}

func ensure(t testing.TB, adm *kadm.Client, name string, partitions int32) kafka.Topic {
	t.Helper()
	topic, err := kafka.Ensure(t.Context(), adm, kafka.TopicSpec{Name: name, Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func (l *lane) partition(s slot.Slot) int32 { return slot.Partition(s, int(l.topic.Partitions)) }

func (l *lane) partitions() []int32 {
	var out []int32
	for p := range l.topic.Partitions {
		r := slot.PartitionRange(p, int(l.topic.Partitions))
		for _, s := range l.slots {
			if r.First <= s.Last && s.First <= r.Last {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

// commit runs fn in one Kafka transaction.
func (l *lane) commit(fn func()) {
	l.t.Helper()
	if err := l.cl.BeginTransaction(); err != nil {
		l.t.Fatal(err)
	}
	fn()
	if err := l.cl.Flush(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	if err := l.cl.EndTransaction(l.t.Context(), kgo.TryCommit); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lane) publish(p int32, e *event.Event, done func(*kgo.Record)) {
	e.Shard, e.Generation, e.CapturedMs = l.shard, l.generation, time.Now().Add(-l.ago).UnixMilli()
	if e.Kind != event.HistoryChange {
		e.ReplID = l.replID
	}
	value := codec.AppendRaw(nil, e)
	n := codec.Chunks(len(value), l.limit)
	l.attempt++
	for i := range n {
		v := value
		if n > 1 {
			v = codec.AppendChunk(nil, value, l.shard, l.attempt, i, l.limit)
		}
		l.cl.Produce(context.Background(), &kgo.Record{Topic: l.topic.Name, Partition: p, Key: codec.RecordKey(e), Value: v},
			func(r *kgo.Record, err error) {
				if err != nil {
					l.t.Errorf("produce: %v", err)
				} else if done != nil {
					done(r)
				}
			})
	}
}

// begin opens a generation in all partitions.
func (l *lane) begin() {
	l.generation++
	l.number = map[int32]uint64{}
	type at struct {
		p int32
		o int64
	}
	got := make(chan at, 64)
	for _, p := range l.partitions() {
		l.prev[p] = l.offset
		l.publish(p, &event.Event{Kind: event.SnapshotBegin, Begin: l.offset, End: l.offset, Slots: l.slots},
			func(r *kgo.Record) { got <- at{p, r.Offset} })
	}
	if err := l.cl.Flush(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	for range l.partitions() {
		a := <-got
		l.begins[a.p] = a.o
	}
}

// entries publishes every key of the source that lies in our slots.
func (l *lane) entries() {
	ctx := l.t.Context()
	for _, key := range l.sourceKeys() {
		payload, err := l.source.Dump(ctx, key).Result()
		if err != nil {
			l.t.Fatal(err)
		}
		p, e := l.entry(key, payload)
		if at := l.source.PExpireTime(ctx, key).Val(); at > 0 {
			e.ExpireAtMs = at.Milliseconds()
		}
		l.publish(p, e, nil)
	}
}

func (l *lane) sourceKeys() []string {
	var keys []string
	it := l.source.Scan(l.t.Context(), 0, "", 1000).Iterator()
	for it.Next(l.t.Context()) {
		s := slot.Of([]byte(it.Val()))
		for _, r := range l.slots {
			if r.First <= s && s <= r.Last {
				keys = append(keys, it.Val())
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// entry makes an entry of what DUMP gave: type, value, version and checksum.
func (l *lane) entry(key, payload string) (int32, *event.Event) {
	s := slot.Of([]byte(key))
	p := l.partition(s)
	l.number[p]++
	b := []byte(payload)
	n := len(b)
	return p, &event.Event{
		Kind: event.Entry, Begin: l.offset, End: l.offset, Number: l.number[p], Slot: s, Key: []byte(key),
		Type: b[0], Value: b[1 : n-10], RDBVersion: uint16(b[n-10]) | uint16(b[n-9])<<8, IdleSeconds: -1, Freq: -1,
	}
}

func (l *lane) end() {
	for _, p := range l.partitions() {
		l.publish(p, &event.Event{Kind: event.SnapshotEnd, Begin: l.offset, End: l.offset, Number: l.number[p], Slots: l.slots}, nil)
	}
}

func (l *lane) boundary() {
	key, value, err := offsets.BoundaryRecord("test", offsets.Boundary{
		Shard: l.shard, Generation: l.generation, Position: event.Position{ReplID: l.replID, Offset: l.offset},
		Begin: l.begins, TimeMs: time.Now().UnixMilli(), TopicID: l.topic.ID,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.cl.Produce(context.Background(), &kgo.Record{Topic: offsets.Topic(l.prefix), Partition: offsets.LanePartition(l.shard), Key: key, Value: value}, nil)
}

// snapshot publishes a whole generation of the source.
func (l *lane) snapshot() {
	l.t.Helper()
	l.commit(func() {
		l.begin()
		l.entries()
	})
	l.commit(func() {
		l.end()
		l.boundary()
	})
}

// do carries commands out at the source, as one transaction if there are several, and publishes them.
func (l *lane) do(cmds ...[]string) {
	l.t.Helper()
	ctx := l.t.Context()
	pipe := l.source.TxPipeline()
	var wire []byte
	for _, c := range cmds {
		args := make([]any, len(c))
		for i := range c {
			args[i] = c[i]
		}
		pipe.Do(ctx, args...)
		wire = resp.AppendCommand(wire, c...)
	}
	if results, err := pipe.Exec(ctx); err != nil {
		failed := false
		for _, r := range results {
			failed = failed || r.Err() != nil && !errors.Is(r.Err(), redis.Nil)
		}
		if failed {
			l.t.Fatalf("%v: %v", cmds, err)
		}
	}
	l.write(cmds[0][1], wire, len(cmds))
}

// write publishes commands without carrying them out.
func (l *lane) write(key string, wire []byte, n int) {
	s := slot.Of([]byte(key))
	p := l.partition(s)
	begin := l.offset
	l.offset += event.Offset(len(wire))
	l.publish(p, &event.Event{
		Kind: event.Unit, Begin: begin, End: l.offset, Prev: l.prev[p], Slot: s, Key: []byte(key), Commands: wire,
		Count: uint32(n), Atomic: n > 1,
	}, nil)
	l.prev[p] = l.offset
}

func (l *lane) flush() {
	l.source.FlushAll(l.t.Context())
	begin := l.offset
	l.offset += 20
	for _, p := range l.partitions() {
		l.publish(p, &event.Event{Kind: event.Flush, Begin: begin, End: l.offset, Prev: l.prev[p], Slots: l.slots}, nil)
		l.prev[p] = l.offset
	}
}

// random does something to one of few keys, most of which shows when it is done twice, left out or out of order.
func (l *lane) random(rng *rand.Rand) {
	id := rng.IntN(60)
	n := strconv.Itoa(rng.IntN(100000))
	key := func(kind string) string { return fmt.Sprintf("{%d}:%s", id, kind) }
	switch rng.IntN(16) {
	case 0, 1, 2:
		l.do([]string{"INCR", key("n")})
	case 3:
		l.do([]string{"APPEND", key("a"), n + ","})
	case 4:
		l.do([]string{"RPUSH", key("l"), n})
	case 5, 6:
		l.do([]string{"SET", key("s"), n})
	case 7:
		l.do([]string{"HSET", key("h"), "f" + strconv.Itoa(rng.IntN(5)), n})
	case 8:
		l.do([]string{"HDEL", key("h"), "f" + strconv.Itoa(rng.IntN(5))})
	case 9:
		l.do([]string{"SADD", key("set"), n}, []string{"INCR", key("n")}, []string{"SET", key("last"), n})
	case 10:
		l.do([]string{"DEL", key("s"), key("h")})
	case 11:
		l.do([]string{"ZADD", key("z"), n, "m" + strconv.Itoa(rng.IntN(5))})
	case 12:
		l.do([]string{"PEXPIREAT", key("h"), strconv.FormatInt(time.Now().Add(time.Hour).Truncate(time.Second).UnixMilli(), 10)})
	case 13:
		l.do([]string{"SET", key("s"), n, "PXAT", strconv.FormatInt(time.Now().Add(2*time.Hour).Truncate(time.Second).UnixMilli(), 10)})
	case 14:
		l.do([]string{"PERSIST", key("s")})
	case 15:
		l.do([]string{"SREM", key("set"), n}, []string{"HSET", key("h"), "tx", n})
	}
}

// stateOf is everything a deployment holds, but our own keys, in a form to compare.
func stateOf(t testing.TB, c redis.UniversalClient) map[string]string {
	t.Helper()
	out, err := tryStateOf(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryStateOf(t testing.TB, c redis.UniversalClient) (map[string]string, error) {
	t.Helper()
	ctx := t.Context()
	out := map[string]string{}
	scan := func(c *redis.Client) error {
		it := c.Scan(ctx, 0, "", 1000).Iterator()
		for it.Next(ctx) {
			if !own.Is([]byte(it.Val())) {
				out[it.Val()] = ""
			}
		}
		return it.Err()
	}
	if cc, ok := c.(*redis.ClusterClient); ok {
		var mu sync.Mutex
		if err := cc.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			return scan(c)
		}); err != nil {
			return nil, err
		}
	} else if err := scan(c.(*redis.Client)); err != nil {
		return nil, err
	}
	for k := range out {
		out[k] = valueOf(t, c, k)
	}
	return out, nil
}

const expiryRound = 100 * time.Millisecond

func valueOf(t testing.TB, c redis.UniversalClient, key string) string {
	t.Helper()
	ctx := t.Context()
	kind := c.Type(ctx, key).Val()
	var v any
	switch kind {
	case "string":
		v = c.Get(ctx, key).Val()
	case "list":
		v = c.LRange(ctx, key, 0, -1).Val()
	case "hash":
		v = c.HGetAll(ctx, key).Val() // fmt sorts
	case "set":
		m := c.SMembers(ctx, key).Val()
		slices.Sort(m)
		v = m
	case "zset":
		v = c.ZRangeWithScores(ctx, key, 0, -1).Val()
	}
	text := fmt.Sprint(v)
	// MIGRATE hands expiry times over as what is left, and so makes them a few milliseconds later with each move.
	return fmt.Sprintf("%s %s expires %d", kind, text, c.PExpireTime(ctx, key).Val().Round(expiryRound).Milliseconds())
}

// diff tells where two states differ.
func diff(want, got map[string]string) string {
	var b strings.Builder
	n := 0
	for k, v := range want {
		if got[k] != v {
			if n++; n < 20 {
				fmt.Fprintf(&b, "%q\n  source %.300s\n  target %.300s\n", k, v, got[k])
			}
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			if n++; n < 20 {
				fmt.Fprintf(&b, "%q\n  not at the source\n  target %.300s\n", k, v)
			}
		}
	}
	if n > 0 {
		fmt.Fprintf(&b, "%d differences\n", n)
	}
	return b.String()
}
