package sink

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// markUnsent in place of an end says that nothing was ever sent.
const markUnsent int64 = -1

// touched are the first slots whose watermark goes ahead of a batch: those of the nodes that get something, and all if
// some have not been written for a while.
func (w *worker) touched(b *batch) []slot.Slot {
	if w.marksDue || time.Since(w.marksTime) > markInterval {
		w.marksDue, w.marksTime = false, time.Now()
		w.forgetOld()
		return w.firsts()
	}
	var out []slot.Slot
	for i := range w.holdings {
		h := &w.holdings[i]
		if slices.ContainsFunc(b.runs, func(r *run) bool { return h.slots.Has(r.slot) }) {
			out = append(out, h.first)
		}
	}
	return out
}

// markRuns are the watermarks in these slots, ahead of a batch that ends at sent. They vouch for what was acknowledged
// before it and say how far the unknown window reaches if nothing more is heard of us.
func (w *worker) markRuns(sent int64, at []slot.Slot) []*run {
	var out []*run
	restart := w.in.restart(w.next)
	for _, s := range at {
		h := w.holdingAt(s)
		m := watermark{
			hold: w.s.cfg.ExpiryHold, databases: w.shape.databases(),
			topicID: w.s.topic.ID, partition: w.partition, restart: restart, applied: w.next, begins: w.in.beginsAfter(restart),
			sent: max(sent, w.at, w.window), refused: slices.Clone(w.refused), settled: w.in.settled, slots: h.slots, list: h.list,
			generations: w.in.generations,
		}
		if sent == markUnsent {
			m.applied = markUnsent
		}
		out = append(out, w.markRun(s, m))
	}
	return out
}

func (w *worker) markRun(s slot.Slot, m watermark) *run {
	key := own.Key(own.Watermark, w.s.cfg.Name, s)
	args := [4][]byte{[]byte("SET"), key, m.text()}
	n := 3
	if w.present[s] {
		args[3], n = []byte("XX"), 4 // one that has vanished must not come back: it shows that the target was wiped
	}
	cmd := resp.AppendCommandBytes(nil, args[:n]...)
	return &run{slot: s, mark: &m, units: []*unit{{offset: noneDone, slot: s, key: key, commands: cmd, count: 1, blind: true}}}
}

// idle looks after the target while nothing is to be done: the watermarks are read every other second, so that a target that lost
// them is noticed, and connections are kept alive, and written where they say less than we know.
func (w *worker) idle(ctx context.Context) error {
	if err := w.checkImport(); err != nil {
		return w.recover(ctx, err)
	}
	if err := w.checkEviction(false); err != nil {
		return w.recover(ctx, err)
	}
	stale := w.marksDue || len(w.written) == 0
	for _, m := range w.written {
		stale = stale || m.applied != w.next || m.restart != w.in.restart(w.next) || m.sent != w.at
	}
	if !stale && time.Since(w.looked) < idleLook {
		return nil
	}
	w.looked = time.Now()
	for s, m := range w.written {
		var got string
		if err := w.ask(s, func(r resp.Reply) error {
			got = string(r.Str)
			return nil
		}, []byte("GET"), own.Key(own.Watermark, w.s.cfg.Name, s)); err != nil {
			return w.recover(ctx, err)
		}
		if got != m.String() {
			return classed(Resync, "watermark in slot %d is %q, not what was written", s, got)
		}
	}
	if !stale {
		return nil
	}
	w.marksDue, w.marksTime = false, time.Now()
	w.forgetOld()
	if err := w.apply(ctx, w.markRuns(w.at, w.firsts()), w.at); err != nil {
		return err
	}
	if err := w.removeStale(); err != nil {
		return w.recover(ctx, err)
	}
	return nil
}

// recover restores the connections after an error between two batches.
func (w *worker) recover(ctx context.Context, err error) error {
	if classOf(err) != Retry {
		return err
	}
	return w.reopen(ctx, nil)
}

// forgetOld turns watermarks that are no longer written into stale ones.
func (w *worker) forgetOld() {
	present := map[slot.Slot]bool{}
	for _, s := range w.firsts() {
		present[s] = true
	}
	for s := range w.written {
		if !present[s] {
			delete(w.written, s)
			delete(w.present, s)
			w.stale = append(w.stale, s)
		}
	}
}

// removeStale removes watermarks of an earlier topology, whose slots the present ones vouch for.
func (w *worker) removeStale() error {
	for _, s := range w.stale {
		if _, ok := w.written[s]; ok {
			continue
		}
		if err := w.ask(s, func(resp.Reply) error { return nil }, []byte("DEL"), own.Key(own.Watermark, w.s.cfg.Name, s)); err != nil {
			return err
		}
		delete(w.present, s)
	}
	w.stale = nil
	return nil
}

// leave writes the last watermarks of a partition that is given up, so that the next owner has nothing to do twice.
func (w *worker) leave(ctx context.Context) error {
	if w.s.group.lease.ok() {
		_ = w.apply(ctx, w.markRuns(w.at, w.firsts()), w.at) // the next owner starts a little earlier otherwise
	}
	return nil
}

// recordRefused leaves a note of refused units in the watermarks, so that the next start does not pass over them: within a
// transaction their checkpoint is written, outside of one they would lie in the unknown window.
func (w *worker) recordRefused(refusals []*RefusedError, next int64) {
	for _, e := range refusals {
		if e.Offset >= 0 {
			w.refused = append(w.refused, e.Offset)
			w.log.Error("the target refuses a write", slog.Any("error", e))
		}
	}
	slices.Sort(w.refused)
	w.refused = slices.Compact(w.refused)
	if len(w.refused) == 0 {
		return
	}
	for _, r := range w.markRuns(next, w.firsts()) {
		if err := w.ask(r.slot, func(resp.Reply) error { return nil },
			[]byte("SET"), own.Key(own.Watermark, w.s.cfg.Name, r.slot), []byte(r.mark.String())); err != nil {
			w.log.Warn("cannot leave a note of the refused unit at the target", slog.Any("error", err))
			return
		}
	}
}
