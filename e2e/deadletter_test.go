package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/kafka"
)

// A target that knows no expiry of hash fields, and a sink that is killed again and again: every hash that has some is in
// the topic of dead letters, large ones in all their chunks, every other key is at the target, and writes go on.
//
// Fault (sink): the target cannot hold some of the values. They go into the topic of dead letters, everything else to the
// target.
func TestWhatTheTargetCannotHaveIsADeadLetter(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to := w.Server("redis-7.4", "--repl-backlog-size", backlog), w.Server("redis-7.2")
	p := newPipeline(t, w, w.Kafka().Addr(), nil)
	c := from.Client()
	do := func(args ...any) {
		t.Helper()
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	value := func(n int) string { // that does not pack well
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return string(b)
	}
	hash := func(key string, fields, bytes int) {
		t.Helper()
		for i := 0; i < fields; {
			args := []any{"hset", key}
			for range min(100, fields-i) {
				args = append(args, fmt.Sprint("field", i), value(bytes))
				i++
			}
			do(args...)
		}
		do("hpexpire", key, time.Hour.Milliseconds(), "fields", 1, "field0")
	}
	for i := range 20 {
		hash(fmt.Sprint("timed:", i), 3, 10)
		do("set", fmt.Sprint("plain:", i), i)
	}
	hash("timed:large", 300, 10_000) // of several chunks, and larger than what is joined
	source := p.run(p.singleSource(from.Addr()))
	config := p.singleSink(to.Addr(), "target.unsupported", "dead-letter")
	sink := p.run(config)
	p.singleMark(c, to.Client(), time.Minute)
	// What comes after the snapshot: the hash is there then, its fields do not expire.
	const rounds = 4
	for round := range rounds {
		for i := range 25 {
			n := round*25 + i
			do("incr", "counter")
			hash(fmt.Sprint("late:", n), 1, 10)
			if i%10 == 3 {
				time.Sleep(20 * time.Millisecond)
			}
		}
		if err := sink.Kill(); err != nil {
			t.Fatal(err)
		}
		sink = p.run(config)
		w.Eventually(time.Minute, "the sink goes on", func() error {
			if n, _ := to.Client().Get(t.Context(), "counter").Int(); n <= round*25 {
				return fmt.Errorf("counter is %d", n)
			}
			return nil
		})
	}
	p.singleMark(c, to.Client(), time.Minute)
	sink.Stop()
	source.Stop()

	lost := map[string]bool{}
	for _, r := range p.read(t, p.prefix+".changes") {
		if key := string(r.Key); strings.HasPrefix(key, "timed:") || strings.HasPrefix(key, "late:") && bytes.Contains(r.Value, []byte("HPEXPIREAT")) {
			lost[fmt.Sprint(r.Partition, "/", r.Offset)] = true
		}
	}
	if len(lost) < 20+3+25*rounds {
		t.Errorf("only %d records of the log are to be dead letters: this test shows little", len(lost))
	}
	letters, again := 0, 0
	joiner := codec.Joiner{MaxBytes: 16 << 20}
	large := false
	for _, r := range p.read(t, p.prefix+".dead") {
		h := map[string]string{}
		for _, kv := range r.Headers {
			h[kv.Key] = string(kv.Value)
		}
		if h["redriver.cause"] != "the target has no expiry times of hash fields" || h["redriver.key"] != string(r.Key) || h["redriver.sink"] != p.connector("to") {
			t.Fatalf("headers of a dead letter: %v", h)
		}
		letters++
		if at := h["redriver.partition"] + "/" + h["redriver.offset"]; lost[at] {
			delete(lost, at)
		} else {
			again++
		}
		if codec.IsChunk(r.Value) {
			whole, done, err := joiner.Add(r.Value)
			var e event.Event
			if err == nil && done {
				err = codec.DecodeRaw(r.Key, whole, &e)
				large = large || len(e.Value) > 300*10_000
			}
			if err != nil {
				t.Errorf("chunks of a dead letter: %v", err)
			}
		}
	}
	if len(lost) > 0 || !large {
		t.Errorf("of %d records no dead letter is there, large one there: %v", len(lost), large)
	}
	t.Logf("%d dead letters, %d of them not for the first time", letters, again)
	target := to.Client()
	for i := range 20 {
		if v := target.Get(t.Context(), fmt.Sprint("plain:", i)).Val(); v != strconv.Itoa(i) {
			t.Errorf("plain:%d is %q", i, v)
		}
	}
	if n := target.Get(t.Context(), "counter").Val(); n != strconv.Itoa(25*rounds) {
		t.Errorf("counter is %s", n)
	}
	if n := countKeys(t, target, "timed:*"); n != 0 {
		t.Errorf("%d hashes of the snapshot are at the target", n)
	}
	if n := countKeys(t, target, "late:*"); n != 25*rounds {
		t.Errorf("%d hashes of the stream are at the target, want %d", n, 25*rounds)
	}
}

func countKeys(t *testing.T, c *redis.Client, pattern string) int {
	t.Helper()
	keys, err := c.Keys(t.Context(), pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return len(keys)
}

// read is all that is committed in a topic.
func (p *pipeline) read(t *testing.T, topic string) (out []*kgo.Record) {
	t.Helper()
	cfg := kafka.Config{Brokers: []string{p.broker}}
	adm, err := cfg.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	spans, err := kafka.Spans(t.Context(), adm, topic)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.ReadCommitted(t.Context(), topic, spans, func(r *kgo.Record) error {
		out = append(out, r)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}
