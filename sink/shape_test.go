package sink

import (
	"errors"
	"strings"
	"testing"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

func wire(line string) (out []byte, n int) {
	for c := range strings.SplitSeq(line, "; ") {
		out = resp.AppendCommand(out, strings.Fields(c)...)
		n++
	}
	return out, n
}

func unwire(b []byte) string {
	var lines []string
	for len(b) > 0 {
		n, args, err := resp.ParseCommand(b, nil)
		if err != nil {
			return err.Error()
		}
		var words []string
		for _, a := range args {
			words = append(words, string(a))
		}
		lines = append(lines, strings.Join(words, " "))
		b = b[n:]
	}
	return strings.Join(lines, "; ")
}

func TestParseDatabases(t *testing.T) {
	for text, want := range map[string]string{"all": "all", "": "all", "3:1, 0:0": "0:0,3:1", "15:0": "15:0"} {
		d, err := ParseDatabases(text)
		if err != nil || d.String() != want {
			t.Errorf("%q: %q, %v", text, d.String(), err)
		}
	}
	for _, text := range []string{"0", "0:1,0:2", "0:0,1:0", "a:b", "-1:0", "0:0,"} {
		if d, err := ParseDatabases(text); err == nil {
			t.Errorf("%q: %v", text, d)
		}
	}
}

// Units are put where the map says, and what goes nowhere stops or is left out.
func TestPlace(t *testing.T) {
	const w, f, c = "redriver!w!t!{tag}", "redriver!f!t!{tag}", "redriver!c!t!{tag}"
	bring := func(from, to string) string {
		return "SELECT " + from + "; MOVE " + w + " " + to + "; MOVE " + f + " " + to + "; MOVE " + c + " " + to + "; SELECT " + to
	}
	for _, tc := range []struct {
		name, dbs string
		skip      bool
		cluster   bool
		db        uint32
		commands  string
		want      string // "" for nothing left
		from, to  uint32
		blind     bool
		err       string
	}{
		{name: "home", dbs: "all", commands: "SET a 1", want: "SET a 1", blind: true},
		{name: "another", dbs: "all", db: 3, commands: "SET a 1", want: "SET a 1", from: 3, to: 3},
		{name: "mapped", dbs: "3:1", db: 3, commands: "SET a 1", want: "SET a 1", from: 1, to: 1, blind: true},
		{name: "guarded", dbs: "3:1,2:7", db: 2, commands: "INCR a", want: "INCR a", from: 7, to: 7},
		{name: "nowhere", dbs: "3:1", db: 2, commands: "INCR a", err: "INCR of database 2"},
		{name: "nowhere, blind", dbs: "3:1", db: 2, commands: "SET a 1", err: "SET of database 2"},
		{name: "left out", dbs: "3:1", skip: true, db: 2, commands: "SET a 1"},
		{name: "a mixture", dbs: "0:0,3:1", commands: "SET a 1; SELECT 3; SET a 2; SELECT 0; SELECT 3; SET a 3", want: "SET a 1; SELECT 1; SET a 2; SET a 3", to: 1},
		{name: "a mixture, in part left out", dbs: "3:1", skip: true, commands: "SET a 1; SELECT 3; INCR a; SELECT 0; SET a 3", want: "INCR a", from: 1, to: 1},
		{name: "move", dbs: "0:4,3:1", commands: "MOVE a 3", want: "MOVE a 1", from: 4, to: 4},
		{name: "move out", dbs: "0:4", skip: true, commands: "MOVE a 3", want: "UNLINK a", from: 4, to: 4},
		{name: "move in", dbs: "3:4", skip: true, commands: "MOVE a 3", err: "MOVE of database 0"},
		{name: "move between what is left out", dbs: "3:4", skip: true, commands: "MOVE a 2"},
		{name: "move to nowhere", dbs: "0:4", commands: "MOVE a 3", err: "MOVE of database 3"},
		{name: "copy", dbs: "0:4,3:1", commands: "COPY a b DB 3 REPLACE", want: "COPY a b DB 1 REPLACE", from: 4, to: 4},
		{name: "copy out", dbs: "0:4", skip: true, commands: "COPY a b DB 3"},
		{name: "copy within", dbs: "0:4", commands: "COPY a b", want: "COPY a b", from: 4, to: 4},
		{name: "swap", dbs: "all", commands: "SWAPDB 2 3", want: "SWAPDB 2 3"},
		{name: "swap of the home", dbs: "all", db: 5, commands: "SWAPDB 3 0", want: "SWAPDB 3 0; " + bring("3", "0")},
		{name: "swap of mapped ones", dbs: "0:7,3:1", commands: "SWAPDB 0 3; SET a 1", want: "SWAPDB 7 1; " + bring("7", "1") + "; SELECT 7; SET a 1", from: 1, to: 7},
		{name: "swap with one that is left out", dbs: "0:0", skip: true, commands: "SWAPDB 0 3", err: "SWAPDB"},
		{name: "flush within", dbs: "all", db: 3, commands: "FLUSHDB; SET a 1", want: "FLUSHDB ASYNC; SET a 1", from: 3, to: 3},
		{
			name: "flush of the home within", dbs: "all", commands: "FLUSHDB; SET a 1",
			want: "MOVE " + w + " 1; MOVE " + f + " 1; MOVE " + c + " 1; SELECT 1; SELECT 0; FLUSHDB ASYNC; " + bring("1", "0") + "; SET a 1",
		},
		{name: "flush of all within", dbs: "all", commands: "FLUSHALL; SET a 1", err: "FLUSHALL"},
		{name: "a cluster", dbs: "all", cluster: true, commands: "SET a 1", want: "SET a 1", blind: true},
		{name: "a cluster and another database", dbs: "all", cluster: true, db: 1, commands: "SET a 1", err: "a cluster has database 0 only"},
		{name: "a cluster, mapped", dbs: "1:0", cluster: true, db: 1, commands: "SET a 1", want: "SET a 1", blind: true},
		{name: "a cluster, left out", dbs: "all", skip: true, cluster: true, commands: "INCR a; SELECT 1; INCR b", want: "INCR a"},
	} {
		dbs, err := ParseDatabases(tc.dbs)
		if err != nil {
			t.Fatal(err)
		}
		sh := &shape{single: !tc.cluster, name: "t", slot: 0, dbs: dbs, skip: tc.skip}
		commands, n := wire(tc.commands)
		e := &event.Event{Kind: event.Unit, DB: tc.db, Key: []byte("a"), Commands: commands, Count: uint32(n), Slot: 5}
		var scratch scratch
		u := &unit{}
		err = u.read(e, 9, 0, nil, &scratch)
		if err == nil {
			err = sh.place(u, e)
		}
		if tc.err != "" {
			if !errors.As(err, new(*DatabaseError)) || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		want := strings.ReplaceAll(tc.want, "{tag}", "{"+slot.Tag(0)+"}")
		if got := unwire(u.commands); err != nil || got != want {
			t.Errorf("%s:\n got %s, %v\nwant %s", tc.name, got, err, want)
			continue
		}
		if want == "" {
			if u.count != 0 {
				t.Errorf("%s: %d commands are left", tc.name, u.count)
			}
			continue
		}
		if _, n := wire(want); u.count != n || u.db != tc.from || u.last != tc.to || u.blind != tc.blind {
			t.Errorf("%s: %+v", tc.name, u)
		}
		if !tc.cluster && u.slot != 0 || tc.cluster && u.slot != 5 {
			t.Errorf("%s: slot %d", tc.name, u.slot)
		}
	}
}

// Between two transactions a connection is in the home database.
func TestSteps(t *testing.T) {
	dbs, _ := ParseDatabases("0:2,1:5,3:7")
	sh := &shape{single: true, dbs: dbs}
	u := func(db, last uint32) *unit {
		return &unit{db: db, last: last, commands: resp.AppendCommand(nil, "X"), count: 1}
	}
	for want, units := range map[string][]*unit{
		"X; X":                           {u(2, 2), u(2, 2)},
		"SELECT 5; X; X; SELECT 2":       {u(5, 5), u(5, 5)},
		"X; SELECT 7; X; X":              {u(2, 2), u(7, 2), u(2, 2)},
		"SELECT 5; X; SELECT 5; X":       {u(5, 7), u(5, 2)},
		"X; SELECT 5; X; SELECT 2; X":    {u(2, 2), u(5, 5), u(2, 2)},
		"SELECT 7; X; SELECT 2; X":       {u(7, 7), u(2, 2)},
		"SELECT 7; X; SELECT 2":          {u(7, 5)},
		"X; SELECT 2":                    {u(2, 5)},
		"SELECT 7; X; X; X; X; SELECT 2": {u(7, 7), u(7, 7), u(7, 7), u(7, 7)},
	} {
		var got []byte
		for _, s := range sh.steps(units) {
			got = append(got, s.commands...)
		}
		if unwire(got) != want {
			t.Errorf("got %s, want %s", unwire(got), want)
		}
	}
}
