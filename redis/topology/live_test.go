package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// server is one of the kit's, with our own client.
type server struct{ *redistest.Node }

func startServer(w *testkit.World, args ...string) server {
	return server{w.Server("", args...)}
}

func until(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("still not so: %s: %v", what, err)
}

func (s server) do(t *testing.T, args ...any) any {
	t.Helper()
	c := new(Dialer).Client(s.Addr())
	defer c.Close()
	v, err := c.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return v
}

func TestLiveCluster(t *testing.T) {
	w := testkit.New(t)
	var servers []server
	var addrs []string
	for range 6 {
		s := startServer(w, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		servers = append(servers, s)
		addrs = append(addrs, s.Addr())
	}
	d := &Dialer{Timeout: 2 * time.Second}
	ctx := t.Context()

	// Before it is a cluster: each knows itself alone.
	top, err := Discover(ctx, d, addrs[:2])
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Shards) != 1 || top.Uncovered.Len() != slot.Count || top.Shards[0].Master.Addr != addrs[0] {
		t.Errorf("node on its own: %s", describe(top))
	}

	bin, err := redistest.BinDir(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	create := exec.Command(filepath.Join(bin, "redis-cli"), append(append([]string{"--cluster", "create"}, addrs...),
		"--cluster-replicas", "1", "--cluster-yes")...)
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("create cluster: %v\n%s", err, out)
	}
	settled := func() error {
		for _, a := range addrs {
			top, err := Discover(ctx, d, []string{a})
			if err != nil {
				return err
			}
			if len(top.Shards) != 3 || !top.Uncovered.IsEmpty() {
				return fmt.Errorf("%s sees %s", a, describe(top))
			}
			for _, s := range top.Shards {
				if len(s.Replicas) != 1 {
					return fmt.Errorf("%s sees %s", a, describe(top))
				}
			}
		}
		return nil
	}
	until(t, "three shards of two", settled)
	for _, srv := range servers { // a replica that was never in step takes over from nobody
		until(t, srv.Addr()+" is in step", func() error {
			info := fmt.Sprint(srv.do(t, "INFO", "replication"))
			if !strings.Contains(info, "role:master") && !strings.Contains(info, "master_link_status:up") {
				return errors.New("link is down")
			}
			return nil
		})
	}

	t.Run("whole", func(t *testing.T) {
		// A dead seed and one that is no address are passed over.
		top, err := Discover(ctx, d, []string{"nonsense", fmt.Sprintf("127.0.0.1:%d", w.Port()), addrs[4]})
		if err != nil {
			t.Fatal(err)
		}
		if len(top.Unasked) != 0 || len(top.InFlight) != 0 {
			t.Errorf("unasked %v, in flight %v", top.Unasked, top.InFlight)
		}
		for i, want := range []string{"0-5460", "5461-10922", "10923-16383"} {
			s := top.Shards[i]
			if s.Slots.String() != want || s.Master.Addr != addrs[i] || s.Master.MasterID != "" || len(s.Master.ID) != 40 {
				t.Errorf("shard %d: %s at %s", i, s.Slots.String(), s.Master.Addr)
			}
			if m, ok := top.MasterOf(s.Slots.Ranges()[0].First); !ok || m.ID != s.Master.ID {
				t.Errorf("master of shard %d's first slot: %v", i, m)
			}
			if n, ok := top.Node(s.Replicas[0].ID); !ok || n.MasterID != s.Master.ID {
				t.Errorf("replica of shard %d: %v", i, n)
			}
			t.Logf("shard id %q", s.ShardID)
		}
	})

	t.Run("moves", func(t *testing.T) {
		top, err := Discover(ctx, d, addrs)
		if err != nil {
			t.Fatal(err)
		}
		a, b, c := top.Shards[0].Master.ID, top.Shards[1].Master.ID, top.Shards[2].Master.ID
		servers[0].do(t, "CLUSTER", "SETSLOT", 5, "MIGRATING", b)
		servers[1].do(t, "CLUSTER", "SETSLOT", 5, "IMPORTING", a)
		servers[2].do(t, "CLUSTER", "SETSLOT", 7, "IMPORTING", a) // the other side never came to it
		want := fmt.Sprint([]SlotMove{
			{Slot: 5, From: a, To: b, Migrating: true, Importing: true},
			{Slot: 7, From: a, To: c, Importing: true},
		})
		for _, seed := range addrs { // whichever node is asked, a replica too
			top, err := Discover(ctx, d, []string{seed})
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(top.InFlight); got != want {
				t.Errorf("asked %s: %s, want %s", seed, got, want)
			}
		}
		for _, s := range servers[:3] {
			s.do(t, "CLUSTER", "SETSLOT", 5, "STABLE")
			s.do(t, "CLUSTER", "SETSLOT", 7, "STABLE")
		}
	})

	t.Run("hostname", func(t *testing.T) {
		for _, s := range servers {
			s.do(t, "CONFIG", "SET", "cluster-announce-hostname", "localhost")
			s.do(t, "CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
		}
		until(t, "hostnames are known", func() error {
			top, err := Discover(ctx, d, addrs[:1])
			if err != nil {
				return err
			}
			for _, s := range top.Shards {
				if s.Master.Host != "localhost" || s.Replicas[0].Hostname != "localhost" || len(top.Unasked) > 0 {
					return fmt.Errorf("%+v, unasked %v", s.Master, top.Unasked)
				}
			}
			return nil
		})
		for _, s := range servers {
			s.do(t, "CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
		}
		top, err := Discover(ctx, d, []string{strings.Replace(addrs[0], "127.0.0.1", "localhost", 1)})
		if err != nil {
			t.Fatal(err)
		}
		if h := top.Shards[1].Master.Host; h != "localhost" {
			t.Errorf("unknown endpoint: host %q", h)
		}
		for _, s := range servers {
			s.do(t, "CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
		}
	})

	t.Run("failover", func(t *testing.T) {
		if err := servers[0].Kill(); err != nil {
			t.Fatal(err)
		}
		until(t, "a replica has taken over", func() error {
			top, err := Discover(ctx, d, addrs)
			if err != nil {
				return err
			}
			if m, ok := top.MasterOf(0); !ok || m.Addr == addrs[0] || len(top.Shards) != 3 || len(top.Unasked) != 0 {
				return fmt.Errorf("%s unasked %v", describe(top), top.Unasked)
			}
			return nil
		})
	})
}

func TestLiveErrors(t *testing.T) {
	ctx := t.Context()
	w := testkit.New(t)
	single := startServer(w)
	locked := startServer(w, "--requirepass", "secret", "--cluster-enabled", "yes")
	c := (&Dialer{Password: "secret"}).Client(locked.Addr())
	defer c.Close()
	if err := c.Do(ctx, "ACL", "SETUSER", "weak", "on", ">pw", "~*", "+ping").Err(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hangup, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangup.Close()
	go func() { // ends with the listener
		for {
			conn, err := hangup.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	closed := fmt.Sprintf("127.0.0.1:%d", w.Port())

	tests := []struct {
		name string
		d    Dialer
		addr string
		want error
	}{
		{"not a cluster", Dialer{}, single.Addr(), ErrNotCluster},
		{"password needed", Dialer{}, locked.Addr(), ErrAuth},
		{"wrong password", Dialer{Password: "wrong"}, locked.Addr(), ErrAuth},
		{"wrong password of a user", Dialer{Username: "weak", Password: "wrong"}, locked.Addr(), ErrAuth},
		{"no such user", Dialer{Username: "nobody", Password: "x"}, locked.Addr(), ErrAuth},
		{"not allowed", Dialer{Username: "weak", Password: "pw"}, locked.Addr(), ErrPermission},
		// Since Redis 6 a password too many is accepted.
		{"password not wanted", Dialer{Password: "x"}, single.Addr(), ErrNotCluster},
		{"closed port", Dialer{}, closed, ErrUnreachable},
		{"silence", Dialer{Timeout: 200 * time.Millisecond}, silent.Addr().String(), ErrUnreachable},
		{"hangs up", Dialer{}, hangup.Addr().String(), ErrUnreachable},
		{"no such host", Dialer{}, "no-such-host.invalid:6379", ErrUnreachable},
		{"no port", Dialer{}, "127.0.0.1", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Discover(ctx, &tt.d, []string{tt.addr})
			var e *Error
			if !errors.As(err, &e) || e.Addr != tt.addr || e.Hint == "" || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%#v", err)
			}
			t.Log(err)
		})
	}

	if _, err := Discover(ctx, &Dialer{}, nil); err == nil {
		t.Error("no seeds: no error")
	}
	_, err = Discover(ctx, &Dialer{}, []string{closed, closed})
	if n := strings.Count(err.Error(), closed); n < 2 {
		t.Errorf("two seeds: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Discover(cancelled, &Dialer{}, []string{closed, single.Addr()}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// The right password finds the node, which has no slots.
	top, err := Discover(ctx, &Dialer{Password: "secret"}, []string{locked.Addr()})
	if err != nil || top.Uncovered.Len() != slot.Count || len(top.Unasked) != 0 {
		t.Errorf("right password: %+v, %v", top, err)
	}
}
