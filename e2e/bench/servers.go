package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// shards is how many masters the source has where nothing else is said, and how many servers every copy has.
const shards = 3

// backlog of the sources: a link that is lost for a moment goes on within it.
const backlog = "256mb"

// nodes are servers that share the slots evenly, in the order of their slots: masters of a cluster, or their replicas.
type nodes []*redistest.Node

// indexOf is the number of the node, of n, that has a slot (redistest gives slots out like this).
func indexOf(s slot.Slot, n int) int {
	i := int(s) * n / slot.Count
	if int(s) >= (i+1)*slot.Count/n { // rounded
		i++
	}
	return i
}

func (n nodes) of(s slot.Slot) *redis.Client { return n[indexOf(s, len(n))].Client() }

// keyCount sums up DBSIZE.
func (n nodes) keyCount(ctx context.Context) (sum int64, err error) {
	for _, node := range n {
		size, err := node.Client().DBSize(ctx).Result()
		if err != nil {
			return 0, fmt.Errorf("count keys of %s: %w", node.Addr(), err)
		}
		sum += size
	}
	return sum, nil
}

func startCluster(ctx context.Context, dir string) (*redistest.Cluster, error) {
	return redistest.StartCluster(ctx, redistest.Config{Masters: shards, Dir: dir})
}

func processes(of []*redistest.Node) (all []*proc.Process) {
	for _, n := range of {
		all = append(all, n.Process())
	}
	return all
}

// sum adds up one number of INFO.
func (n nodes) sum(ctx context.Context, section, field string) (sum int64, err error) {
	for _, node := range n {
		v, err := infoField(ctx, node, section, field)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// infoField reads one number of INFO.
func infoField(ctx context.Context, node *redistest.Node, section, field string) (n int64, err error) {
	info, err := node.Client().InfoMap(ctx, section).Result()
	if err != nil {
		return 0, fmt.Errorf("ask %s: %w", node.Addr(), err)
	}
	for _, fields := range info {
		if text, ok := fields[field]; ok {
			_, err := fmt.Sscan(text, &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("ask %s: INFO %s has no %s", node.Addr(), section, field)
}
