package main

import (
	"context"
	"fmt"
)

// allTypes measures full synchronisation B: all types, small and of medium size.
func (b *bench) allTypes(ctx context.Context) error {
	return b.compete(ctx, setup{name: "types", systems: b.systems(true)}, func(ctx context.Context, c *contest) error {
		if err := (allTypes{b.cfg.keys}).fill(ctx, c.source); err != nil {
			return err
		}
		return c.snapshot(ctx, b.caseSyncB())
	})
}

// hugeKeys measures full synchronisation C: a few keys that are as large as all else.
func (b *bench) hugeKeys(ctx context.Context) error {
	return b.compete(ctx, setup{name: "huge", systems: b.systems(true)}, func(ctx context.Context, c *contest) error {
		if err := hugeKeys(b.cfg.keys/2).write(ctx, c.source); err != nil {
			return err
		}
		return c.snapshot(ctx, b.caseSyncC())
	})
}

func (b *bench) caseSyncB() string {
	return fmt.Sprintf("Full sync B: %s keys of six types, %s elements", count(allTypes{b.cfg.keys}.keyCount()), count(5*b.cfg.keys))
}

func (b *bench) caseSyncC() string {
	return fmt.Sprintf("Full sync C: %d keys of %s elements", hugeKeysN, count(b.cfg.keys/2))
}
