package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// What the source's Redis meets. Slots do not move there.
var sourceFaults = []soakFault{
	{atSource, "a master is killed, its replica takes over", 4, ofSource(killMaster)},
	{atSource, "CLUSTER FAILOVER", 2, ofSource(failover(""))},
	{atSource, "CLUSTER FAILOVER FORCE", 2, ofSource(failover("FORCE"))},
	{atSource, "CLUSTER FAILOVER TAKEOVER", 2, ofSource(failover("TAKEOVER"))},
	{atSource, "a master is stopped (SIGSTOP)", 3, ofSource(pauseMaster)},
	{atSource, "a replica is killed", 2, ofSource(killReplica)},
	{atSource, "masters end all replication links", 3, ofSource(killClients("replica"))},
	{atSource, "links are cut", 2, func(_ context.Context, s *soak, _ *rand.Rand) error { s.toSource.cut(); return nil }},
	{atSource, "a link is away until the backlog is lost", 8, loseSoakBacklog},
	{atSource, "slow links", 2, slowly(func(s *soak) wires { return s.toSource })},
	{atSource, "silent links", 2, silently(func(s *soak) wires { return s.toSource })},
}

var targetFaults = []soakFault{
	{atTarget, "a master is killed, its replica takes over", 4, ofTarget(killMaster)},
	{atTarget, "CLUSTER FAILOVER", 2, ofTarget(failover(""))},
	{atTarget, "CLUSTER FAILOVER FORCE", 1, ofTarget(failover("FORCE"))},
	{atTarget, "CLUSTER FAILOVER TAKEOVER", 2, ofTarget(failover("TAKEOVER"))},
	{atTarget, "a master is stopped (SIGSTOP)", 3, ofTarget(pauseMaster)},
	{atTarget, "a replica is killed", 1, ofTarget(killReplica)},
	{atTarget, "slots move to another master and back", 3, moveAndBack},
	{atTarget, "a node is added and removed", 2, addAndRemove},
	{atTarget, "out of memory", 2, setFor("maxmemory", "1", "0")},
	{atTarget, "NOREPLICAS", 2, setFor("min-replicas-to-write", "5", "0")},
	{atTarget, "MISCONF", 2, cannotSave},
	{atTarget, "LOADING", 2, ofTarget(reload)},
	{atTarget, "timeout 1", 1, setFor("timeout", "1", "0")},
	{atTarget, "masters end all connections", 3, ofTarget(killClients("normal"))},
	{atTarget, "connections are cut", 2, func(_ context.Context, s *soak, _ *rand.Rand) error { s.toTarget.cut(); return nil }},
	{atTarget, "slow connections", 2, slowly(func(s *soak) wires { return s.toTarget })},
	{atTarget, "silent connections", 2, silently(func(s *soak) wires { return s.toTarget })},
}

type (
	happening func(ctx context.Context, s *soak, r *rand.Rand) error
	toCluster func(ctx context.Context, c *redistest.Cluster, r *rand.Rand) error
)

func ofSource(f toCluster) happening {
	return func(ctx context.Context, s *soak, r *rand.Rand) error { return f(ctx, s.source, r) }
}

func ofTarget(f toCluster) happening {
	return func(ctx context.Context, s *soak, r *rand.Rand) error { return f(ctx, s.target, r) }
}

func oneMaster(ctx context.Context, c *redistest.Cluster, r *rand.Rand) (master *redistest.Node, replicas []*redistest.Node, err error) {
	masters, err := c.CurrentMasters(ctx)
	if err != nil {
		return nil, nil, err
	}
	master = masters[r.IntN(len(masters))]
	replicas, err = c.CurrentReplicas(ctx, master)
	if err == nil && len(replicas) == 0 {
		err = fmt.Errorf("%s has no replica", master.Addr())
	}
	return master, replicas, err
}

// killMaster never starts it before its replica has taken over: it comes back empty.
func killMaster(ctx context.Context, c *redistest.Cluster, r *rand.Rand) error {
	master, replicas, err := oneMaster(ctx, c, r)
	if err != nil {
		return err
	}
	if err := master.Kill(); err != nil {
		return err
	}
	if err := awaitSuccessor(ctx, c, master, replicas[0], 20*time.Second, "TAKEOVER"); err != nil {
		return err
	}
	if err := pauseFor(ctx, between(r, 0, 4*time.Second)); err != nil {
		return err
	}
	if err := master.Start(ctx); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

// awaitSuccessor waits until the replica has the slots of its master, and asks it to take them when that does not come.
func awaitSuccessor(ctx context.Context, c *redistest.Cluster, master, replica *redistest.Node, again time.Duration, how string) error {
	asked := time.Now()
	return testkit.Poll(ctx, patience, func() error {
		masters, err := c.CurrentMasters(ctx)
		if err != nil {
			return err
		}
		var old, promoted bool
		for _, m := range masters {
			old, promoted = old || m == master, promoted || m == replica
		}
		if promoted && !old {
			return nil
		}
		if time.Since(asked) > again {
			asked = time.Now()
			_ = replica.Client().Do(ctx, "CLUSTER", "FAILOVER", how).Err()
		}
		return fmt.Errorf("%s did not take over from %s", replica.Addr(), master.Addr())
	})
}

func failover(how string) toCluster {
	return func(ctx context.Context, c *redistest.Cluster, r *rand.Rand) error {
		master, replicas, err := oneMaster(ctx, c, r)
		if err != nil {
			return err
		}
		args := []any{"CLUSTER", "FAILOVER"}
		if how != "" {
			args = append(args, how)
		}
		if err := replicas[0].Client().Do(ctx, args...).Err(); err != nil {
			return err
		}
		if err := awaitSuccessor(ctx, c, master, replicas[0], 6*time.Second, "TAKEOVER"); err != nil {
			return err
		}
		return c.WaitReady(ctx)
	}
}

// pauseMaster is shorter or longer than the node timeout of 2 s.
func pauseMaster(ctx context.Context, c *redistest.Cluster, r *rand.Rand) error {
	master, _, err := oneMaster(ctx, c, r)
	if err != nil {
		return err
	}
	if err := master.Pause(); err != nil {
		return err
	}
	if err := errors.Join(pauseFor(ctx, between(r, 500*time.Millisecond, 9*time.Second)), master.Continue()); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

func killReplica(ctx context.Context, c *redistest.Cluster, r *rand.Rand) error {
	_, replicas, err := oneMaster(ctx, c, r)
	if err != nil {
		return err
	}
	if err := replicas[0].Kill(); err != nil {
		return err
	}
	if err := pauseFor(ctx, between(r, 0, 5*time.Second)); err != nil {
		return err
	}
	if err := replicas[0].Start(ctx); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

func killClients(kind string) toCluster {
	return func(ctx context.Context, c *redistest.Cluster, _ *rand.Rand) error {
		masters, err := c.CurrentMasters(ctx)
		if err != nil {
			return err
		}
		for _, m := range masters {
			if err := m.Client().Do(ctx, "CLIENT", "KILL", "TYPE", kind).Err(); err != nil {
				return err
			}
		}
		return c.WaitReady(ctx)
	}
}

// loseSoakBacklog keeps a shard's link away while the shard writes more than its backlog holds, and deletes.
func loseSoakBacklog(ctx context.Context, s *soak, r *rand.Rand) error {
	at := slot.Slot(r.IntN(slot.Count))
	master, err := s.source.Owner(ctx, int(at))
	if err != nil {
		return err
	}
	replicas, err := s.source.CurrentReplicas(ctx, master)
	if err != nil {
		return err
	}
	away := wires{}
	for _, n := range append(replicas, master) {
		away[n.Addr()] = s.toSource[n.Addr()]
	}
	away.down(true)
	defer away.down(false)
	key := func(i int) string { return fmt.Sprintf("flood:%d:{%s}", i, slot.Tag(at)) }
	value := strings.Repeat("flood", 20_000)
	for i := range 40 {
		if err := s.source.Client().Set(ctx, key(i), value, 0).Err(); err != nil {
			return err
		}
	}
	for i := range 40 {
		if i%10 != 0 {
			if err := s.source.Client().Del(ctx, key(i)).Err(); err != nil {
				return err
			}
		}
	}
	return pauseFor(ctx, between(r, 0, 2*time.Second))
}

func slowly(of func(*soak) wires) happening {
	return func(ctx context.Context, s *soak, r *rand.Rand) error {
		ws := of(s)
		ws.slow(between(r, 10*time.Millisecond, 200*time.Millisecond), 100<<10+r.IntN(400<<10))
		defer ws.slow(0, 0)
		return pauseFor(ctx, between(r, 4*time.Second, 12*time.Second))
	}
}

// silently keeps connections open through which nothing passes.
func silently(of func(*soak) wires) happening {
	return func(ctx context.Context, s *soak, r *rand.Rand) error {
		ws := of(s)
		ws.hold(true)
		defer ws.hold(false)
		return pauseFor(ctx, between(r, 2*time.Second, 20*time.Second))
	}
}

// moveAndBack moves slots under load.
func moveAndBack(ctx context.Context, s *soak, r *rand.Rand) error {
	masters, err := s.target.CurrentMasters(ctx)
	if err != nil {
		return err
	}
	i, j := r.IntN(len(masters)), r.IntN(len(masters)-1)
	if j >= i {
		j++
	}
	return s.moveSlots(ctx, masters[i], masters[j], r)
}

func (s *soak) moveSlots(ctx context.Context, from, to *redistest.Node, r *rand.Rand) error {
	var slots []int
	for range 500 {
		n := r.IntN(slot.Count)
		owner, err := s.target.Owner(ctx, n)
		if err != nil {
			return err
		}
		if owner == from && !slices.Contains(slots, n) {
			slots = append(slots, n)
		}
		if len(slots) == 12 {
			break
		}
	}
	if err := s.target.MoveSlots(ctx, from, to, slots...); err != nil {
		return err
	}
	if err := pauseFor(ctx, between(r, 0, 3*time.Second)); err != nil {
		return err
	}
	if err := s.target.MoveSlots(ctx, to, from, slots...); err != nil {
		return err
	}
	return s.target.WaitReady(ctx)
}

func addAndRemove(ctx context.Context, s *soak, r *rand.Rand) error {
	masters, err := s.target.CurrentMasters(ctx)
	if err != nil {
		return err
	}
	added, err := s.target.AddMaster(ctx)
	if err != nil {
		return err
	}
	if err := s.moveSlots(ctx, masters[r.IntN(len(masters))], added, r); err != nil {
		return err
	}
	if err := s.target.Remove(ctx, added); err != nil {
		return err
	}
	return s.target.WaitReady(ctx)
}

// setFor gives all masters of the target a setting for a while.
func setFor(option, value, back string) happening {
	return func(ctx context.Context, s *soak, r *rand.Rand) error {
		masters, err := s.target.CurrentMasters(ctx)
		if err != nil {
			return err
		}
		set := func(value string) (err error) {
			for _, m := range masters {
				err = errors.Join(err, m.Client().ConfigSet(ctx, option, value).Err())
			}
			return err
		}
		return errors.Join(set(value), pauseFor(ctx, between(r, time.Second, 8*time.Second)), set(back))
	}
}

// cannotSave has a master fail to save its data, so that it takes no writes for a while.
func cannotSave(ctx context.Context, s *soak, r *rand.Rand) error {
	master, _, err := oneMaster(ctx, s.target, r)
	if err != nil {
		return err
	}
	home := filepath.Dir(master.LogPath())
	gone, err := os.MkdirTemp(home, "gone")
	if err != nil {
		return err
	}
	cl := master.Client()
	if err := errors.Join(cl.ConfigSet(ctx, "dir", gone).Err(), os.Remove(gone), cl.ConfigSet(ctx, "save", "3600 1").Err()); err != nil {
		return err
	}
	if err := cl.BgSave(ctx).Err(); err != nil {
		return err
	}
	return errors.Join(pauseFor(ctx, between(r, time.Second, 8*time.Second)), cl.ConfigSet(ctx, "save", "").Err(), cl.ConfigSet(ctx, "dir", home).Err())
}

// reload has a master read its data again, slowly, and answer LOADING meanwhile.
func reload(ctx context.Context, c *redistest.Cluster, r *rand.Rand) error {
	master, _, err := oneMaster(ctx, c, r)
	if err != nil {
		return err
	}
	cl := master.NewClient(func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = patience, -1 }) // once, however long it takes
	defer cl.Close()
	if err := errors.Join(cl.ConfigSet(ctx, "loading-process-events-interval-bytes", "1024").Err(), cl.ConfigSet(ctx, "key-load-delay", "1000").Err()); err != nil {
		return err
	}
	reloaded := make(chan error, 1)
	go func() { reloaded <- cl.Do(ctx, "DEBUG", "RELOAD").Err() }()
	err = pauseFor(ctx, between(r, time.Second, 8*time.Second))
	err = errors.Join(err, cl.ConfigSet(ctx, "key-load-delay", "0").Err(), <-reloaded)
	return errors.Join(err, c.WaitReady(ctx))
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}
