package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// shards is how many masters the source has, and how many servers every copy has.
const shards = 3

// backlog of the sources: a link that is lost for a moment goes on within it.
const backlog = "256mb"

// nodes are servers that share the slots evenly, in the order of their slots: masters of a cluster, or their replicas.
type nodes []*redistest.Node

// indexOf is the number of the node that has a slot (redistest gives slots out like this).
func indexOf(s slot.Slot) int {
	for i := range shards {
		if int(s) < (i+1)*slot.Count/shards {
			return i
		}
	}
	return shards - 1
}

func (n nodes) of(s slot.Slot) *redis.Client { return n[indexOf(s)].Client() }

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

func startCluster(ctx context.Context, dir string, args ...string) (*redistest.Cluster, error) {
	return redistest.StartCluster(ctx, redistest.Config{Masters: shards, Dir: dir, Args: args})
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
