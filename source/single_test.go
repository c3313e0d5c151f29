package source

import (
	"strings"
	"testing"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/source/spool"
)

func transaction(line string) []string {
	lines := strings.Split(line, "; ")
	if lines[0] == "MULTI" {
		lines = append(lines, "EXEC")
	}
	return lines
}

// In total order a unit is one record under its first key, whatever its keys, and carries its databases with it.
func TestAUnitOfASingleServerIsOneRecord(t *testing.T) {
	for _, c := range []struct {
		line, want, key string
		spread          bool
	}{
		{"MSET a 1 b 2", "MSET a 1 b 2", "a", true},
		{"SET a 1", "SET a 1", "a", false},
		{"RENAME {x}1 {x}2", "RENAME {x}1 {x}2", "{x}1", false},
		{"SUNIONSTORE a b c", "SUNIONSTORE a b c", "a", true},
		{"SWAPDB 0 1", "SWAPDB 0 1", "", true},
		{"MOVE a 3", "MOVE a 3", "a", false},
		{"MULTI; SET a 1; SET b 2", "SET a 1; SET b 2", "a", true},
		{"MULTI; SET a 1; SELECT 3; SET a 2; SELECT 5; SELECT 0; SET a 3", "SET a 1; SELECT 3; SET a 2; SELECT 0; SET a 3", "a", false},
		{"MULTI; SWAPDB 0 1; SET b 2", "SWAPDB 0 1; SET b 2", "b", true},
		{"MULTI; SELECT 2; FLUSHDB; SET b 2", "FLUSHDB; SET b 2", "b", true},
	} {
		m, err := interpretOne(t, &interpreter{single: true, total: true, ask: refuseToAsk}, transaction(c.line)...)
		if err != nil || len(m.parts) != 1 || m.flush {
			t.Errorf("%s: %+v, %v", c.line, m, err)
			continue
		}
		p := m.parts[0]
		want := strings.Split(c.want, "; ")
		if string(p.bytes) != string(commands(want...)) || int(p.count) != len(want) || string(p.key) != c.key || p.spread != c.spread {
			t.Errorf("%s: %+v %q", c.line, p, p.bytes)
		}
		if c.key != "" && p.slot != slot.Of([]byte(c.key)) {
			t.Errorf("%s: slot %d", c.line, p.slot)
		}
	}
}

func TestAFlushKnowsItsDatabase(t *testing.T) {
	for line, want := range map[string]database{
		"FLUSHALL": {7, true}, "FLUSHDB ASYNC": {7, false}, "MULTI; FLUSHALL": {7, true}, "MULTI; SELECT 3; FLUSHDB": {3, false},
	} {
		for _, total := range []bool{true, false} {
			m, err := interpretOne(t, &interpreter{single: true, total: total, db: 7, ask: refuseToAsk}, transaction(line)...)
			if err != nil || !m.flush || m.flushed != want || len(m.parts) != 0 {
				t.Errorf("%s: %+v, %v", line, m, err)
			}
		}
	}
}

// With several partitions what can be is divided by slot, and the rest names the option.
func TestASingleServerInSeveralPartitions(t *testing.T) {
	in := func() *interpreter { return &interpreter{single: true, ask: refuseToAsk} }
	m, err := interpretOne(t, in(), transaction("MULTI; DEL a b; SELECT 1; MSET b 1 a 2; MOVE a 0")...)
	if err != nil || len(m.parts) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	for i, want := range []string{"DEL a; SELECT 1; MSET a 2; MOVE a 0", "DEL b; SELECT 1; MSET b 1"} {
		if p := m.parts[i]; string(p.bytes) != string(commands(strings.Split(want, "; ")...)) || p.spread {
			t.Errorf("part %d: %+v %q", i, p, p.bytes)
		}
	}
	for _, line := range []string{"RENAME a b", "SUNIONSTORE a b c", "SWAPDB 0 1"} {
		if _, err := interpretOne(t, in(), line); ClassOf(err) != Stop || !strings.Contains(err.Error(), "topic.partitions: 1") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestTheEndIsNotAcknowledgedOutsideClusters(t *testing.T) {
	sp := openSpool(t)
	if _, err := sp.Begin(spool.Header{Kind: spool.Stream, Offset: 100}); err != nil {
		t.Fatal(err)
	}
	if err := sp.Append(t.Context(), make([]byte, 50)); err != nil {
		t.Fatal(err)
	}
	l := &link{spool: sp}
	id := event.ReplID{1}
	l.replID.Store(&id)
	for committed, want := range map[event.Offset]event.Offset{150: 149, 149: 149, 120: 120, 0: 0} {
		l.committed.Store(&event.Position{ReplID: id, Offset: committed})
		l.behind.Store(true)
		if got := l.acknowledged(); got != want {
			t.Errorf("committed %d: acknowledged %d, want %d", committed, got, want)
		}
		l.behind.Store(false)
		if got := l.acknowledged(); got != committed {
			t.Errorf("committed %d: acknowledged %d in a cluster", committed, got)
		}
	}
}
