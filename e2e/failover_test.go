package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/verify"
)

// replOffset is how far a node's replication stream goes.
func replOffset(ctx context.Context, n *redistest.Node, field string) (int64, error) {
	info, err := n.Client().InfoMap(ctx, "replication").Result()
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(info["Replication"][field], 10, 64)
}

// A master of the target is cut off from its replica, goes on acknowledging writes, and dies: the replica that takes its place
// lacks them. The sink goes back to what the replica vouches for; the history holds, and no counter is one too high.
//
// Fault (sink): a target node fails over to a replica that lacks acknowledged writes. The sink goes back to what the
// replica has; no counter is one too high.
func TestTargetFailoverThatLosesAcknowledgedWrites(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 1, 0), w.Cluster(2, 1)
	p := newPipeline(t, w, w.FakeKafka().Addr(), source)
	from, to := p.run(p.sourceConfig()), p.run(p.sinkConfig("to", target))
	p.mark(target.Client(), time.Minute)
	h, err := load.NewHistory(source.Client(), load.HistoryConfig{Prefix: "history", Keys: 32, Workers: 4, Rate: 800})
	if err != nil {
		t.Fatal(err)
	}
	writing, stopWriting := context.WithCancel(t.Context())
	defer stopWriting()
	sampling, stopSampling := context.WithCancel(t.Context())
	defer stopSampling()
	sampled, wrote := make(chan error, 1), make(chan error, 1)
	go func() { sampled <- h.Sample(sampling, target.Client()) }()
	go func() { wrote <- h.Run(writing) }()

	grows := func(n *redistest.Node, by int64) int64 {
		t.Helper()
		begin, err := replOffset(t.Context(), n, "master_repl_offset")
		if err != nil {
			t.Fatal(err)
		}
		w.Eventually(time.Minute, "the target's node is written to", func() error {
			now, err := replOffset(t.Context(), n, "master_repl_offset")
			if err == nil && now < begin+by {
				err = fmt.Errorf("by %d bytes", now-begin)
			}
			return err
		})
		return begin
	}
	for i, master := range target.Masters() {
		replica := target.ReplicasOf(i)[0]
		grows(master, 50_000)
		if err := replica.Pause(); err != nil {
			t.Fatal(err)
		}
		if err := master.Client().ClientKillByFilter(t.Context(), "TYPE", "replica").Err(); err != nil {
			t.Fatal(err)
		}
		grows(master, 100_000)
		had, err := replOffset(t.Context(), master, "master_repl_offset")
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			stopSampling() // its client would look for the dead
			<-sampled
		}
		if err := master.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := replica.Continue(); err != nil {
			t.Fatal(err)
		}
		w.Eventually(30*time.Second, "the replica takes over", func() error {
			if err := replica.Client().Do(t.Context(), "CLUSTER", "FAILOVER", "TAKEOVER").Err(); err != nil && !strings.Contains(err.Error(), "to a replica") {
				return err
			}
			if info := replica.Client().Info(t.Context(), "replication").Val(); !strings.Contains(info, "role:master") {
				return errors.New("it is a replica")
			}
			return nil
		})
		has, err := replOffset(t.Context(), replica, "second_repl_offset")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s acknowledged up to %d, %s began at %d", master.Addr(), had, replica.Addr(), has)
		if has > had-50_000 {
			t.Errorf("next to nothing was lost: this shows nothing")
		}
	}
	stopWriting()
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	// A client that knows the new masters.
	promoted := []string{target.ReplicasOf(0)[0].Addr(), target.ReplicasOf(1)[0].Addr()}
	now := redis.NewClusterClient(&redis.ClusterOptions{Addrs: promoted, DisableIdentity: true})
	defer now.Close()
	p.mark(now, time.Minute)
	caughtUp, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.WaitCaughtUp(caughtUp, source.Client(), now); err != nil {
		t.Error(err)
	}
	violations, err := h.Check(t.Context(), source.Client(), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		t.Error(v)
	}
	t.Logf("%+v", h.Stats())
	result, err := verify.Compare(t.Context(), verify.At(source.Addrs()...), verify.At(promoted...), verify.Options{Rounds: 3, ExpiryHold: hold})
	if err != nil || !result.Identical() {
		t.Fatalf("not identical: %v\n%s", err, result.String())
	}
	if !strings.Contains(to.Log(), "starts again from the target's own records") {
		t.Errorf("the sink does not say that it went back:\n%s", to.LogTail(10))
	}
	from.Stop()
	to.Stop()
}
