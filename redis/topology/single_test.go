package topology

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/slot"
)

func TestNewestOf(t *testing.T) {
	a := single{addr: "a", runID: "1", replID: "x"}
	b := single{addr: "b", runID: "2", replID: "y", oldReplID: "x"}
	c := single{addr: "c", runID: "3", replID: "z", oldReplID: "y"}
	for _, masters := range [][]single{{a, b, c}, {c, a, b}, {b, c}} {
		m, err := newestOf(masters)
		if err != nil || m.addr != "c" {
			t.Errorf("%v: got %v, %v", masters, m, err)
		}
	}
	if _, err := newestOf([]single{a, c}); !errors.Is(err, ErrSeveralMasters) {
		t.Errorf("got %v", err)
	}
	if m, err := newestOf(nil); m != nil || err != nil {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestParseSingle(t *testing.T) {
	s, err := parseSingle("h:1", "role:master\r\nrun_id:r\r\nmaster_replid:x\r\nslave0:ip=10.0.0.1,port=6380,state=online,offset=1,lag=0\r\n"+
		"slave1:ip=10.0.0.9,port=0,state=online,offset=1,lag=0\r\nslave2:ip=::1,port=6381,state=online,offset=1,lag=0\r\nslave_read_only:1\r\n")
	if err != nil || fmt.Sprint(s.replicas) != "[10.0.0.1:6380 [::1]:6381]" || !s.master || s.runID != "r" {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := parseSingle("h:1", "role:sentinel\r\n"); !errors.Is(err, ErrUnusable) {
		t.Errorf("got %v", err)
	}
}

// A pair, found from either node, through a promotion, with the old master still up, and beside a stranger.
func TestFindSingle(t *testing.T) {
	for _, version := range []string{"", "redis-5.0", "redis-8.6", "valkey-8.1"} {
		t.Run(version, func(t *testing.T) {
			w := testkit.New(t)
			a, b, other := server{w.Server(version)}, server{w.Server(version)}, server{w.Server(version)}
			d := &Dialer{Timeout: 2 * time.Second}
			find := func(seeds ...string) (*Topology, error) { return Find(t.Context(), d, seeds, nil) }
			if _, err := Discover(t.Context(), d, []string{a.Addr()}); !errors.Is(err, ErrNotCluster) {
				t.Fatalf("got %v", err)
			}
			b.do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(a.Port()))
			until(t, "in step", func() error {
				if info := fmt.Sprint(b.do(t, "INFO", "replication")); !strings.Contains(info, "master_link_status:up") {
					return errors.New("link is down")
				}
				return nil
			})
			a.do(t, "SET", "k", "v")
			for _, seeds := range [][]string{{a.Addr()}, {b.Addr()}, {"127.0.0.1:1", b.Addr(), a.Addr()}} {
				top, err := find(seeds...)
				if err != nil {
					t.Fatal(err)
				}
				sh := top.Shards[0]
				if !top.Single || top.RunID == "" || len(top.Shards) != 1 || sh.Master.Addr != a.Addr() || sh.Slots.Len() != slot.Count ||
					!top.Uncovered.IsEmpty() || len(sh.Replicas) != 1 || sh.Replicas[0].Addr != b.Addr() || sh.Master.ID != "single:"+a.Addr() {
					t.Errorf("from %v: %s", seeds, describe(top))
				}
			}
			b.do(t, "REPLICAOF", "NO", "ONE")
			if top, err := find(a.Addr(), b.Addr()); err != nil || top.Shards[0].Master.Addr != b.Addr() {
				t.Errorf("two masters: %v, %v", top, err)
			}
			if top, err := Find(t.Context(), d, []string{a.Addr()}, []string{b.Addr()}); err != nil || top.Shards[0].Master.Addr != a.Addr() {
				t.Errorf("a replica that somebody cut off is no successor unless it is named: %v, %v", top, err)
			}
			if _, err := find(b.Addr(), other.Addr()); !errors.Is(err, ErrSeveralMasters) {
				t.Errorf("a stranger: %v", err)
			}
			if err := a.Kill(); err != nil {
				t.Fatal(err)
			}
			if top, err := Find(t.Context(), d, []string{a.Addr()}, []string{b.Addr()}); err != nil || top.Shards[0].Master.Addr != b.Addr() {
				t.Errorf("a learned address: %v, %v", top, err)
			}
			if _, err := find(a.Addr()); !errors.Is(err, ErrUnreachable) {
				t.Errorf("nobody there: %v", err)
			}
		})
	}
}
