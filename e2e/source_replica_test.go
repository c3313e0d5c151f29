package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// With redis.read.from: replica the source joins the replicas: no master makes a snapshot for it or sends it anything. When a
// replica is gone its master takes its place, and when the master is gone too, whoever succeeds it, all by partial
// resynchronisation: it is one history.
//
// Fault (source): the replica that the source reads from dies, and then the master that it went on with. It goes on by
// partial resynchronisation at the other node, each time.
func TestReplicasAreReadInPlaceOfTheirMasters(t *testing.T) {
	t.Parallel()
	// Of a replica of Redis 8 snapshots come by a channel of their own.
	for _, version := range []string{redistest.DefaultVersion, "redis-8.6"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := testkit.New(t)
			args := []string{"--repl-backlog-size", backlog}
			source := w.ClusterWith(redistest.Config{Version: version, Masters: 3, ReplicasPerMaster: 1, Args: args})
			sourceReadsReplicas(t, w, source)
		})
	}
}

func sourceReadsReplicas(t *testing.T, w *testkit.World, source *redistest.Cluster) {
	t.Helper()
	c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source, append(ownUser(t, source), "redis.read.from", "replica")...)
	for _, n := range source.Nodes() {
		role, joined := replication(t.Context(), n.Client())["role"], isJoined(t, n)
		if joined != (role == "slave") {
			t.Errorf("%s is a %s, and is joined: %t", n.Addr(), role, joined)
		}
	}

	master, replica := masterOf(t, source)
	full := c.says(saysFull)
	if err := replica.Kill(); err != nil {
		t.Fatal(err)
	}
	c.joins(master)
	c.arrives()
	if err := replica.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ownUser(t, source) // it has forgotten it
	c.arrives()
	inStep(t, master, replica)
	takeOver(t, source, master, replica, "kill")
	c.joins(replica)
	c.arrives()
	if err := master.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := c.says(saysFull) - full; n > c.says(saysDiverged) {
		t.Errorf("%d new generations", n)
	}
	c.settle()
}

// isJoined tells whether the source is among a node's replicas.
func isJoined(t *testing.T, n *redistest.Node) bool {
	t.Helper()
	list, err := n.Client().Do(t.Context(), "CLIENT", "LIST", "TYPE", "replica").Text()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(list, "user=redriver ")
}

// joins waits until the source has joined a node.
func (c *carried) joins(n *redistest.Node) {
	c.t.Helper()
	c.w.Eventually(time.Minute, "the source joins the other node", func() error {
		if !isJoined(c.t, n) {
			return fmt.Errorf("it is not among the replicas of %s", n.Addr())
		}
		return nil
	})
}
