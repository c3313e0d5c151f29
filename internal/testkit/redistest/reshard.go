package redistest

import (
	"context"
	"fmt"
	"strconv"
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
	fromID, err := from.client.ClusterMyID(ctx).Result()
	if err != nil {
		return fmt.Errorf("get id of %s: %w", from.Addr(), err)
	}
	toID, err := to.client.ClusterMyID(ctx).Result()
	if err != nil {
		return fmt.Errorf("get id of %s: %w", to.Addr(), err)
	}
	for _, slot := range slots {
		if err := moveSlot(ctx, from, to, fromID, toID, slot); err != nil {
			return fmt.Errorf("move slot %d from %s to %s: %w", slot, from.Addr(), to.Addr(), err)
		}
	}
	return nil
}

func moveSlot(ctx context.Context, from, to *Node, fromID, toID string, slot int) error {
	if err := to.client.Do(ctx, "cluster", "setslot", slot, "importing", fromID).Err(); err != nil {
		return fmt.Errorf("set importing: %w", err)
	}
	if err := from.client.Do(ctx, "cluster", "setslot", slot, "migrating", toID).Err(); err != nil {
		return fmt.Errorf("set migrating: %w", err)
	}
	for {
		keys, err := from.client.ClusterGetKeysInSlot(ctx, slot, migrateBatch).Result()
		if err != nil {
			return fmt.Errorf("list keys: %w", err)
		}
		if len(keys) == 0 {
			break
		}
		args := []any{"migrate", "127.0.0.1", to.port, "", 0, 10000, "replace", "keys"}
		for _, key := range keys {
			args = append(args, key)
		}
		if err := from.client.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("migrate keys: %w", err)
		}
	}
	// the new owner first: it takes a new epoch, so that its claim wins everywhere
	for _, n := range []*Node{to, from} {
		if err := n.client.Do(ctx, "cluster", "setslot", slot, "node", toID).Err(); err != nil {
			return fmt.Errorf("set owner at %s: %w", n.Addr(), err)
		}
	}
	return nil
}
