package redistest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit/redistest"
)

func TestClusterSurvivesMaster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	begin := time.Now()
	c := start(t, redistest.Config{Masters: 3, ReplicasPerMaster: 1})
	t.Logf("3+3 nodes ready after %v", time.Since(begin).Round(time.Millisecond))
	if got := len(c.Addrs()); got != 6 {
		t.Fatalf("%d addresses, want 6", got)
	}
	for i := range 100 {
		if err := c.Client().Set(ctx, fmt.Sprint("key", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.Masters() {
		if acked, err := n.Client().Wait(ctx, 1, time.Second).Result(); err != nil || acked < 1 {
			t.Fatalf("no replica of %s acknowledges: %d, %v", n.Addr(), acked, err)
		}
	}

	old := c.Masters()[0]
	begin = time.Now()
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	waitOwner(t, c, 0, c.ReplicasOf(0)[0])
	t.Logf("replica took over after %v", time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	if err := old.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("old master back as a replica after %v", time.Since(begin).Round(time.Millisecond))
	masters, err := c.CurrentMasters(ctx)
	if err != nil || len(masters) != 3 {
		t.Fatalf("%d masters, %v", len(masters), err)
	}
	for i := range 100 {
		if got, err := c.Client().Get(ctx, fmt.Sprint("key", i)).Int(); err != nil || got != i {
			t.Fatalf("key%d is %d, %v", i, got, err)
		}
	}
	if role, err := old.Client().Do(ctx, "role").Slice(); err != nil || role[0] != "slave" {
		t.Fatalf("role of the old master: %v, %v", role, err)
	}
}

func TestAddMasterMoveSlotsPause(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := start(t, redistest.Config{Masters: 1})
	if err := c.Client().Set(ctx, "foo", "bar", 0).Err(); err != nil { // slot 12182
		t.Fatal(err)
	}
	n, err := c.AddMaster(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MoveSlots(ctx, c.Masters()[0], n, 12182, 0, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if owner, err := c.Owner(ctx, 12182); err != nil || owner != n {
		t.Fatalf("owner %v, %v", owner, err)
	}
	if got, err := n.Client().Get(ctx, "foo").Result(); err != nil || got != "bar" {
		t.Fatalf("foo is %q, %v", got, err)
	}

	if err := n.Pause(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := n.Client().Ping(short).Err(); err == nil {
		t.Error("a paused node answers")
	}
	if err := n.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := n.Client().Ping(ctx).Err(); err != nil {
		t.Error(err)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n, err := redistest.StartServer(ctx, redistest.ServerConfig{Dir: t.TempDir(), Args: []string{"--maxmemory", "100mb"}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if got := n.Client().ConfigGet(ctx, "maxmemory").Val()["maxmemory"]; got != "104857600" {
		t.Errorf("maxmemory %q", got)
	}
	if err := n.Client().Do(ctx, "debug", "digest").Err(); err != nil {
		t.Error(err)
	}
	if err := n.Start(ctx); err == nil {
		t.Error("started twice")
	}
	if u := n.Process().Usage(); u.RSSBytes == 0 {
		t.Errorf("usage %+v", u)
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
	if err := n.Start(ctx); err != nil {
		t.Error(err)
	}
}

func TestBadOptionIsNamed(t *testing.T) {
	t.Parallel()
	_, err := redistest.StartServer(t.Context(), redistest.ServerConfig{Dir: t.TempDir(), Args: []string{"--no-such", "1"}})
	if err == nil {
		t.Fatal("no error")
	}
	t.Log(err)
}

func start(t *testing.T, cfg redistest.Config) *redistest.Cluster {
	t.Helper()
	cfg.Dir = t.TempDir()
	c, err := redistest.StartCluster(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func waitOwner(t *testing.T, c *redistest.Cluster, slot int, want *redistest.Node) {
	t.Helper()
	var owner *redistest.Node
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if owner, err = c.Owner(t.Context(), slot); err == nil && owner == want {
			return
		}
	}
	t.Fatalf("owner %v, %v", owner, err)
}
