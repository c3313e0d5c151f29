package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// marker writes marks behind everything else and waits until they are in the copy: order holds in a partition, so that
// all before them is there then too. Two keys a partition, since two shards may share it.
type marker struct {
	source     *redistest.Cluster
	partitions int
	last       int
}

func (m *marker) slots() []slot.Slot {
	var all []slot.Slot
	for p := range m.partitions {
		r := slot.PartitionRange(int32(p), m.partitions)
		all = append(all, r.First, r.Last)
	}
	return all
}

// applied marks what was written so far and returns when the copy has it.
func (m *marker) applied(ctx context.Context, sys system) error {
	m.last++
	value := strconv.Itoa(m.last)
	masters := nodes(m.source.Masters())
	var missing []string
	slots := m.slots()
	for _, s := range slots {
		key := "mark:{" + slot.Tag(s) + "}"
		if err := masters.of(s).Set(ctx, key, value, 0).Err(); err != nil {
			return fmt.Errorf("write mark: %w", err)
		}
		missing = append(missing, key)
	}
	return await(ctx, sys, "all to be applied", func() (string, error) {
		for len(missing) > 0 {
			n := len(missing) - 1
			got, err := sys.copies().of(slots[n]).Get(ctx, missing[n]).Result()
			if err != nil && !errors.Is(err, redis.Nil) && !isLoading(err) {
				return "", err
			}
			if got != value {
				return fmt.Sprintf("%s is %q, not %q", missing[n], got, value), nil
			}
			missing = missing[:n]
		}
		return "", nil
	})
}

// isLoading: a replica answers so while it reads the snapshot, or before it has a first one.
func isLoading(err error) bool {
	return redis.HasErrorPrefix(err, "LOADING") || redis.HasErrorPrefix(err, "MASTERDOWN")
}

// sameCount waits until the copy has as many keys as the source, or more: a sink keeps keys of its own there.
func sameCount(ctx context.Context, source *redistest.Cluster, sys system) error {
	return await(ctx, sys, "all keys to be in the copy", func() (string, error) {
		want, err := nodes(source.Masters()).keyCount(ctx)
		if err != nil {
			return "", err
		}
		got, err := sys.copies().keyCount(ctx)
		if err != nil {
			return "", err
		}
		if got < want {
			return fmt.Sprintf("%d of %d", got, want), nil
		}
		return "", nil
	})
}
