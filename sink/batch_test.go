package sink

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

func testUnit(offset int64, s slot.Slot, blind bool, size int) *unit {
	return &unit{offset: offset, slot: s, blind: blind, count: 1, commands: []byte(strings.Repeat("x", size))}
}

func TestBatchFits(t *testing.T) {
	l := limits{bytes: 4 << 20, units: 5000}
	b := &batch{}
	if !b.fits(testUnit(1, 1, true, 100<<20), l) {
		t.Error("an empty batch takes any unit")
	}
	b.add(testUnit(1, 1, true, 100))
	if b.fits(testUnit(2, 2, true, 4<<20), l) {
		t.Error("above the bytes of a batch")
	}
	for i := range maxGroupCommands {
		b.add(testUnit(int64(i), 7, true, 10))
	}
	if !b.fits(testUnit(3, 7, true, 10), l) {
		t.Error("blind units of a slot have no bound of their own")
	}
	if b.fits(testUnit(3, 7, false, 10), l) {
		t.Error("a guarded unit would make one transaction of more than it may hold")
	}
	if !b.fits(testUnit(3, 8, false, 10), l) {
		t.Error("another slot is not concerned")
	}
	b.add(testUnit(3, 8, false, maxGroupBytes-5))
	if b.fits(testUnit(4, 8, true, 10), l) {
		t.Error("a blind unit joins the slot's transaction")
	}
}

func TestRuns(t *testing.T) {
	b := &batch{}
	for i, s := range []slot.Slot{5, 3, 5, 9, 3, 5} {
		b.add(testUnit(int64(i), s, i != 4, 1))
	}
	var got []string
	for _, r := range b.runs {
		offsets := make([]int64, 0, len(r.units))
		for _, u := range r.units {
			offsets = append(offsets, u.offset)
		}
		got = append(got, fmt.Sprint(r.slot, r.guarded, offsets))
	}
	want := []string{"5 false [0 2 5]", "3 true [1 4]", "9 false [3]"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	r := b.runs[0]
	r.confirmed = 1
	if !r.settle() || r.units[0].offset != 2 {
		t.Error("the confirmed unit is still there")
	}
	r.skip(checkpoint{offset: 2}, nil)
	if len(r.units) != 1 || r.units[0].offset != 5 {
		t.Error("the checkpoint was not heeded")
	}
}

func TestJudge(t *testing.T) {
	for line, want := range map[string]verdict{
		"MOVED 1 127.0.0.1:7000":                                              moved,
		"READONLY You can't write":                                            moved,
		"CLUSTERDOWN The cluster is down":                                     moved,
		"ASK 1 127.0.0.1:7000":                                                asked,
		"TRYAGAIN Multiple keys request during rehashing of slot":             split,
		"LOADING Redis is loading":                                            busy,
		"OOM command not allowed when used memory > 'maxmemory'.":             busy,
		"EXECABORT Transaction discarded because of: OOM command not allowed": busy,
		"EXECABORT Transaction discarded because of: MOVED 1 127.0.0.1:7000":  moved,
		"EXECABORT Transaction discarded because of previous errors.":         refused,
		"WRONGTYPE Operation against a key holding the wrong kind of value":   passable,

		"ERR no such key":                                                 passable,
		"ERR index out of range":                                          passable,
		"BUSYGROUP Consumer Group name already exists":                    passable,
		"ERR value is not an integer or out of range":                     refused,
		"NOPERM this user has no permissions":                             refused,
		"ERR DUMP payload version or checksum are wrong":                  refused,
		"EXECABORT Transaction discarded because of: WRONGTYPE Operation": refused,
	} {
		if got := judge(line); got != want {
			t.Errorf("%s: %d, want %d", line, got, want)
		}
	}
	for line, want := range map[string]string{
		"ASK 3 10.0.0.1:7000": "10.0.0.1:7000", "MOVED 3 :7000": "127.0.0.1:7000", "ASK 3 ::1:7000": "[::1]:7000",
		"MOVED 3 node.example:7000": "node.example:7000",
	} {
		if got := redirect(line, "127.0.0.1:6379"); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

func TestUnit(t *testing.T) {
	var wire []byte
	wire = resp.AppendCommand(wire, "SET", "k", "1")
	wire = resp.AppendCommand(wire, "SET", "redriver!c!x!{"+slot.Tag(5)+"}", "1 T 0 7") // trap 60
	wire = resp.AppendCommand(wire, "INCR", "k")
	u := &unit{commands: wire, blind: true}
	var scratch scratch
	if err := u.inspect(3, 0, nil, &scratch); err != nil {
		t.Fatal(err)
	}
	want := resp.AppendCommand(resp.AppendCommand(nil, "SET", "k", "1"), "INCR", "k")
	if string(u.commands) != string(want) || u.count != 2 || u.passedOver != 1 || u.blind {
		t.Errorf("got %+v", u)
	}
	if got := u.commandAt(1); got != "INCR" {
		t.Errorf("got %s", got)
	}
	for _, wrong := range []string{"*1\r\n$3\r\nSE", "garbage", "*0\r\n"} {
		u := &unit{commands: []byte(wrong), blind: true}
		if err := u.inspect(1, 0, nil, &scratch); err == nil {
			t.Errorf("%q: no error", wrong)
		}
	}
	u = &unit{commands: resp.AppendCommand(nil, "SET", "k", "1"), blind: true}
	if err := u.inspect(2, 0, nil, &scratch); err == nil {
		t.Error("a command is missing and nobody minds")
	}
}

// TestSpans: reading never begins inside of a snapshot or a chunked event, also where they overlap.
func TestSpans(t *testing.T) {
	in := newIntake(0, 1, limits{}, 0, newSeenStore(0, ""), startPlan{})
	a := in.open(10)
	b := in.open(20)
	if got := in.restart(30); got != 10 {
		t.Errorf("both open: %d", got)
	}
	a.end = 26
	if got := in.restart(30); got != 10 {
		t.Errorf("b began within a, so a has to be read again: %d", got)
	}
	b.end = 41
	if got := in.restart(40); got != 10 {
		t.Errorf("b is not applied yet: %d", got)
	}
	if got := in.restart(41); got != 41 || len(in.spans) != 0 {
		t.Errorf("all done: %d, %d spans", got, len(in.spans))
	}
	if got := in.restart(50); got != 50 {
		t.Errorf("got %d", got)
	}
}
