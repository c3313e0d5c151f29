package codec_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

func replID(b byte) (id event.ReplID) {
	for i := range id {
		id[i] = b
	}
	return id
}

func samples() []event.Event {
	long := bytes.Repeat([]byte("k"), codec.MaxRecordKeyBytes+1)
	return []event.Event{
		{Kind: event.Entry, Shard: 1, Generation: 2, ReplID: replID(7), Begin: 900, End: 900, Number: 3, Slot: slot.Of([]byte("a")), Key: []byte("a"), Type: 4, Value: []byte("value"), RDBVersion: 10, ExpireAtMs: 5, IdleSeconds: 0, Freq: 9, CapturedMs: 17},
		{Kind: event.Entry, Shard: 1, Generation: 2, Number: 1, Key: long, Value: []byte{}, IdleSeconds: -1, Freq: -1},
		{Kind: event.Unit, Shard: 3, Generation: 1, ReplID: replID(1), Begin: 100, End: 140, Prev: 90, Slot: 16383, DB: 12, Key: []byte("k"), Count: 1, Commands: []byte("*1\r\n$4\r\nPING\r\n"), IdleSeconds: -1, Freq: -1},
		{Kind: event.Unit, Shard: 3, Generation: 1, Begin: 100, End: 140, Prev: 140, Part: 1, Parts: 2, Atomic: true, Key: long, Count: 2, Commands: []byte("x"), IdleSeconds: -1, Freq: -1},
		{Kind: event.SnapshotBegin, Shard: 9, Generation: 4, ReplID: replID(2), Begin: 5, End: 5, Slots: []slot.Range{{First: 0, Last: 5}, {First: 9, Last: 16383}}, IdleSeconds: -1, Freq: -1},
		{Kind: event.SnapshotEnd, Shard: 9, Generation: 4, ReplID: replID(2), Begin: 5, End: 5, Number: 77, Slots: []slot.Range{{First: 1, Last: 1}}, IdleSeconds: -1, Freq: -1},
		{Kind: event.HistoryChange, Shard: 9, Generation: 4, ReplID: replID(3), OldReplID: replID(2), Begin: 50, End: 50, Prev: 40, Slots: []slot.Range{{First: 1, Last: 1}}, IdleSeconds: -1, Freq: -1},
		{Kind: event.Flush, Shard: 9, Generation: 4, ReplID: replID(3), Begin: 50, End: 60, Prev: 50, Slots: []slot.Range{{First: 1, Last: 1}}, IdleSeconds: -1, Freq: -1},
		{Kind: event.Flush, Shard: 9, Generation: 4, ReplID: replID(3), Begin: 50, End: 60, Prev: 50, DB: 3, AllDBs: true, Slots: []slot.Range{{First: 1, Last: 1}}, IdleSeconds: -1, Freq: -1},
		{Kind: event.Unit, Shard: 3, Generation: 1, Begin: 100, End: 140, Prev: 100, DB: 2, Spread: true, Atomic: true, Key: []byte("k"), Count: 1, Commands: []byte("x"), IdleSeconds: -1, Freq: -1},
		{Kind: event.Functions, Shard: 9, Generation: 4, ReplID: replID(3), Begin: 50, End: 50, Prev: 50, Part: 1, Parts: 2, Slots: []slot.Range{{First: 1, Last: 1}}, Count: 1, Commands: []byte("*2\r\n$8\r\nFUNCTION\r\n$5\r\nFLUSH\r\n"), IdleSeconds: -1, Freq: -1},
	}
}

func TestRawRoundTrip(t *testing.T) {
	for _, want := range samples() {
		value := codec.AppendRaw(nil, &want)
		var got event.Event
		if err := codec.DecodeRaw(codec.RecordKey(&want), value, &got); err != nil {
			t.Fatalf("%s: %v", want.Kind, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", want.Kind, d)
		}
	}
}

func TestRawEncodingAndDecodingAllocateNothing(t *testing.T) {
	e := samples()[2]
	buf := make([]byte, 0, 4096)
	var got event.Event
	if n := testing.AllocsPerRun(100, func() {
		buf = codec.AppendRaw(buf[:0], &e)
		if err := codec.DecodeRaw(e.Key, buf, &got); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per record, want 0", n)
	}
}

func TestRawRefusesWhatItDoesNotKnow(t *testing.T) {
	unit := samples()[2]
	good := codec.AppendRaw(nil, &unit)
	for name, c := range map[string]struct {
		value []byte
		want  error
	}{
		"empty":         {nil, codec.ErrMalformed},
		"newer version": {append([]byte{2}, good[1:]...), codec.ErrVersion},
		"unknown kind":  {append([]byte{1, 99}, good[2:]...), codec.ErrVersion},
		"text":          {[]byte(`{"a":1}`), codec.ErrVersion},
		"cut":           {good[:20], codec.ErrMalformed},
	} {
		var e event.Event
		if err := codec.DecodeRaw(nil, c.value, &e); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func FuzzDecodeRaw(f *testing.F) {
	for _, e := range samples() {
		f.Add(codec.RecordKey(&e), codec.AppendRaw(nil, &e))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var e event.Event
		if err := codec.DecodeRaw(key, value, &e); err != nil {
			return
		}
		// What decodes means the same after another round, though a varint may have been written longer than needed.
		again := codec.AppendRaw(nil, &e)
		var e2 event.Event
		if err := codec.DecodeRaw(codec.RecordKey(&e), again, &e2); err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if d := cmp.Diff(e, e2); d != "" {
			t.Fatalf("second round differs:\n%s", d)
		}
	})
}

func BenchmarkAppendRaw(b *testing.B) {
	e := samples()[2]
	e.Commands = bytes.Repeat([]byte("c"), 200)
	buf := make([]byte, 0, 4096)
	b.SetBytes(200)
	for b.Loop() {
		buf = codec.AppendRaw(buf[:0], &e)
	}
}
