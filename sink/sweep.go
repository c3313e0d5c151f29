package sink

import (
	"bytes"
	"context"

	"github.com/cespare/xxhash/v2"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

const (
	// breakerMinKeys is how many keys a sweep may remove whatever part of all they are.
	breakerMinKeys = 100
	unlinkKeys     = 500
)

// carryOut does a sweep or a flush. All earlier events of the partition are applied and no later one is sent, so a key
// that the target has and the source's snapshot has not is a ghost. It is repeated as a whole after a lost connection:
// what was removed stays removed.
func (w *worker) carryOut(ctx context.Context, c *control) error {
	ghosts := c.kind == event.SnapshotEnd
	if ghosts && (w.s.cfg.Sweep == SweepKeep || c.first && w.s.cfg.ExistingKeys == ExistingKeep) {
		return nil
	}
	w.stat.setState(StateSweeping)
	defer w.stat.setState(StateRunning)
	for attempt := 0; ; attempt++ {
		err := w.sweep(ctx, c)
		if err == nil || classOf(err) != Retry || w.soft.Err() != nil {
			return err
		}
		w.warn("sweep is begun again", err)
		if err := w.pause(ctx, attempt); err != nil {
			return err
		}
		if _, err := w.reopen(ctx, nil); err != nil {
			return err
		}
	}
}

func (w *worker) sweep(ctx context.Context, c *control) error {
	if c.kind == event.SnapshotEnd {
		var keys, ghosts int64
		for s := range c.slots.All() {
			if err := w.listSlot(s, func(key []byte) {
				if own.Is(key) {
					return
				}
				keys++
				if !c.seen.has(xxhash.Sum64(key)) {
					ghosts++
				}
			}); err != nil {
				return err
			}
		}
		switch {
		case ghosts == 0:
			return nil
		case w.s.cfg.Sweep == SweepReport:
			w.stat.ghosts.Add(ghosts)
			w.log.Warn("the target has keys that the source does not have", "shard", c.shard, "generation", c.generation, "keys", ghosts)
			return nil
		case c.first && w.s.cfg.ExistingKeys == ExistingReplace:
		case ghosts > breakerMinKeys && float64(ghosts) > w.s.cfg.SweepMax*float64(keys):
			return &SweepError{
				Partition: w.partition, Shard: uint32(c.shard), Generation: uint32(c.generation),
				Ghosts: ghosts, Keys: keys, Max: w.s.cfg.SweepMax,
			}
		}
	}
	for s := range c.slots.All() {
		if err := w.sweepSlot(ctx, s, c); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) sweepSlot(ctx context.Context, s slot.Slot, c *control) error {
	var ghosts [][]byte
	if err := w.listSlot(s, func(key []byte) {
		if !own.Is(key) && !c.seen.has(xxhash.Sum64(key)) {
			ghosts = append(ghosts, bytes.Clone(key))
		}
	}); err != nil {
		return err
	}
	for len(ghosts) > 0 {
		n := min(len(ghosts), unlinkKeys)
		args := append([][]byte{[]byte("UNLINK")}, ghosts[:n]...)
		u := &unit{offset: c.offset, slot: s, key: ghosts[0], commands: resp.AppendCommandBytes(nil, args...), count: 1, blind: true}
		if err := w.apply(ctx, []*run{{slot: s, units: []*unit{u}}}, c.offset); err != nil {
			return err
		}
		w.stat.swept.Add(int64(n))
		ghosts = ghosts[n:]
	}
	return nil
}

// listSlot hands over every key of a slot. CLUSTER GETKEYSINSLOT tells what this node has, owner or not: a key of the slot
// that never exists is asked for before and behind, and any redirection means that the slot is being moved, or was: the
// error leads to another try later.
func (w *worker) listSlot(s slot.Slot, fn func(key []byte)) error {
	c := w.conns[w.ownerOf(s)]
	probe := string(own.StagingKey(w.s.cfg.Name, 0, s))
	var count int64
	var q request
	q.add("CLUSTER", "COUNTKEYSINSLOT", itoa(int64(s)))
	if err := c.do(&q, func(i int, r resp.Reply) error {
		count = r.Int
		return serverErr(c)(i, r)
	}); err != nil {
		return err
	}
	q = request{}
	q.add("EXISTS", probe)
	if count > 0 {
		// Others may add keys between the two questions.
		q.add("CLUSTER", "GETKEYSINSLOT", itoa(int64(s)), itoa(count+1000))
		q.add("EXISTS", probe)
	}
	return c.do(&q, func(i int, r resp.Reply) error {
		if err := serverErr(c)(i, r); err != nil {
			return err
		}
		for _, k := range r.Elems {
			fn(k.Str)
		}
		return nil
	})
}
