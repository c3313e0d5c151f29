package redistest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// migrateBatch is how many keys one MIGRATE takes along.
const migrateBatch = 100

// AddMaster starts one more node, without slots, and waits until it and all others know each other. Give it slots with
// MoveSlots.
func (c *Cluster) AddMaster(ctx context.Context) (*Node, error) {
	nodes, err := newNodes(ctx, c.cfg.Version, c.cfg.Dir, 1, clusterArgs(c.cfg))
	if err != nil {
		return nil, err
	}
	n := nodes[0]
	others := c.Nodes()
	c.mu.Lock()
	c.added = append(c.added, n) // from here on Close owns it
	c.expected++
	c.mu.Unlock()
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	for _, other := range others {
		if !c.running(other.Addr()) {
			continue
		}
		if err := n.client.ClusterMeet(ctx, "127.0.0.1", strconv.Itoa(other.busPort())).Err(); err != nil {
			return nil, fmt.Errorf("meet %s: %w", other.Addr(), err)
		}
	}
	return n, c.WaitReady(ctx)
}

// MoveSlots moves slots with their keys from one master to another, one after the other, as redis-cli --cluster reshard
// does; clients see MOVED and ASK meanwhile. It returns when both nodes say so; the others hear of it by gossip: see
// WaitReady.
func (c *Cluster) MoveSlots(ctx context.Context, from, to *Node, slots ...int) error {
	fromID, toID, err := idsOf(ctx, from, to)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		m := &Move{from: from, to: to, fromID: fromID, toID: toID, slot: slot}
		if err := m.open(ctx); err != nil {
			return err
		}
		if err := m.Finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Move is a slot that is being moved: migrating on one side, importing on the other.
type Move struct {
	from, to     *Node
	fromID, toID string
	slot         int
}

// OpenSlot begins to move a slot and moves nothing: what a reshard leaves that was broken off.
func (c *Cluster) OpenSlot(ctx context.Context, from, to *Node, slot int) (*Move, error) {
	m := &Move{from: from, to: to, slot: slot}
	var err error
	if m.fromID, m.toID, err = idsOf(ctx, from, to); err != nil {
		return nil, err
	}
	err = m.open(ctx)
	return m, err
}

func idsOf(ctx context.Context, from, to *Node) (fromID, toID string, err error) {
	if fromID, err = from.client.ClusterMyID(ctx).Result(); err != nil {
		return "", "", fmt.Errorf("get id of %s: %w", from.Addr(), err)
	}
	if toID, err = to.client.ClusterMyID(ctx).Result(); err != nil {
		return "", "", fmt.Errorf("get id of %s: %w", to.Addr(), err)
	}
	return fromID, toID, nil
}

func (m *Move) fail(what string, err error) error {
	return fmt.Errorf("move slot %d from %s to %s: %s: %w", m.slot, m.from.Addr(), m.to.Addr(), what, err)
}

func (m *Move) open(ctx context.Context) error {
	if err := m.to.client.Do(ctx, "cluster", "setslot", m.slot, "importing", m.fromID).Err(); err != nil {
		return m.fail("set importing", err)
	}
	if err := m.from.client.Do(ctx, "cluster", "setslot", m.slot, "migrating", m.toID).Err(); err != nil {
		return m.fail("set migrating", err)
	}
	return nil
}

// Keys moves some keys of the slot.
func (m *Move) Keys(ctx context.Context, keys ...string) error {
	args := []any{"migrate", "127.0.0.1", m.to.port, "", 0, 10000, "replace", "keys"}
	for _, key := range keys {
		args = append(args, key)
	}
	if err := m.from.client.Do(ctx, args...).Err(); err != nil {
		return m.fail("migrate keys", err)
	}
	return nil
}

// Finish moves what is left and gives the slot away.
func (m *Move) Finish(ctx context.Context) error {
	for {
		keys, err := m.from.client.ClusterGetKeysInSlot(ctx, m.slot, migrateBatch).Result()
		if err != nil {
			return m.fail("list keys", err)
		}
		if len(keys) == 0 {
			break
		}
		if err := m.Keys(ctx, keys...); err != nil {
			return err
		}
	}
	// the new owner first: it takes a new epoch, so that its claim wins everywhere
	for _, n := range []*Node{m.to, m.from} {
		err := n.client.Do(ctx, "cluster", "setslot", m.slot, "node", m.toID).Err()
		if err != nil && n == m.from && strings.Contains(err.Error(), "only with masters") {
			continue // it was its last slot: it has heard of the new owner, and become its replica
		}
		if err != nil {
			return m.fail("set owner at "+n.Addr(), err)
		}
	}
	return nil
}

// Remove takes a node of AddMaster that has no slots out of the cluster and ends it. A node that is not heard of for a minute
// may be met again, so it is ended first.
func (c *Cluster) Remove(ctx context.Context, n *Node) error {
	id, err := n.client.ClusterMyID(ctx).Result()
	if err != nil {
		return fmt.Errorf("get id of %s: %w", n.Addr(), err)
	}
	if err := n.Close(); err != nil {
		return err
	}
	c.mu.Lock()
	c.added = slices.DeleteFunc(c.added, func(a *Node) bool { return a == n })
	c.expected--
	c.mu.Unlock()
	for _, other := range c.Nodes() {
		if !c.running(other.Addr()) {
			continue
		}
		if err := other.client.Do(ctx, "cluster", "forget", id).Err(); err != nil {
			return fmt.Errorf("forget %s at %s: %w", n.Addr(), other.Addr(), err)
		}
	}
	return nil
}
