package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redriver/redriver/redis/slot"
)

// The part of many shards: a cluster of so many masters, one worker, the same total rate. What there is of it beside the
// commands themselves (keep-alives, acknowledgements, transactions) is in the cost.
const (
	shardsRate = 20_000
	shardsTick = 10 * time.Millisecond
	shardsKeys = 100_000
)

// shards measures the cost of a command by the number of shards, and a shard that has all the load.
func (b *bench) shards(ctx context.Context) error {
	for _, n := range b.cfg.shards {
		on := setup{name: fmt.Sprintf("shards-%d", n), masters: n, systems: b.systems(false)}
		err := b.compete(ctx, on, func(ctx context.Context, c *contest) error {
			keys := min(shardsKeys, b.cfg.keys)
			if err := fillStrings(keys).write(ctx, c.source); err != nil {
				return err
			}
			if err := c.start(ctx); err != nil {
				return err
			}
			if err := c.pacedCost(ctx, b.caseShards(n), sets(keys, keys, 4), shardsRate); err != nil {
				return err
			}
			if n != shards {
				return nil
			}
			return c.stream(ctx, b.caseHot(), 0, func() error { return hotSets(keys, c.cfg.commands).write(ctx, c.source) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) caseShards(n int) string {
	return fmt.Sprintf("%d shards, one worker, %s writes/s in all", n, count(shardsRate))
}

func (b *bench) caseHot() string {
	return fmt.Sprintf("One hot shard of %d: stream of %s `SET`", shards, count(b.cfg.commands))
}

const unitCost = "CPU us / command"

// pacedCost measures CPU per command at a fixed rate.
func (c *contest) pacedCost(ctx context.Context, caseName string, work workload, rate int) error {
	c.say("%s: %s", caseName, c.name)
	run := func(span time.Duration) (int64, error) {
		ctx, cancel := context.WithTimeout(ctx, span)
		defer cancel()
		return work.writePaced(ctx, c.source, rate, shardsTick)
	}
	if _, err := run(latencyWarmup); err != nil {
		return err
	}
	profile := c.profile()
	m := beginMeter(c.sys)
	n, err := run(c.cfg.latency)
	used, _ := m.end()
	if err := errors.Join(err, profile.end(caseName), ctx.Err()); err != nil {
		return err
	}
	if err := c.marks.applied(ctx, c.sys); err != nil {
		return err
	}
	c.addUsage(caseName, unitCost, used, false, func(u usage) float64 { return float64(u.cpu.Microseconds()) / float64(n) })
	c.add(measure{caseName: caseName, what: "written, " + c.name, unit: "commands/s", value: float64(n) / c.cfg.latency.Seconds()})
	return nil
}

// hotSets are SETs to the keys of the first master alone.
func hotSets(keys, n int) workload {
	var own []int
	for i := range keys {
		if indexOf(slot.Of(keyed(nil, "key:", i)), shards) == 0 {
			own = append(own, i)
		}
	}
	w := sets(keys, n, 8)
	w.key = func(dst []byte, i int) []byte { return keyed(dst, "key:", own[i*stride%len(own)]) }
	return w
}
