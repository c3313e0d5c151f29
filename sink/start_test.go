package sink

import (
	"errors"
	"reflect"
	"testing"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/slot"
)

func slotsOf(t *testing.T, text string) *slot.Set {
	t.Helper()
	s, err := slot.ParseSet(text)
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

// TestDecideStart: partition 0 has the slots 0 to 3, of which node a has 0 and 1, node b 2 and 3.
func TestDecideStart(t *testing.T) {
	mark := func(restart, applied, sent int64, slots string) watermark {
		return watermark{topicID: "T", restart: restart, applied: applied, sent: sent, slots: slotsOf(t, slots)}
	}
	boundary := func(shard event.Shard, begin int64) offsets.Boundary {
		return offsets.Boundary{Shard: shard, Begin: map[int32]int64{0: begin}}
	}
	base := func() startInput {
		return startInput{
			topic: "p.changes", topicID: "T", slots: slot.Range{First: 0, Last: 3}, logBegin: 0, logEnd: 1000,
			checkpoints: map[slot.Slot]checkpoint{}, watermarks: map[slot.Slot]watermark{},
			owner: func(s slot.Slot) string { return []string{"a", "a", "b", "b"}[s] },
		}
	}
	tests := []struct {
		name  string
		input func(in *startInput)
		want  startPlan // of offset, isNew, done, window, begins and settled
		moved string
		fails error
	}{
		{
			name: "new sink, newest snapshot", input: func(in *startInput) {
				in.logBegin, in.boundaries = 50, []offsets.Boundary{boundary(1, 100)}
			},
			want: startPlan{offset: 100, isNew: true, done: []int64{-1, -1, -1, -1}, begins: map[event.Shard]int64{1: 100}},
		},
		{
			name: "new sink, two shards", input: func(in *startInput) {
				in.boundaries = []offsets.Boundary{boundary(1, 400), boundary(2, 100)}
			},
			want: startPlan{offset: 100, isNew: true, done: []int64{-1, -1, -1, -1}, begins: map[event.Shard]int64{1: 400, 2: 100}},
		},
		{
			name: "new sink, a shard without a snapshot yet", input: func(in *startInput) {
				in.boundaries, in.unready = []offsets.Boundary{boundary(1, 400)}, true
			},
			want: startPlan{offset: 0, isNew: true, done: []int64{-1, -1, -1, -1}, begins: map[event.Shard]int64{1: 400}},
		},
		{
			name: "new sink, no snapshot, whole log", input: func(*startInput) {},
			want: startPlan{offset: 0, isNew: true, done: []int64{-1, -1, -1, -1}, begins: map[event.Shard]int64{}},
		},
		{
			name: "new sink, no snapshot, begin of the log is gone", input: func(in *startInput) { in.logBegin = 1 },
			fails: &LostError{},
		},
		{
			name: "new sink, snapshot is gone", input: func(in *startInput) {
				in.logBegin, in.boundaries = 101, []offsets.Boundary{boundary(1, 100)}
			},
			fails: &LostError{},
		},
		{
			name: "crash before anything was sent", input: func(in *startInput) {
				in.boundaries = []offsets.Boundary{boundary(1, 300)}
				in.watermarks[0] = mark(100, markUnsent, 100, "0-1")
			},
			want: startPlan{offset: 300, isNew: true, done: []int64{-1, -1, -1, -1}, begins: map[event.Shard]int64{1: 300}},
		},
		{
			name: "again", input: func(in *startInput) {
				in.watermarks[0], in.watermarks[2] = mark(500, 500, 510, "0-1"), mark(480, 480, 530, "2-3")
			},
			want: startPlan{offset: 480, done: []int64{499, 499, 479, 479}, window: 530},
		},
		{
			name: "within a snapshot", input: func(in *startInput) {
				in.watermarks[0], in.watermarks[2] = mark(100, 500, 510, "0-1"), mark(100, 480, 530, "2-3")
			},
			want: startPlan{offset: 100, done: []int64{499, 499, 479, 479}, window: 530},
		},
		{
			name: "a checkpoint is further", input: func(in *startInput) {
				in.watermarks[0] = mark(500, 500, 510, "0-3")
				in.checkpoints[1] = checkpoint{topicID: "T", offset: 505}
				in.owner = func(slot.Slot) string { return "a" }
			},
			want: startPlan{offset: 500, done: []int64{499, 505, 499, 499}, window: 510},
		},
		{
			name: "a node went back", input: func(in *startInput) {
				in.watermarks[0], in.watermarks[2] = mark(200, 200, 210, "0-1"), mark(480, 480, 530, "2-3")
			},
			want: startPlan{offset: 200, done: []int64{199, 199, 479, 479}, window: 530},
		},
		{
			name: "a slot's own node speaks before another", input: func(in *startInput) {
				in.watermarks[0], in.watermarks[2] = mark(900, 900, 900, "0-3"), mark(480, 480, 530, "2-3")
			},
			want: startPlan{offset: 480, done: []int64{899, 899, 479, 479}, window: 900},
		},
		{
			name: "slots moved while no sink ran", input: func(in *startInput) {
				in.watermarks[0] = mark(500, 500, 510, "0-3")
			},
			want: startPlan{offset: 500, done: []int64{499, 499, 499, 499}, window: 510}, moved: "2-3",
		},
		{
			name: "a part was wiped", input: func(in *startInput) { in.watermarks[0] = mark(500, 500, 510, "0-1") },
			fails: &StartError{},
		},
		{
			name: "all of it was wiped", input: func(in *startInput) {
				in.boundaries, in.filled = []offsets.Boundary{boundary(1, 100)}, true
			},
			fails: &StartError{},
		},
		{
			name: "filled before, and back to before anything was sent", input: func(in *startInput) {
				in.boundaries, in.filled = []offsets.Boundary{boundary(1, 100)}, true
				in.watermarks[0] = mark(100, markUnsent, 100, "0-1")
			},
			want: startPlan{offset: 100, isNew: true, done: []int64{-1, -1, -1, -1}, begins: map[event.Shard]int64{1: 100}},
		},
		{
			name: "refused before, generations", input: func(in *startInput) {
				a, b := mark(500, 500, 510, "0-1"), mark(500, 500, 530, "2-3")
				a.refused, a.generations = []int64{520, 522}, map[event.Shard]event.Generation{1: 3, 2: 1}
				b.refused, b.generations = []int64{521, 522}, map[event.Shard]event.Generation{1: 2, 2: 4}
				in.watermarks[0], in.watermarks[2] = a, b
			},
			want: startPlan{
				offset: 500, done: []int64{499, 499, 499, 499}, window: 530, refused: []int64{520, 521, 522},
				generations: map[event.Shard]event.Generation{1: 3, 2: 4},
			},
		},
		{
			name: "another log", input: func(in *startInput) {
				m := mark(500, 500, 510, "0-3")
				m.topicID = "U"
				in.watermarks[0] = m
			},
			fails: &StartError{},
		},
		{
			name: "checkpoint of another log", input: func(in *startInput) {
				in.checkpoints[1] = checkpoint{topicID: "U", offset: 505}
			},
			fails: &StartError{},
		},
		{
			name: "other number of partitions", input: func(in *startInput) {
				m := mark(500, 500, 510, "0-3")
				m.partition = 1
				in.watermarks[0] = m
			},
			fails: &StartError{},
		},
		{
			name: "retention", input: func(in *startInput) {
				in.watermarks[0] = mark(500, 500, 510, "0-3")
				in.logBegin = 501
			},
			fails: &LostError{},
		},
		{
			name: "at the begin of the log", input: func(in *startInput) {
				in.watermarks[0], in.logBegin = mark(1000, 1000, 1000, "0-3"), 1000
				in.owner = func(slot.Slot) string { return "a" }
			},
			want: startPlan{offset: 1000, done: []int64{999, 999, 999, 999}, window: 1000},
		},
		{
			name: "the log lost its end", input: func(in *startInput) { in.watermarks[0] = mark(1001, 1001, 1001, "0-3") },
			fails: &StartError{},
		},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			in := base()
			c.input(&in)
			got, err := decideStart(in)
			if c.fails != nil {
				if err == nil || reflect.TypeOf(err) != reflect.TypeOf(c.fails) {
					t.Fatalf("got %v, want a %T", err, c.fails)
				}
				if classOf(err) != Stop {
					t.Error("not of class stop")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.moved.String() != c.moved {
				t.Errorf("moved %s", got.moved.String())
			}
			got.moved = slot.Set{}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestDecideAnew: the log begins at 600, behind everything that the target has.
func TestDecideAnew(t *testing.T) {
	boundary := func(shard event.Shard, begin int64) offsets.Boundary {
		return offsets.Boundary{Shard: shard, Begin: map[int32]int64{0: begin}}
	}
	lost := &LostError{Topic: "p.changes", From: 500, To: 600}
	for _, c := range []struct {
		name       string
		boundaries []offsets.Boundary
		unready    bool
		checkpoint int64 // of slot 1
		offset     int64
		done       []int64
		class      Class // of the error, if offset is 0
	}{
		{name: "none yet", checkpoint: 505, class: Retry},
		{name: "too old", boundaries: []offsets.Boundary{boundary(1, 599)}, checkpoint: 505, class: Retry},
		{name: "one of two is too old", boundaries: []offsets.Boundary{boundary(1, 700), boundary(2, 400)}, checkpoint: 505, class: Retry},
		{name: "a shard without", boundaries: []offsets.Boundary{boundary(1, 700)}, unready: true, checkpoint: 505, class: Retry},
		{name: "more than the log", boundaries: []offsets.Boundary{boundary(1, 700)}, checkpoint: 1000, class: Stop},
		{
			name: "found", boundaries: []offsets.Boundary{boundary(1, 700), boundary(2, 600)}, checkpoint: 505,
			offset: 600, done: []int64{499, 505, 499, 499},
		},
		{
			name: "a slot is further", boundaries: []offsets.Boundary{boundary(1, 700)}, checkpoint: 720,
			offset: 700, done: []int64{499, 720, 499, 499},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decideAnew(startInput{
				topic: "p.changes", topicID: "T", slots: slot.Range{First: 0, Last: 3}, logBegin: 600, logEnd: 1000,
				checkpoints: map[slot.Slot]checkpoint{1: {topicID: "T", offset: c.checkpoint}},
				watermarks: map[slot.Slot]watermark{
					0: {topicID: "T", restart: 500, applied: 500, sent: 510, settled: []event.Shard{1}, slots: slotsOf(t, "0-3")},
				},
				owner: func(slot.Slot) string { return "a" }, boundaries: c.boundaries, unready: c.unready,
			}, lost)
			if c.offset == 0 {
				if err == nil || classOf(err) != c.class {
					t.Fatalf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.offset != c.offset || !reflect.DeepEqual(got.done, c.done) || got.lost != lost || got.isNew || len(got.begins) != len(c.boundaries) {
				t.Errorf("got %+v", got)
			}
			if !reflect.DeepEqual(got.settled, []event.Shard{1}) {
				t.Errorf("a target that was filled before counts as new: settled %v", got.settled)
			}
		})
	}
}

func TestRecordsOfTheTarget(t *testing.T) {
	for _, m := range []watermark{
		{topicID: "AbC-_", partition: 7, restart: 1, applied: 2, sent: 3, slots: slotsOf(t, "0-5 9")},
		{
			topicID: "x", applied: -1, refused: []int64{99, 1 << 40}, settled: []event.Shard{1, 20}, begins: map[event.Shard]int64{3: 5, 1: 1 << 40},
			slots: slotsOf(t, "16383"), generations: map[event.Shard]event.Generation{1: 7, 20: 1},
		},
	} {
		got, err := parseWatermark(m.String())
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %+v, %v", m.String(), got, err)
		}
	}
	for _, c := range []checkpoint{{"AbC", 63, 1 << 50, 0}, {"AbC", 63, 1 << 50, 17}} {
		if got, err := parseCheckpoint(string(c.text())); err != nil || got != c {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	for _, text := range []string{"", "1", "2 x 1 1", "1 x 1 y", "1 x 1 1 y", "1 x 1 1 0", "1 x 1 1 1 1"} {
		if _, err := parseCheckpoint(text); !errors.Is(err, errRecord) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "1 T 0 1 2 3 - 0 - - 0-99999 -", "1 T 0 1 2 3 - 0 x - 0 -", "1 T 0 1 2 3 - 0 - 4 0 -", "1 T 0 1 2 3 - 0 - - 0 4", "1 T 0 1 2 3 y 0 - - 0 -", "2 T 0 1 2 3 - 0 - - 0 -"} {
		if _, err := parseWatermark(text); !errors.Is(err, errRecord) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
