package sink

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/resp"
)

// readTopic is all that is committed in a topic.
func (r *rig) readTopic(topic string) (out []*kgo.Record) {
	r.Helper()
	adm, err := r.kafka.Admin()
	if err != nil {
		r.Fatal(err)
	}
	defer adm.Close()
	spans, err := kafka.Spans(r.Context(), adm, topic)
	if err != nil {
		r.Fatal(err)
	}
	if err := r.kafka.ReadCommitted(r.Context(), topic, spans, func(rec *kgo.Record) error {
		out = append(out, rec)
		return nil
	}); err != nil {
		r.Fatal(err)
	}
	return out
}

func headersOf(rec *kgo.Record) map[string]string {
	out := map[string]string{}
	for _, h := range rec.Headers {
		out[h.Key] = string(h.Value)
	}
	return out
}

// What a target has no room for goes into the topic of dead letters as it stands in the log, whatever shape it has there:
// a record, a part of a transaction, chunks that are joined and chunks that are not. All else reaches the target.
func TestDeadLettersAreTheRecordsOfTheLog(t *testing.T) {
	r := newVersionRig(t, "redis-7.2")
	l := r.laneAlone()
	from := r.w.Server("redis-7.4").Client()
	hash := func(key string, fields int, timed bool) string {
		for i := range fields {
			from.HSet(t.Context(), key, fmt.Sprint("field", i), fmt.Sprint("value", i))
		}
		if timed {
			// The last one that is read: by then a large value is built in part.
			from.HPExpireAt(t.Context(), key, time.Now().Add(time.Hour), fmt.Sprint("field", fields-1))
		}
		return from.Dump(t.Context(), key).Val()
	}
	timed, plain := hash("timed", 5, true), hash("plain", 5, false)
	joined, built := hash("joined", 60, true), hash("built", 3000, true)
	want := map[string]string{"record": whatFieldExpiry, "joined": whatFieldExpiry, "built": whatFieldExpiry, "{tx}timed": whatFieldExpiry}
	l.commit(func() {
		l.begin()
		for _, v := range []struct {
			key, payload string
			cut          int
		}{{"record", timed, 0}, {"plain", plain, 0}, {"joined", joined, 300}, {"built", built, 700}} {
			p, e := l.entry(v.key, v.payload)
			if v.cut == 0 {
				l.publish(p, e, nil)
				continue
			}
			if v.key == "built" { // given up once
				l.send(p, e, func() int { return v.cut }, 3)
			}
			l.send(p, e, func() int { return v.cut }, -1)
		}
	})
	l.commit(l.end)
	l.commit(func() {
		wire := resp.AppendCommand(nil, "SET", "{tx}", "1")
		wire = resp.AppendCommand(wire, "HSET", "{tx}timed", "f", "v")
		wire = resp.AppendCommand(wire, "HPEXPIREAT", "{tx}timed", strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10), "FIELDS", "1", "f")
		wire = resp.AppendCommand(wire, "INCR", "{tx}n")
		l.write("{tx}", wire, 4)
	})
	cfg := r.config()
	cfg.ExpiryHold, cfg.Unsupported, cfg.RebuildBytes = testHold, UnsupportedDeadLetter, 8<<10
	s := r.start(cfg)
	r.waitApplied(s)
	if n := s.Status().DeadLetters; n != int64(len(want)) {
		t.Errorf("%d dead letters, want %d", n, len(want))
	}
	if n := s.Status().Unsupported; n != int64(len(want)) {
		t.Errorf("%d things were left out, want %d", n, len(want))
	}
	s.stop()

	log := map[string]*kgo.Record{}
	for _, rec := range r.readTopic(offsets.ChangesTopic(r.prefix)) {
		log[fmt.Sprint(rec.Partition, "/", rec.Offset)] = rec
	}
	joiner := codec.Joiner{MaxBytes: 1 << 20}
	for _, rec := range r.readTopic(offsets.DeadTopic(r.prefix)) {
		h := headersOf(rec)
		of := log[h[HeaderPartition]+"/"+h[HeaderOffset]]
		if of == nil || !bytes.Equal(rec.Key, of.Key) || !bytes.Equal(rec.Value, of.Value) || h[HeaderTopic] != offsets.ChangesTopic(r.prefix) || h[HeaderSink] != r.name {
			t.Errorf("a dead letter is no record of the log: %v", h)
		}
		if codec.IsChunk(rec.Value) {
			whole, done, err := joiner.Add(rec.Value)
			if err != nil {
				t.Error(err)
			}
			if !done {
				continue
			}
			rec.Value = whole
		}
		wantOf, wantKey := "hash", string(rec.Key)
		if wantKey == "{tx}" {
			wantOf, wantKey = "HPEXPIREAT", "{tx}timed"
		}
		if h[HeaderKey] != wantKey || h[HeaderType] != wantOf || h[HeaderCause] != "the target has no "+want[wantKey] {
			t.Errorf("headers of %s: %v", wantKey, h)
		}
		delete(want, wantKey)
	}
	if len(want) > 0 {
		t.Errorf("no dead letters of %v", want)
	}
	c := r.target.Client()
	for key, there := range map[string]int64{"record": 0, "joined": 0, "built": 0, "plain": 1, "{tx}": 1, "{tx}timed": 1, "{tx}n": 1} {
		if n := c.Exists(t.Context(), key).Val(); n != there {
			t.Errorf("the target has %d of key %s, want %d", n, key, there)
		}
	}
	r.noneStaged()
}

// Nothing passes a dead letter that Kafka does not have: neither what stands behind it, nor the watermark.
func TestNothingPassesADeadLetterThatIsNotWritten(t *testing.T) {
	w := testkit.New(t)
	fake := w.FakeKafka()
	r := &rig{
		TB: t, w: w, kafka: kafka.Config{Brokers: []string{fake.Addr()}}, prefix: "p", name: "t", partitions: 1,
		target: w.ClusterWith(redistest.Config{Version: "redis-7.2", Masters: 1}),
	}
	l := r.laneAlone()
	l.commit(l.begin)
	l.commit(l.end)
	l.commit(func() {
		at := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
		l.write("h", resp.AppendCommand(nil, "HPEXPIREAT", "h", at, "FIELDS", "1", "f"), 1)
		l.write("n", resp.AppendCommand(nil, "INCR", "n"), 1)
	})
	var refusals atomic.Int64
	var healed atomic.Bool
	fake.ControlKey(kmsg.Produce.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		if healed.Load() {
			return nil, nil, false
		}
		fake.KeepControl()
		refusals.Add(1)
		return nil, errors.New("connection lost"), true
	})
	cfg := r.config()
	cfg.ExpiryHold, cfg.Unsupported = testHold, UnsupportedDeadLetter
	s := r.start(cfg)
	w.Eventually(30*time.Second, "the letter is tried again and again", func() error {
		if n := refusals.Load(); n < 5 {
			return fmt.Errorf("refused %d times", n)
		}
		return nil
	})
	if p := s.Status().Partitions[0]; p.Applied >= p.End || p.DeadLetters != 0 {
		t.Errorf("passed: %+v", p)
	}
	if n := r.target.Client().Exists(t.Context(), "n").Val(); n != 0 {
		t.Error("what stands behind the letter is applied")
	}
	healed.Store(true)
	r.waitApplied(s)
	if n := len(r.readTopic(offsets.DeadTopic(r.prefix))); n != 1 || s.Status().DeadLetters != 1 {
		t.Errorf("%d letters in the topic, %d counted", n, s.Status().DeadLetters)
	}
	if v := r.target.Client().Get(t.Context(), "n").Val(); v != "1" {
		t.Errorf("n is %q", v)
	}
}
