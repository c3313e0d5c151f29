package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/slot"
)

// maxAsked bounds how many masters are asked at the same time.
const maxAsked = 16

// Topology is one look at a cluster, or at a server outside one, see [Find].
type Topology struct {
	// Shards are sorted by first slot; those without slots come last, by node id.
	Shards []Shard
	// Uncovered are the slots no master serves.
	Uncovered slot.Set
	// InFlight are the slots that are being moved, sorted. It lacks what the masters in Unasked would have told.
	InFlight []SlotMove
	// Unasked are the masters that gave no answer of their own, each with the reason: moves of their slots and their
	// shard id are not known. A cluster with a failed master has one.
	Unasked []error
	// Single tells that there is no cluster but one master, which may have several databases. RunID is the one of that
	// process then: the same server is known by it under whatever address.
	Single bool
	RunID  string
}

// Shard is a master and its replicas.
type Shard struct {
	ShardID  string // "" before Redis 7.2, or if the master could not be asked
	Master   Node
	Replicas []Node
	Slots    slot.Set
}

// MasterOf returns the master that serves a slot.
func (t *Topology) MasterOf(n slot.Slot) (Node, bool) {
	if s, ok := t.ShardOf(n); ok {
		return s.Master, true
	}
	return Node{}, false
}

// ShardOf returns the shard that serves a slot.
func (t *Topology) ShardOf(n slot.Slot) (*Shard, bool) {
	for i := range t.Shards {
		if t.Shards[i].Slots.Has(n) {
			return &t.Shards[i], true
		}
	}
	return nil, false
}

// Node returns the master or replica with this id.
func (t *Topology) Node(id string) (Node, bool) {
	for _, s := range t.Shards {
		if s.Master.ID == id {
			return s.Master, true
		}
		for _, r := range s.Replicas {
			if r.ID == id {
				return r, true
			}
		}
	}
	return Node{}, false
}

// Discover asks the seeds ("host:port") in turn until one shows a cluster, then each master for its own part. A seed
// that has cluster mode disabled ends the search with ErrNotCluster. A node that knows no slots, such as one that was
// not yet joined, is believed only if no other seed knows more. When all fail, the error joins one [Error] each.
func Discover(ctx context.Context, d *Dialer, seeds []string) (*Topology, error) {
	var empty *Topology
	var errs []error
	for _, seed := range seeds {
		t, err := discoverAt(ctx, d, seed)
		switch {
		case err == nil && t.Uncovered.Len() < slot.Count:
			return t, nil
		case err == nil:
			if empty == nil {
				empty = t
			}
		case errors.Is(err, ErrNotCluster):
			return nil, err
		default:
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("discover cluster: %w", context.Cause(ctx))
		}
	}
	if empty != nil {
		return empty, nil
	}
	if len(errs) == 0 {
		return nil, errors.New("discover cluster: no seeds given")
	}
	return nil, errors.Join(errs...)
}

func discoverAt(ctx context.Context, d *Dialer, seed string) (*Topology, error) {
	host, _, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, &Error{Addr: seed, Op: "read address", Err: err, Hint: "write it as host:port, IPv6 as [host]:port"}
	}
	nodes, ends, err := askView(ctx, d, seed)
	if err != nil {
		return nil, err
	}
	if d.TLS != nil {
		for i := range ends {
			ends[i].Port = cmp.Or(ends[i].TLSPort, ends[i].Port)
		}
	}
	t := Build(host, nodes, ends)
	t.askMasters(ctx, d, seed)
	return t, nil
}

// askView asks one node for all it knows of the others.
func askView(ctx context.Context, d *Dialer, addr string) ([]Node, []Endpoint, error) {
	const op = "ask for the cluster's nodes"
	c := d.Client(addr)
	defer func() { _ = c.Close() }()
	pipe := c.Pipeline()
	text := pipe.ClusterNodes(ctx)
	shards := pipe.Do(ctx, "CLUSTER", "SHARDS")
	slots := pipe.Do(ctx, "CLUSTER", "SLOTS")
	_, err := pipe.Exec(ctx)
	if err := firstError(text, err); err != nil {
		return nil, nil, newError(addr, op, err)
	}
	nodes, err := ParseNodes(text.Val())
	if err != nil {
		return nil, nil, newError(addr, op, err)
	}
	// Either of the two may be missing (SHARDS before 7.0) or denied. Without both the addresses of CLUSTER NODES
	// have to do.
	if reply, err := shards.Result(); err == nil {
		ends, err := ParseShards(reply)
		if err != nil {
			return nil, nil, newError(addr, "ask for the cluster's shards", err)
		}
		return nodes, ends, nil
	}
	reply, err := slots.Result()
	if err != nil {
		return nodes, nil, nil
	}
	ends, err := ParseSlots(reply)
	if err != nil {
		return nil, nil, newError(addr, "ask for the cluster's slots", err)
	}
	return nodes, ends, nil
}

// Build makes a topology of one node's view: lines of CLUSTER NODES and, where there are any, the endpoints clients
// are meant to use. asked is the host the node was reached at.
//
// Left out are nodes in handshake, failed masters that serve nothing, and replicas of what is left out.
func Build(asked string, nodes []Node, ends []Endpoint) *Topology {
	byID := make(map[string]Endpoint, len(ends))
	for _, e := range ends {
		byID[e.ID] = e
	}
	t := &Topology{}
	shardOf := map[string]int{}
	masterOf := map[string]string{} // of replicas
	nodes = slices.Clone(nodes)
	for i := range nodes {
		n := &nodes[i]
		e, known := byID[n.ID]
		n.locate(asked, e, known)
		if n.Flags.Has(Handshake) {
			continue
		}
		if n.Flags.Has(Replica) {
			masterOf[n.ID] = n.MasterID
			continue
		}
		if n.Slots.IsEmpty() && (n.Flags.Has(Failed) || n.Flags.Has(NoAddr)) || !n.Flags.Has(Master) {
			continue
		}
		shardOf[n.ID] = len(t.Shards)
		t.Shards = append(t.Shards, Shard{ShardID: n.ShardID, Master: *n, Slots: n.Slots})
	}
	for _, n := range nodes {
		if !n.Flags.Has(Replica) || n.Flags.Has(Handshake) {
			continue
		}
		// A replica may follow a replica for a moment, when its master has just become one.
		master := n.MasterID
		for range len(nodes) {
			next, isReplica := masterOf[master]
			if !isReplica {
				break
			}
			master = next
		}
		if i, ok := shardOf[master]; ok {
			t.Shards[i].Replicas = append(t.Shards[i].Replicas, n)
		}
	}
	t.settle()
	return t
}

// locate decides where to dial a node. known says that e is about it.
func (n *Node) locate(asked string, e Endpoint, known bool) {
	if !known {
		if n.Host == "" && n.Flags.Has(Myself) {
			n.setAddr(asked, n.Port)
		}
		return
	}
	if n.ShardID == "" {
		n.ShardID = e.ShardID
	}
	p := e.Port
	if p == 0 {
		p = e.TLSPort
	}
	if p == 0 {
		p = n.Port
	}
	switch {
	case n.Flags.Has(NoAddr):
	case e.Host != "":
		n.setAddr(e.Host, p)
	case e.Unknown && n.IP != "":
		n.setAddr(n.IP, p)
	default:
		n.setAddr(asked, p)
	}
}

// settle sorts, gives each slot to one master, and derives what follows from that.
func (t *Topology) settle() {
	// One view names one owner for each slot; should it ever name two, the higher epoch is right, as among the nodes.
	slices.SortStableFunc(t.Shards, func(a, b Shard) int { return cmp.Compare(b.Master.ConfigEpoch, a.Master.ConfigEpoch) })
	t.Uncovered = slot.Set{}
	t.Uncovered.AddRange(slot.Range{First: 0, Last: slot.Count - 1})
	for i := range t.Shards {
		s := &t.Shards[i]
		s.Slots = s.Slots.Intersect(&t.Uncovered)
		s.Master.Slots = s.Slots
		t.Uncovered = t.Uncovered.Minus(&s.Slots)
		t.addMoves(s.Master.Moves)
	}
	slices.SortFunc(t.Shards, func(a, b Shard) int {
		return cmp.Or(cmp.Compare(firstSlot(a), firstSlot(b)), cmp.Compare(a.Master.ID, b.Master.ID))
	})
}

// firstSlot is slot.Count for a shard that has none.
func firstSlot(s Shard) slot.Slot {
	if r := s.Slots.Ranges(); len(r) > 0 {
		return r[0].First
	}
	return slot.Count
}

// addMoves joins what both sides of a move say.
func (t *Topology) addMoves(moves []SlotMove) {
	for _, m := range moves {
		i := slices.IndexFunc(t.InFlight, func(o SlotMove) bool {
			return o.Slot == m.Slot && o.From == m.From && o.To == m.To
		})
		if i < 0 {
			t.InFlight = append(t.InFlight, m)
			continue
		}
		t.InFlight[i].Migrating = t.InFlight[i].Migrating || m.Migrating
		t.InFlight[i].Importing = t.InFlight[i].Importing || m.Importing
	}
	slices.SortFunc(t.InFlight, func(a, b SlotMove) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
}

// askMasters asks each master for its shard id and moves. The seed's own moves are known, and it is asked by the
// address that has just worked.
func (t *Topology) askMasters(ctx context.Context, d *Dialer, seed string) {
	answers := make([]ownPart, len(t.Shards))
	var g errgroup.Group // ends when every master has answered or its timeout has passed
	g.SetLimit(maxAsked)
	for i := range t.Shards {
		m := t.Shards[i].Master
		addr := m.Addr
		if m.Flags.Has(Myself) {
			addr = seed
		}
		switch {
		case addr == "":
			answers[i].err = fmt.Errorf("ask master %s: its address is not known", m.ID)
			continue
		case m.Flags.Has(Failed):
			answers[i].err = fmt.Errorf("ask master %s at %s: the cluster has found it failed", m.ID, addr)
			continue
		}
		g.Go(func() error {
			answers[i] = askOwnPart(ctx, d, addr, m.ID)
			return nil
		})
	}
	_ = g.Wait()
	for i, a := range answers {
		if a.err != nil {
			t.Unasked = append(t.Unasked, a.err)
			continue
		}
		s := &t.Shards[i]
		s.Master.Moves = a.moves
		t.addMoves(a.moves)
		if a.shardID != "" {
			s.ShardID, s.Master.ShardID = a.shardID, a.shardID
		}
		for j := range s.Replicas {
			if s.Replicas[j].ShardID == "" {
				s.Replicas[j].ShardID = s.ShardID
			}
		}
	}
}

// ownPart is what a node tells of itself alone.
type ownPart struct {
	shardID string
	moves   []SlotMove
	err     error
}

func askOwnPart(ctx context.Context, d *Dialer, addr, id string) ownPart {
	const op = "ask a master for its moves"
	c := d.Client(addr)
	defer func() { _ = c.Close() }()
	pipe := c.Pipeline()
	text := pipe.ClusterNodes(ctx)
	shardID := pipe.ClusterMyShardID(ctx) // from 7.2 on
	_, err := pipe.Exec(ctx)
	if err := firstError(text, err); err != nil {
		return ownPart{err: newError(addr, op, err)}
	}
	nodes, err := ParseNodes(text.Val())
	if err != nil {
		return ownPart{err: newError(addr, op, err)}
	}
	i := slices.IndexFunc(nodes, func(n Node) bool { return n.Flags.Has(Myself) })
	if i < 0 || nodes[i].ID != id {
		return ownPart{err: &Error{
			Addr: addr, Op: op, Err: fmt.Errorf("%w: it is not node %s", ErrUnusable, id),
			Hint: "the cluster announces an address that leads somewhere else from here",
		}}
	}
	part := ownPart{moves: nodes[i].Moves}
	if v, err := shardID.Result(); err == nil {
		part.shardID = v
	} else if !isReply(err) {
		part.err = newError(addr, op, err)
	}
	return part
}

// firstError is why the first command of a pipeline has no reply. The pipeline's own error is that of any of its
// commands, so it counts only when the first was not even sent: a connection that could not be set up (such as a wrong
// password) is reported nowhere else.
func firstError(first *redis.StringCmd, pipeline error) error {
	if err := first.Err(); err != nil {
		return err
	}
	if first.Val() == "" {
		return pipeline
	}
	return nil
}

// isReply says that an error came from the server as an answer.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}
