package sink

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

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
	if c.kind == event.Functions {
		return w.functions(ctx, c)
	}
	if c.kind == event.SnapshotEnd && !w.s.cfg.sweeps(c.first) {
		return nil
	}
	do, what := w.sweep, "a sweep is begun again"
	switch {
	case c.unit != nil:
		do, what = w.spread, "a unit over several slots is begun again"
	case c.large != nil:
		do, what = w.large, "a large unit is begun again"
	default:
		w.stat.setState(StateSweeping)
		defer w.stat.setState(StateRunning)
		w.whole = true // keys that were removed may be back, where the target failed over
		defer func() { w.whole = false }()
	}
	for attempt := 0; ; attempt++ {
		err := do(ctx, c)
		if err == nil || classOf(err) != Retry || w.soft.Err() != nil {
			return err
		}
		w.warn(what, err)
		if err := w.pause(ctx, attempt); err != nil {
			return err
		}
		if _, busy := errors.AsType[*busyError](err); busy && !w.broken() {
			continue
		}
		if err := w.reopen(ctx, nil); err != nil {
			return err
		}
	}
}

func (w *worker) sweep(ctx context.Context, c *control) error {
	if w.shape.single {
		return w.sweepSingle(ctx, c)
	}
	var all []slot.Slot
	for s := range c.slots.All() {
		all = append(all, s)
	}
	return w.removeGhosts(ctx, c, func(fn func(h uint64) error) error {
		return w.listSlots(all, func(_ slot.Slot, key []byte) error {
			if own.Is(key) {
				return nil
			}
			return fn(xxhash.Sum64(key))
		})
	}, func(isGhost func(h uint64) bool) error {
		// Ghosts are gathered while a pipeline is read and removed behind it: the answers of one are not mixed with the other's.
		ghosts := map[slot.Slot][][]byte{}
		return w.listSlotsThen(all, func(s slot.Slot, key []byte) error {
			if !own.Is(key) && isGhost(xxhash.Sum64(key)) {
				ghosts[s] = append(ghosts[s], bytes.Clone(key))
			}
			return nil
		}, func() error {
			defer clear(ghosts)
			return w.unlink(ctx, ghosts, c.offset)
		})
	})
}

// removeGhosts has those of the target's keys removed that the set does not have, if policy and breaker allow it. each hands over
// the fingerprints of the target's keys, remove removes those that are told to be ghosts. A flush has an empty set, and no policy.
func (w *worker) removeGhosts(ctx context.Context, c *control, each func(func(h uint64) error) error, remove func(isGhost func(h uint64) bool) error) error {
	isGhost := func(h uint64) bool { return !c.seen.has(h) }
	if c.kind != event.SnapshotEnd {
		return remove(isGhost)
	}
	var have *seenSet // the target's keys, where the set cannot be asked for one of them
	if !c.seen.inMemory() {
		have = w.in.seen.newSet()
		defer have.close()
	}
	var keys, ghosts int64
	err := each(func(h uint64) error {
		keys++
		if have != nil {
			return have.add(h)
		}
		if isGhost(h) {
			ghosts++
		}
		return nil
	})
	if err == nil && have != nil {
		err = have.missing(c.seen, w.keepAlive, func(uint64) error {
			ghosts++
			return nil
		})
	}
	if err != nil || ghosts == 0 {
		return err
	}
	if goOn, err := w.mayRemove(ctx, c, keys, ghosts); !goOn {
		return err
	}
	if have != nil {
		return w.removeMissing(have, c.seen, remove)
	}
	return remove(isGhost)
}

// removeMissing removes what one set has and the other has not, as many at a time as may be held.
func (w *worker) removeMissing(have, seen *seenSet, remove func(isGhost func(h uint64) bool) error) error {
	var some []uint64 // in order
	removeSome := func() error {
		err := remove(func(h uint64) bool {
			_, found := slices.BinarySearch(some, h)
			return found
		})
		some = some[:0]
		return err
	}
	most := w.in.seen.ghosts()
	if err := have.missing(seen, w.keepAlive, func(h uint64) error {
		if some = append(some, h); len(some) < most {
			return nil
		}
		return removeSome()
	}); err != nil || len(some) == 0 {
		return err
	}
	return removeSome()
}

// mayWork returns an error once nothing new may be begun.
func (w *worker) mayWork() error {
	if w.soft.Err() != nil || w.hard.Err() != nil {
		return errStopped
	}
	return nil
}

// keepAlive is mayWork, and speaks to the nodes that have not heard of us for a while: servers are configured to drop connections
// that are silent.
func (w *worker) keepAlive() error {
	if err := w.mayWork(); err != nil {
		return err
	}
	for _, c := range w.conns {
		if time.Since(c.used) < idleLook {
			continue
		}
		var q request
		q.add("PING")
		if err := c.do(&q, serverErr(c)); err != nil {
			return err
		}
	}
	return nil
}

// mayRemove is the policy and the breaker.
func (w *worker) mayRemove(ctx context.Context, c *control, keys, ghosts int64) (bool, error) {
	switch {
	case w.s.cfg.Sweep == SweepReport:
		w.stat.ghosts.Add(ghosts)
		w.log.Warn("the target has keys that the source does not have", slog.Uint64("shard", uint64(c.shard)),
			slog.Uint64("generation", uint64(c.generation)), slog.Int64("keys", ghosts))
		return false, nil
	case c.first && w.s.cfg.ExistingKeys == ExistingReplace:
	case float64(ghosts) <= w.s.cfg.SweepMax*float64(keys):
	default:
		few := ghosts <= breakerMinKeys
		if few {
			empty, err := w.s.emptied(ctx, c)
			if err != nil {
				return false, err
			}
			few = !empty
		}
		if !few {
			return false, &SweepError{
				Partition: w.partition, Shard: uint32(c.shard), Generation: uint32(c.generation),
				Ghosts: ghosts, Keys: keys, Max: w.s.cfg.SweepMax,
			}
		}
	}
	return true, nil
}

// emptied tells whether the whole shard has no key in that generation: then few keys in each of many partitions are the
// whole copy.
func (s *Sink) emptied(ctx context.Context, c *control) (bool, error) {
	state, err := s.readOffsets(ctx, offsetsFresh)
	if err != nil {
		return false, err
	}
	b, ok := state.Boundary(uint32(c.shard), uint32(c.generation))
	if !ok {
		// What was read before may be older than the snapshot's end, with which its boundary was committed.
		if state, err = s.readOffsets(ctx, 0); err != nil {
			return false, err
		}
		b, ok = state.Boundary(uint32(c.shard), uint32(c.generation))
	}
	return ok && b.Entries == 0, nil
}

func (w *worker) unlink(ctx context.Context, ghosts map[slot.Slot][][]byte, offset int64) error {
	var runs []*run
	n := 0
	for _, s := range slices.Sorted(maps.Keys(ghosts)) {
		r := &run{slot: s}
		for keys := range slices.Chunk(ghosts[s], unlinkKeys) {
			args := append([][]byte{[]byte("UNLINK")}, keys...)
			r.units = append(r.units, &unit{
				offset: offset, slot: s, key: keys[0], commands: resp.AppendCommandBytes(nil, args...), count: 1, blind: true,
			})
			n += len(keys)
		}
		runs = append(runs, r)
	}
	if err := w.apply(ctx, runs, offset); err != nil {
		return err
	}
	w.stat.swept.Add(int64(n))
	return nil
}
