package topology

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redriver/redriver/redis/slot"
)

const (
	idA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	idC = "cccccccccccccccccccccccccccccccccccccccc"
	idD = "dddddddddddddddddddddddddddddddddddddddd"
)

func slots(t *testing.T, text string) slot.Set {
	t.Helper()
	s, err := slot.ParseSet(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestParseNode is trap 24.
func TestParseNode(t *testing.T) {
	tests := []struct {
		name, line string
		want       Node
	}{
		{
			"master", idA + " 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460",
			Node{
				ID: idA, Addr: "10.0.0.1:7000", Host: "10.0.0.1", Port: 7000, IP: "10.0.0.1",
				Flags: Myself | Master, ConfigEpoch: 1, Linked: true, Slots: slots(t, "0-5460"),
			},
		},
		{
			"no cluster port, single slots", idA + " 10.0.0.1:7000 master - 0 1426238317239 4 connected 0 2-3 16383",
			Node{
				ID: idA, Addr: "10.0.0.1:7000", Host: "10.0.0.1", Port: 7000, IP: "10.0.0.1",
				Flags: Master, ConfigEpoch: 4, Linked: true, Slots: slots(t, "0 2-3 16383"),
			},
		},
		{
			"replica, hostname", idB + " 10.0.0.2:7001@17001,node-2.example slave,nofailover " + idA + " 0 1 1 disconnected",
			Node{
				ID: idB, Addr: "10.0.0.2:7001", Host: "10.0.0.2", Port: 7001, IP: "10.0.0.2", Hostname: "node-2.example",
				MasterID: idA, Flags: Replica | NoFailover, ConfigEpoch: 1,
			},
		},
		{
			"names behind the hostname", idA + " 10.0.0.1:7000@17000,,tls-port=7443,shard-id=5e master - 0 0 0 connected",
			Node{
				ID: idA, Addr: "10.0.0.1:7000", Host: "10.0.0.1", Port: 7000, IP: "10.0.0.1", ShardID: "5e",
				Flags: Master, Linked: true,
			},
		},
		{
			"IPv6", idA + " 2001:db8::1:7000@17000 master - 0 0 0 connected",
			Node{
				ID: idA, Addr: "[2001:db8::1]:7000", Host: "2001:db8::1", Port: 7000, IP: "2001:db8::1",
				Flags: Master, Linked: true,
			},
		},
		{
			"own address not known", idA + " :7000@17000 myself,master - 0 0 0 connected",
			Node{ID: idA, Port: 7000, Flags: Myself | Master, Linked: true},
		},
		{
			"noaddr", idA + " :0@0 master,fail,noaddr - 5 6 3 disconnected 7",
			Node{ID: idA, Flags: Master | Failed | NoAddr, ConfigEpoch: 3, Slots: slots(t, "7")},
		},
		{
			"handshake", idA + " 10.0.0.9:7000@17000 handshake - 0 0 0 disconnected",
			Node{ID: idA, Addr: "10.0.0.9:7000", Host: "10.0.0.9", Port: 7000, IP: "10.0.0.9", Flags: Handshake},
		},
		{
			"suspected, a flag of the future", idA + " 10.0.0.1:7000@17000 master,fail?,shiny - 0 0 0 connected",
			Node{
				ID: idA, Addr: "10.0.0.1:7000", Host: "10.0.0.1", Port: 7000, IP: "10.0.0.1",
				Flags: Master | Suspected, Linked: true,
			},
		},
		{
			"moves", idA + " 10.0.0.1:7000@17000 myself,master - 0 0 0 connected 5 [93->-" + idB + "] [77-<-" + idC + "]",
			Node{
				ID: idA, Addr: "10.0.0.1:7000", Host: "10.0.0.1", Port: 7000, IP: "10.0.0.1",
				Flags: Myself | Master, Linked: true, Slots: slots(t, "5"),
				Moves: []SlotMove{
					{Slot: 93, From: idA, To: idB, Migrating: true},
					{Slot: 77, From: idC, To: idA, Importing: true},
				},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseNodes("\n" + tt.line + "\r\nvars currentEpoch 6 lastVoteEpoch 0\n")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]Node{tt.want}, got, cmp.AllowUnexported(slot.Set{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseNodesMalformed(t *testing.T) {
	head := idA + " 10.0.0.1:7000@17000 master - 0 0 0 connected "
	for _, line := range []string{
		"", "\n\n", "hello", idA + " 10.0.0.1:7000@17000 master - 0 0 0",
		idA + " 10.0.0.1 master - 0 0 0 connected", idA + " 10.0.0.1:x@1 master - 0 0 0 connected",
		idA + " 10.0.0.1:70000@1 master - 0 0 0 connected", idA + " 10.0.0.1:7000 master - 0 0 -1 connected",
		head + "16384", head + "5-", head + "-5", head + "9-3", head + "x", head + "0-16384", head + "65541",
		head + "[5]", head + "[5->-]", head + "[5->-x", head + "[x->-y]", head + "[16384->-y]", head + "[",
	} {
		if n, err := ParseNodes(line); !errors.Is(err, ErrUnusable) {
			t.Errorf("%q: %v, %v", line, n, err)
		}
	}
}

func TestParseShards(t *testing.T) {
	list := func(v ...any) []any { return v }
	got, err := ParseShards(list(
		list("slots", list(int64(0), int64(5)), "nodes", list(
			list("id", idA, "port", int64(7000), "ip", "10.0.0.1", "endpoint", "a.example", "hostname", "a.example", "role", "master"),
			list("id", idB, "tls-port", int64(7443), "port", int64(7001), "endpoint", "?"),
		)),
		list("slots", list(), "id", "5e", "nodes", list(
			list("id", idC, "port", int64(7002), "endpoint", nil),
			list("id", idD, "tls-port", int64(7443), "endpoint", ""),
		)),
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []Endpoint{
		{ID: idA, Host: "a.example", Port: 7000},
		{ID: idB, Unknown: true, Port: 7001, TLSPort: 7443},
		{ID: idC, Port: 7002, ShardID: "5e"},
		{ID: idD, TLSPort: 7443, ShardID: "5e"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []any{
		nil, "OK", int64(5), list("x"), list(list("nodes")), list(list("nodes", "x")),
		list(list("nodes", list("x"))), list(list("nodes", list(list("id", int64(5))))),
	} {
		if _, err := ParseShards(bad); !errors.Is(err, ErrUnusable) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestParseSlots(t *testing.T) {
	list := func(v ...any) []any { return v }
	got, err := ParseSlots(list(
		list(int64(0), int64(5), list("10.0.0.1", int64(7000), idA, list()), list(nil, int64(7001), idB, list("ip", "10.0.0.2"))),
		list(int64(7), int64(7), list("10.0.0.1", int64(7000), idA)),
		list(int64(8), int64(9), list("?", int64(7002), idC), list("10.0.0.4", int64(7003))),
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []Endpoint{
		{ID: idA, Host: "10.0.0.1", Port: 7000}, {ID: idB, Port: 7001}, {ID: idC, Unknown: true, Port: 7002},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []any{nil, "OK", list("x"), list(list()), list(list(int64(1), int64(2), "x")), list(list(int64(1), int64(2), list("h")))} {
		if _, err := ParseSlots(bad); !errors.Is(err, ErrUnusable) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// describe writes a topology in a line for each shard.
func describe(top *Topology) string {
	var b strings.Builder
	for _, s := range top.Shards {
		b.WriteString(s.Master.ID[:1] + " " + s.Master.Addr + " [" + s.Slots.String() + "]")
		for _, r := range s.Replicas {
			b.WriteString(" " + r.ID[:1] + " " + r.Addr)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestBuild(t *testing.T) {
	tests := []struct {
		name, nodes string
		ends        []Endpoint
		want        string
		uncovered   string
	}{
		{
			"plain, sorted by slot", idB + ` 10.0.0.2:1@2 master - 0 0 2 connected 8192-16383
` + idA + ` 10.0.0.1:1@2 myself,master - 0 0 1 connected 0-8191
` + idC + ` 10.0.0.3:1@2 slave ` + idA + ` 0 0 1 connected`, nil,
			"a 10.0.0.1:1 [0-8191] c 10.0.0.3:1\nb 10.0.0.2:1 [8192-16383]\n", "",
		},
		{
			"no slots, not covered", idB + ` 10.0.0.2:1@2 master - 0 0 2 connected
` + idA + ` 10.0.0.1:1@2 myself,master - 0 0 1 connected 5 100-16383`, nil,
			"a 10.0.0.1:1 [5 100-16383]\nb 10.0.0.2:1 []\n", "0-4 6-99",
		},
		{
			"own address not known", idA + ` :7000@17000 myself,master - 0 0 1 connected 0-16383`, nil,
			"a asked:7000 [0-16383]\n", "",
		},
		{
			"failed: with slots it stays, without it goes, strangers go", idA + ` 10.0.0.1:1@2 master,fail - 0 0 1 disconnected 0-99
` + idB + ` 10.0.0.2:1@2 master,fail - 0 0 1 disconnected
` + idC + ` 10.0.0.3:1@2 handshake - 0 0 0 disconnected
` + idD + ` :0@0 master,noaddr - 0 0 0 disconnected 100-16383`, nil,
			"a 10.0.0.1:1 [0-99]\nd  [100-16383]\n", "",
		},
		{
			"replica of a replica", idC + ` 10.0.0.3:1@2 slave ` + idB + ` 0 0 1 connected
` + idB + ` 10.0.0.2:1@2 slave ` + idA + ` 0 0 1 connected
` + idA + ` 10.0.0.1:1@2 master - 0 0 1 connected 0-16383`, nil,
			"a 10.0.0.1:1 [0-16383] c 10.0.0.3:1 b 10.0.0.2:1\n", "",
		},
		{
			"replicas of each other, of nobody", idC + ` 10.0.0.3:1@2 slave ` + idB + ` 0 0 1 connected
` + idB + ` 10.0.0.2:1@2 slave ` + idC + ` 0 0 1 connected
` + idD + ` 10.0.0.4:1@2 slave - 0 0 1 connected
` + idA + ` 10.0.0.1:1@2 master - 0 0 1 connected 0-16383`, nil,
			"a 10.0.0.1:1 [0-16383]\n", "",
		},
		{
			"two owners: the higher epoch", idA + ` 10.0.0.1:1@2 master - 0 0 1 connected 0-100
` + idB + ` 10.0.0.2:1@2 master - 0 0 2 connected 50-16383`, nil,
			"a 10.0.0.1:1 [0-49]\nb 10.0.0.2:1 [50-16383]\n", "",
		},
		{
			"endpoints", idA + ` 10.0.0.1:1@2,a.example master - 0 0 1 connected 0-99
` + idB + ` 10.0.0.2:1@2 master - 0 0 2 connected 100-199
` + idC + ` 10.0.0.3:1@2 master - 0 0 2 connected 200-299
` + idD + ` 10.0.0.4:0@2 master - 0 0 2 connected 300-16383`,
			[]Endpoint{{ID: idA, Host: "a.example", Port: 1}, {ID: idB, Unknown: true, Port: 1}, {ID: idC, Port: 9}, {ID: idD, Host: "d", TLSPort: 7443}},
			"a a.example:1 [0-99]\nb 10.0.0.2:1 [100-199]\nc asked:9 [200-299]\nd d:7443 [300-16383]\n", "",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes, err := ParseNodes(tt.nodes)
			if err != nil {
				t.Fatal(err)
			}
			top := Build("asked", nodes, tt.ends)
			if d := cmp.Diff(tt.want, describe(top)); d != "" {
				t.Error(d)
			}
			if got := top.Uncovered.String(); got != tt.uncovered {
				t.Errorf("uncovered %q, want %q", got, tt.uncovered)
			}
			if _, ok := top.MasterOf(4); ok == top.Uncovered.Has(4) {
				t.Error("slot 4: master and uncovered disagree")
			}
		})
	}
}

func TestMovesJoin(t *testing.T) {
	top := &Topology{}
	top.addMoves([]SlotMove{{Slot: 9, From: idA, To: idB, Migrating: true}, {Slot: 3, From: idA, To: idC, Migrating: true}})
	top.addMoves([]SlotMove{{Slot: 9, From: idA, To: idB, Importing: true}, {Slot: 9, From: idC, To: idB, Importing: true}})
	want := []SlotMove{
		{Slot: 3, From: idA, To: idC, Migrating: true},
		{Slot: 9, From: idA, To: idB, Migrating: true, Importing: true},
		{Slot: 9, From: idC, To: idB, Importing: true},
	}
	if d := cmp.Diff(want, top.InFlight); d != "" {
		t.Error(d)
	}
}

func FuzzParseNodes(f *testing.F) {
	f.Add(idA + " 10.0.0.1:7000@17000,h,shard-id=5e myself,master - 0 0 1 connected 0-5460 7 [93->-" + idB + "]")
	f.Add(idB + " ::1:7001@17001 slave,fail? " + idA + " 0 1 1 disconnected")
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := ParseNodes(text)
		if err != nil {
			return
		}
		top := Build("h", nodes, nil)
		covered := slot.Set{}
		for _, s := range top.Shards {
			covered = covered.Union(&s.Slots)
		}
		if covered.Len()+top.Uncovered.Len() != slot.Count {
			t.Errorf("%d covered, %d not", covered.Len(), top.Uncovered.Len())
		}
	})
}
