package sink

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/slot"
)

// tape makes the records of one partition by hand.
type tape struct {
	records []*kgo.Record
	shard   event.Shard
	attempt uint64
	number  uint64
}

func (l *tape) put(e *event.Event, value []byte) {
	// Offsets have gaps, where markers of transactions are.
	l.records = append(l.records, &kgo.Record{Offset: int64(10 + 3*len(l.records)), Key: codec.RecordKey(e), Value: value})
}

func (l *tape) event(e *event.Event) {
	e.Shard, e.Generation = l.shard, 1
	l.put(e, codec.AppendRaw(nil, e))
}

func (l *tape) begin() {
	l.event(&event.Event{Kind: event.SnapshotBegin, Slots: []slot.Range{{First: 0, Last: everything}}})
}

// chunks puts no more than upTo chunks of an entry; all for -1.
func (l *tape) chunks(v sampleValue, cut func() int, upTo int) {
	_, value, version, err := rdb.SplitPayload([]byte(v.payload))
	if err != nil {
		panic(err)
	}
	e := &event.Event{
		Kind: event.Entry, Shard: l.shard, Generation: 1, Number: l.number + 1, Slot: slot.Of([]byte(v.name)), Key: []byte(v.name),
		Type: v.typ, Value: value, RDBVersion: uint16(version), IdleSeconds: -1, Freq: -1,
	}
	rest := codec.AppendRaw(nil, e)
	l.attempt++
	for i := uint32(0); len(rest) > 0; i++ {
		if upTo >= 0 && int(i) >= upTo {
			return
		}
		n := min(max(cut(), 1), len(rest))
		if i == 0 {
			n = min(max(n, 200), len(rest))
		}
		count := uint32(0)
		if n == len(rest) {
			count = i + 1
		}
		l.put(e, codec.FrameChunk(append(make([]byte, codec.ChunkHeaderBytes), rest[:n]...), l.shard, l.attempt, i, count))
		rest = rest[n:]
	}
	l.number++
}

func testValues() *values {
	return &values{
		sink: "t", holdMs: 1000, target: target{format: rdb.Format{Version: 13}}, policy: UnsupportedStop, rebuildBytes: 1000,
		note: func(string, []byte) {},
	}
}

// play has an intake read the tapes' records and returns the units it makes.
func play(t *testing.T, records []*kgo.Record, plan startPlan, l limits) (units []*unit) {
	t.Helper()
	in := newIntake(0, 1, l, 1<<30, newSeenStore(0, ""), plan)
	in.values = testValues()
	defer in.close()
	next := int64(0)
	for i := 0; ; {
		b := &batch{next: next}
		if err := in.start(b); err != nil {
			t.Fatal(err)
		}
		for !b.over && i < len(records) {
			if err := in.add(b, records[i]); err != nil {
				t.Fatal(err)
			}
			i++
		}
		if b.next < next {
			t.Fatalf("the batch ends at %d, behind %d", b.next, next)
		}
		for _, u := range b.units {
			if u.offset < next || u.offset >= b.sent() || u.part == 0 && u.offset >= b.next {
				t.Fatalf("unit at %d, part %d, in a batch from %d to %d, sent %d", u.offset, u.part, next, b.next, b.sent())
			}
		}
		units = append(units, b.units...)
		if next = b.next; len(b.units) == 0 && i == len(records) && !b.over {
			return units
		}
	}
}

func unitTexts(units []*unit) []string {
	out := []string{}
	for _, u := range units {
		out = append(out, fmt.Sprintf("%d/%d slot %d: %d, %q", u.offset, u.part, u.slot, u.count, u.commands))
	}
	return out
}

// TestRebuildRestartsAnywhere: wherever a slot's checkpoint says that a crash came, what is made of the records from the begin
// on is exactly what was not applied, whatever the batches.
func TestRebuildRestartsAnywhere(t *testing.T) {
	rng := seed(t)
	for round, v := range giants(t, rng, testkit.New(t), "redis-8.6", 21) {
		l := &tape{shard: 3}
		l.begin()
		cut := sizes(rng, []int{200, 3000, 100_000}[rng.IntN(3)])
		if rng.IntN(2) == 0 {
			l.chunks(v, cut, 1+rng.IntN(5))
		}
		l.chunks(v, cut, -1)
		all := play(t, l.records, startPlan{done: newDone()}, limits{bytes: 1 << 30, units: 1 << 30})
		want := unitTexts(all)
		got := unitTexts(play(t, l.records, startPlan{done: newDone()}, limits{bytes: 1 << 18, units: 1 + rng.IntN(4)}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("round %d: the units depend on the batches: %.2000s", round, diff)
		}
		parts := 0
		for range 20 {
			at := rng.IntN(len(all))
			u := all[at]
			c := checkpoint{topicID: "T", offset: u.offset, parts: u.part}
			if read, err := parseCheckpoint(string(c.text())); err != nil || read != c {
				t.Fatalf("%+v is read as %+v, %v", c, read, err)
			}
			if u.part > 0 {
				parts++
			}
			in := startInput{checkpoints: map[slot.Slot]checkpoint{u.slot: c}}
			plan := startPlan{done: newDone()}
			in.raiseToCheckpoints(&plan)
			got := unitTexts(play(t, l.records, plan, limits{bytes: 1 << 20, units: 1 + rng.IntN(30)}))
			if diff := cmp.Diff(want[at+1:], got); diff != "" {
				t.Fatalf("round %d: after a crash behind unit %d of %d: %.2000s", round, at, len(all), diff)
			}
		}
		t.Logf("%s: type %d, %d bytes, %d chunks, %d units; %d crashes in the middle of a chunk", v.name, v.typ, len(v.payload), len(l.records)-1, len(all), parts)
	}
}

func newDone() []int64 {
	done := make([]int64, slot.Count)
	for i := range done {
		done[i] = noneDone
	}
	return done
}
