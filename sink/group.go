package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// group is our membership in the sink's consumer group: it says which partitions are ours, proves it, and shows how far
// we are. It reads no record; its partitions stay paused for ever (see feed).
type group struct {
	s     *Sink
	cl    *kgo.Client
	adm   *kadm.Client
	name  string
	lease lease
	// joined is closed when cl and adm are set: the client may call back before it is returned to us.
	joined chan struct{}

	mu      sync.Mutex
	running map[int32]*tenure
}

// tenure is the time a partition is ours.
type tenure struct {
	w          *worker
	stop, kill context.CancelFunc
}

// lease is how long we may write without hearing of the group's coordinator: two thirds of the session timeout behind the
// sending of the last heartbeat that was answered well. Behind the whole of it the partitions may belong to another.
type lease struct {
	length time.Duration

	mu      sync.Mutex
	until   time.Time
	renewed chan struct{} // closed and replaced with each renewal
}

func newLease(session time.Duration) lease {
	return lease{length: session * 2 / 3, renewed: make(chan struct{})}
}

func (l *lease) renew(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = sent.Add(l.length)
	close(l.renewed)
	l.renewed = make(chan struct{})
}

func (l *lease) ok() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

// begun tells whether the lease has held before.
func (l *lease) begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.until.IsZero()
}

// wait returns once the lease holds.
func (l *lease) wait(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		l.mu.Lock()
		ok, renewed := time.Now().Before(l.until), l.renewed
		l.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-renewed:
		}
	}
}

// GroupName is the consumer group of a sink.
func GroupName(sink string) string { return "redriver-" + sink }

// join opens the client that is the member. workers run under ctx.
func (g *group) join(ctx context.Context) error {
	topic := g.s.topic.Name
	var static []kgo.Opt
	if g.s.cfg.Instance != "" {
		static = append(static, kgo.InstanceID(g.s.cfg.Instance))
	}
	cl, err := g.s.cfg.Kafka.Client(append(static,
		kgo.ConsumerGroup(g.name),
		kgo.ConsumeTopics(topic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(g.s.cfg.SessionTimeout),
		kgo.RebalanceTimeout(max(g.s.cfg.SessionTimeout, 2*g.s.cfg.DrainTimeout)),
		kgo.HeartbeatInterval(min(g.s.cfg.SessionTimeout/10, 3*time.Second)),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { g.assigned(ctx, m[topic]) }),
		kgo.OnPartitionsRevoked(func(c context.Context, _ *kgo.Client, m map[string][]int32) { g.revoked(c, m[topic]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { g.lost(m[topic]) }),
	)...)
	if err != nil {
		return err
	}
	cl.PauseFetchTopics(topic)
	g.cl, g.adm = cl, kadm.NewClient(cl)
	close(g.joined)
	return nil
}

func (g *group) assigned(ctx context.Context, partitions []int32) {
	<-g.joined
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range partitions {
		if g.running[p] != nil {
			continue
		}
		soft, stop := context.WithCancel(ctx)
		hard, kill := context.WithCancel(context.WithoutCancel(ctx))
		t := &tenure{w: newWorker(g.s, p), stop: stop, kill: kill}
		g.running[p] = t
		g.s.workers.Go(func() error { // ends with its tenure: revoked, lost and leave wait for it
			defer stop()
			return t.w.run(soft, hard)
		})
	}
}

// revoked takes partitions back in good order: answers in flight are waited for, for a bounded time. The group waits for
// us meanwhile.
func (g *group) revoked(ctx context.Context, partitions []int32) {
	tenures := g.take(partitions)
	for _, t := range tenures {
		t.stop()
	}
	deadline := time.After(g.s.cfg.DrainTimeout)
	for _, t := range tenures {
		select {
		case <-t.w.done:
		case <-deadline:
			// What is in flight has an unknown outcome: the next owner kills the connections and reads the checkpoints.
			for _, t := range tenures {
				t.kill()
			}
			<-t.w.done
		}
		t.kill()
	}
	ctx, cancel := context.WithTimeout(ctx, g.s.cfg.DrainTimeout)
	defer cancel()
	g.commit(ctx, partitions)
}

// lost: another has them already.
func (g *group) lost(partitions []int32) {
	tenures := g.take(partitions)
	for _, t := range tenures {
		t.stop()
		t.kill()
	}
	for _, t := range tenures {
		<-t.w.done
	}
}

func (g *group) take(partitions []int32) []*tenure {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []*tenure
	for _, p := range partitions {
		if t := g.running[p]; t != nil {
			out = append(out, t)
			delete(g.running, p)
		}
	}
	return out
}

func (g *group) partitions() []int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.running))
}

// leave gives everything back and leaves the group.
func (g *group) leave(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	g.revoked(ctx, g.partitions()) // bounds itself
	ctx, cancel := context.WithTimeout(ctx, g.s.cfg.DrainTimeout)
	defer cancel()
	member, _ := g.cl.GroupMetadata()
	_ = g.cl.LeaveGroupContext(ctx) // else the session times out
	if g.s.cfg.Instance != "" && member != "" {
		// The client leaves this to us. With the member's id, so that a successor of the same instance stays in.
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group = g.name
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID, m.InstanceID = member, &g.s.cfg.Instance
		req.Members = append(req.Members, m)
		_, _ = req.RequestWith(ctx, g.cl)
	}
	g.cl.Close()
}

// prove asks the coordinator whether we are a member of the group in its present generation. As long as that is so no
// partition that we hold has been given to another: we give up partitions before we join a new generation.
func (g *group) prove(ctx context.Context) error {
	member, generation := g.cl.GroupMetadata()
	if member == "" {
		return errNotOwner
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = g.name, member, generation
	ctx, cancel := context.WithTimeout(ctx, g.lease.length)
	defer cancel()
	sent := time.Now()
	resp, err := req.RequestWith(ctx, g.cl)
	if err != nil {
		return fmt.Errorf("prove membership of group %s: %w", g.name, err)
	}
	err = kerr.ErrorForCode(resp.ErrorCode)
	if err != nil && !errors.Is(err, kerr.RebalanceInProgress) {
		return fmt.Errorf("%w: %w", errNotOwner, err)
	}
	g.lease.renew(sent)
	return nil
}

// fatal are errors of the group that no waiting heals. refusals are so at the start alone: a right that was there and was
// taken away is given back, and nothing is written meanwhile.
var (
	fatal = []error{
		kerr.InvalidSessionTimeout, kerr.InconsistentGroupProtocol, kerr.InvalidGroupID, kerr.FencedInstanceID, kerr.GroupMaxSizeReached,
	}
	refusals = []error{kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.SaslAuthenticationFailed}
)

// watch polls for what the group's client has to say, there are no records, until ctx ends or it is fatal.
func (g *group) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		for _, e := range g.cl.PollFetches(ctx).Errors() {
			if ctx.Err() != nil {
				break
			}
			if isOneOf(e.Err, fatal) || isOneOf(e.Err, refusals) && !g.lease.begun() {
				return classed(Stop, "take part in group %s: %w", g.name, e.Err)
			}
			g.s.warn("trouble with the consumer group", e.Err)
		}
	}
	return context.Cause(ctx)
}

func isOneOf(err error, list []error) bool {
	return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
}

const (
	commitInterval = time.Second
	// observeEvery so many of them the log is looked at.
	observeEvery = 5
)

// keep renews the lease until ctx ends.
func (g *group) keep(ctx context.Context) error {
	tick := time.NewTicker(min(commitInterval, g.lease.length/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		err := g.prove(ctx)
		if err != nil && ctx.Err() == nil && !g.lease.ok() && len(g.partitions()) > 0 {
			g.s.warn("no answer from the group's coordinator: nothing is written until there is one", err)
		}
	}
}

// show commits positions and observes the log until ctx ends or the log is another one. A commit waits while the group
// rebalances, which is why it is no part of keep.
func (g *group) show(ctx context.Context) error {
	tick := time.NewTicker(commitInterval)
	defer tick.Stop()
	committed := map[int32]int64{}
	var other error
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		var moved []int32
		for _, p := range g.partitions() {
			if at := g.s.statOf(p).applied.Load(); at != committed[p] {
				committed[p] = at
				moved = append(moved, p)
			}
		}
		commitCtx, cancel := context.WithTimeout(ctx, g.lease.length)
		g.commit(commitCtx, moved)
		cancel()
		if n%observeEvery == 0 {
			before := other
			if other = g.observeLog(ctx); before != nil && other != nil {
				return other // a broker that is behind may tell of an earlier topic once
			}
		}
	}
}

// commit shows how far partitions are that have begun. It decides no offset: see decideStart.
func (g *group) commit(ctx context.Context, partitions []int32) {
	at := map[int32]kgo.EpochOffset{}
	for _, p := range partitions {
		if n := g.s.statOf(p).applied.Load(); n > 0 && g.s.statOf(p).begun.Load() {
			at[p] = kgo.EpochOffset{Epoch: -1, Offset: n}
		}
	}
	if len(at) == 0 {
		return
	}
	g.cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{g.s.topic.Name: at},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
			if err != nil && ctx.Err() == nil {
				g.s.warn("cannot commit offsets, lag is shown too high", err)
			}
		})
}

// observeLog checks that the topic is still the one that we began with, and reads the ends of the log. Partitions that are
// read mostly hear of both by themselves; those of a topic that is deleted and made again may wait for ever, without an error.
func (g *group) observeLog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.lease.length)
	defer cancel()
	partitions := g.partitions()
	shown := int32(0) // the group may have taken all of them back, as those of a topic that is gone
	if len(partitions) > 0 {
		shown = partitions[0]
	}
	if err := g.s.sameTopic(ctx, shown); classOf(err) == Stop {
		return err
	}
	g.s.observeEnds(ctx)
	return nil
}
