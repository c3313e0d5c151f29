package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// begin takes the partition over: from here on nobody but us writes to it, and we know where it stands. What was in
// memory of an earlier try is worth nothing any more. The order of the steps is in doc.go.
func (w *worker) begin(ctx context.Context) error {
	w.disconnect()
	w.whole = true
	defer func() { w.whole = false }()
	w.fences, w.written = map[slot.Slot]int64{}, map[slot.Slot]watermark{}
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.checkExisting(ctx); err != nil {
		return err
	}
	// What cannot be started writes nothing, not even a fence. What the target says now may still change until the others
	// are gone, so it is read again.
	if err := w.foresee(ctx); err != nil {
		return err
	}
	if err := w.raiseFences(true); err != nil {
		return err
	}
	if err := w.killOthers(); err != nil {
		return err
	}
	plan, stale, err := w.plan(ctx)
	if err != nil {
		return err
	}
	if w.target, err = w.learn(); err != nil {
		return err
	}
	w.adopt(plan, stale)
	if plan.lost != nil {
		if err := w.unlinkStages(ctx, plan); err != nil {
			return err
		}
	}
	if plan.isNew {
		// Nothing may be sent before every node has a watermark: a crash in between would look like a target that was
		// wiped in part.
		return w.apply(ctx, w.markRuns(markUnsent, w.firsts()), plan.offset)
	}
	return nil
}

// foresee finds out whether the partition can be started at all. A predecessor may still be writing while its records are
// read node by node, so what cannot be is believed when it is found twice.
func (w *worker) foresee(ctx context.Context) error {
	_, _, err := w.plan(ctx)
	if classOf(err) != Stop {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(secondLook):
	}
	_, _, err = w.plan(ctx)
	return err
}

const secondLook = time.Second

// resume restores the connections of a partition that is ours, and checks that the target has all it acknowledged. It
// returns the checkpoints.
func (w *worker) resume(ctx context.Context) (map[slot.Slot]checkpoint, error) {
	w.disconnect()
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	if err := w.raiseFences(false); err != nil {
		return nil, err
	}
	if err := w.killOthers(); err != nil {
		return nil, err
	}
	if err := w.relearn(); err != nil {
		return nil, err
	}
	checkpoints, watermarks, err := w.readOwn()
	if err != nil {
		return nil, err
	}
	for at := range w.written {
		switch got, ok := watermarks[at]; {
		case !ok:
			return nil, classed(Resync, "the target has lost the watermark in slot %d", at)
		case got.applied < w.next:
			// A watermark vouches for what was acknowledged before it was sent, so it says nothing of the last batch: the
			// node may be a replica that was promoted without it. It is read again.
			return nil, classed(Resync, "the target vouches for offset %d in slot %d, and %d was acknowledged", got.applied, at, w.next)
		}
	}
	return checkpoints, nil
}

// connect proves that we are a member of the group, looks at the topology, opens a connection to every node that has slots of
// the partition, and judges them.
func (w *worker) connect(ctx context.Context) error {
	if err := w.s.group.prove(ctx); err != nil {
		return err
	}
	top, err := w.s.discover(ctx)
	if err != nil {
		return err
	}
	w.shape = w.s.shapeOf(top, w.slots.First)
	if err := w.s.switchImport(ctx, top); err != nil {
		return err
	}
	w.importChecked = time.Time{}
	if err := w.connectTo(ctx, top); err != nil {
		return err
	}
	return w.checkEviction(true)
}

// connectTo opens a connection to every node that has slots of the partition.
func (w *worker) connectTo(ctx context.Context, top *topology.Topology) error {
	owner := make([]string, w.slots.Len())
	for i := range owner {
		n, ok := top.MasterOf(w.slots.First + slot.Slot(i))
		if !ok || n.Addr == "" {
			return fmt.Errorf("look at the target's topology: nobody has slot %d", int(w.slots.First)+i)
		}
		owner[i] = n.Addr
	}
	w.ownedBy(owner)
	for i := range w.holdings {
		if addr := w.holdings[i].addr; w.conns[addr] == nil {
			if err := w.dial(ctx, addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *worker) dial(ctx context.Context, addr string) error {
	c, err := w.s.dialConn(ctx, addr, clientName(w.s.cfg.Name, w.partition, w.epoch))
	if err != nil {
		return err
	}
	if w.s.cfg.ExpiryMode == ExpiryImport && !w.looks {
		if err := c.becomeSource(); err != nil {
			c.close()
			return err
		}
	}
	w.connMu.Lock()
	w.conns[addr] = c
	w.connMu.Unlock()
	if w.hard.Err() != nil {
		// abort has run, or will: see there.
		return context.Cause(w.hard)
	}
	return nil
}

// connFor is the connection a run goes through.
func (w *worker) connFor(ctx context.Context, r *run) (*conn, error) {
	if r.askAt == "" {
		if c := w.conns[w.ownerOf(r.slot)]; c != nil {
			return c, nil
		}
		return nil, errTopology
	}
	if c := w.conns[r.askAt]; c != nil {
		return c, nil
	}
	// A node without slots of this partition takes over one of them. It has no fence of ours; what protects it is the proof
	// of membership, and that the connections of a predecessor are killed before the first write.
	if err := w.s.group.prove(ctx); err != nil {
		return nil, err
	}
	if err := w.dial(ctx, r.askAt); err != nil {
		return nil, err
	}
	return w.conns[r.askAt], w.killAt(w.conns[r.askAt])
}

func (w *worker) ownerOf(s slot.Slot) string { return w.holdingAt(s).addr }

// broken tells whether a connection was lost.
func (w *worker) broken() bool {
	for _, c := range w.conns {
		if c.broken {
			return true
		}
	}
	return false
}

func (w *worker) disconnect() {
	w.connMu.Lock()
	defer w.connMu.Unlock()
	for addr, c := range w.conns {
		c.close()
		delete(w.conns, addr)
	}
}

// abort closes the sockets from another goroutine: whoever waits for an answer is woken with an error.
func (w *worker) abort() {
	w.connMu.Lock()
	defer w.connMu.Unlock()
	for _, c := range w.conns {
		c.nc.Close()
	}
}

// holding is what one node has of the partition's slots.
type holding struct {
	first slot.Slot // the lowest: where the watermark and the fence lie
	addr  string
	slots *slot.Set
	list  string // the slots, as a watermark names them
}

// ownedBy notes who has which slot.
func (w *worker) ownedBy(owner []string) {
	w.owner, w.holdings = make([]uint16, len(owner)), nil
	at := map[string]int{}
	for i, addr := range owner {
		s := w.slots.First + slot.Slot(i)
		n, ok := at[addr]
		if !ok {
			n = len(w.holdings)
			at[addr] = n
			w.holdings = append(w.holdings, holding{first: s, addr: addr, slots: &slot.Set{}})
		}
		w.holdings[n].slots.Add(s)
		w.owner[i] = uint16(n)
	}
	for i := range w.holdings {
		w.holdings[i].list = slotList(w.holdings[i].slots)
	}
}

// firsts are the first slots of the partition that each node has: where watermarks and fences lie.
func (w *worker) firsts() []slot.Slot {
	out := make([]slot.Slot, len(w.holdings))
	for i := range w.holdings {
		out[i] = w.holdings[i].first
	}
	return out
}

// holdingAt is that of the owner of slot s.
func (w *worker) holdingAt(s slot.Slot) *holding {
	return &w.holdings[w.owner[s-w.slots.First]]
}

// discover looks at the target from the seeds and from all nodes seen before.
func (s *Sink) discover(ctx context.Context) (*topology.Topology, error) {
	s.mu.Lock()
	learned := slices.Clone(s.known)
	s.mu.Unlock()
	top, err := topology.Find(ctx, s.cfg.Dialer, s.cfg.Seeds, learned)
	if errors.Is(err, topology.ErrAuth) || errors.Is(err, topology.ErrPermission) {
		return nil, classed(Stop, "look at the target: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("look at the target: %w", err)
	}
	var known []string
	for i := range top.Shards {
		nodes := []topology.Node{top.Shards[i].Master}
		if top.Single {
			nodes = append(nodes, top.Shards[i].Replicas...)
		}
		for _, n := range nodes {
			if n.Addr != "" && !slices.Contains(s.cfg.Seeds, n.Addr) {
				known = append(known, n.Addr)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found && s.single != top.Single {
		return nil, classed(Stop, "look at the target: %s is of another kind than the target was: one is a cluster, the other is not", top.Shards[0].Master.Addr)
	}
	s.known, s.found, s.single = known, true, top.Single
	if !top.Single {
		for from, to := range s.cfg.Databases {
			if to != 0 {
				return nil, classed(Stop, "look at the target: databases maps %d to %d, and %s", from, to, whyCluster)
			}
		}
	}
	return top, nil
}
