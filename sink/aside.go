package sink

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/redriver/redriver/redis/slot"
)

// aside holds what cannot be written because its slot is being moved, and the keys of a write, or a key and the slot's
// checkpoint, lie on both sides. That lasts as long as the move, for ever if nobody ends it, and the partition's other slots
// go on meanwhile. Bound: asideBytes, and one batch on top; then the partition waits after all, as it does for a control
// event.
//
// Invariant: everything of a slot that is set aside lies here, in order, the batch by batch that it came in; nothing else
// of the slot is sent. worker.next stays at the first of it, and so do the watermarks: the others' checkpoints tell what is
// applied beyond, and what has none is blind. So a connection that is lost meanwhile starts the partition anew, since no
// watermark could tell what the target has lost.
type aside struct {
	slots map[slot.Slot][]*run
	bytes int
	tried time.Time
}

const (
	// asideAfter is how long a slot is waited for: keys are moved one by one, which is soon over.
	asideAfter = time.Second
	asideRetry = 250 * time.Millisecond
	asideBytes = 8 << 20
	// unitOverhead is of a unit in memory.
	unitOverhead = 200
)

// stuck notes since when a run has waited for its slot's move.
func (r *run) stuck(now time.Time) {
	switch {
	case r.confirmed > 0 || !r.failed || r.verdict != asked && r.verdict != split:
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = now
	}
}

// canWait tells whether the run has waited long enough to be set aside.
func (r *run) canWait(now time.Time) bool {
	return r.mark == nil && !r.bare && !r.since.IsZero() && now.Sub(r.since) >= asideAfter
}

func (a *aside) empty() bool { return len(a.slots) == 0 }
func (a *aside) full() bool  { return a.bytes > asideBytes }
func (a *aside) due() bool   { return !a.empty() && time.Since(a.tried) >= asideRetry }

// has tells whether a slot is set aside.
func (a *aside) has(s slot.Slot) bool { return len(a.slots[s]) > 0 }

// add puts a run behind what waits of its slot; one that is there already stays where it is.
func (a *aside) add(r *run) {
	if q := a.slots[r.slot]; len(q) > 0 && q[0] == r {
		return
	}
	if a.slots == nil {
		a.slots = map[slot.Slot][]*run{}
	}
	for i, u := range r.units {
		own := *u // what it aliases are records, and what was fetched along with them
		own.key, own.commands = bytes.Clone(u.key), bytes.Clone(u.commands)
		r.units[i] = &own
	}
	r.all, r.by, r.scattered = nil, nil, false // nothing is taken back while slots are set aside: the partition starts anew
	a.slots[r.slot] = append(a.slots[r.slot], r)
	a.count()
}

// heads are the runs that come next.
func (a *aside) heads() (out []*run) {
	for _, q := range a.slots {
		out = append(out, q[0])
	}
	return out
}

// tidy drops what is applied.
func (a *aside) tidy() {
	for s, q := range a.slots {
		for len(q) > 0 && len(q[0].units) == 0 {
			q = q[1:]
		}
		if a.slots[s] = q; len(q) == 0 {
			delete(a.slots, s)
		}
	}
	a.count()
}

func (a *aside) count() {
	a.bytes = 0
	for _, q := range a.slots {
		for _, r := range q {
			for _, u := range r.units {
				a.bytes += len(u.commands) + len(u.key) + unitOverhead
			}
		}
	}
}

// lowest is the least offset that waits, or next if none does.
func (a *aside) lowest(next int64) int64 {
	for _, q := range a.slots {
		next = min(next, q[0].units[0].offset)
	}
	return next
}

// free leaves those runs whose slots are not set aside; the others wait behind what is.
func (w *worker) free(runs []*run) []*run {
	if w.aside.empty() {
		return runs
	}
	out := runs[:0]
	for _, r := range runs {
		if w.aside.has(r.slot) {
			w.aside.add(r)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// setAside takes out of the runs those that have waited for long.
func (w *worker) setAside(runs []*run) []*run {
	now := time.Now()
	left := runs[:0]
	for _, r := range runs {
		if !r.canWait(now) {
			left = append(left, r)
			continue
		}
		if !w.aside.has(r.slot) {
			w.log.Warn("a slot waits until the target has moved it, the others go on", slog.Int("slot", int(r.slot)), slog.String("reply", r.reply))
		}
		w.aside.add(r)
	}
	return left
}

// retryAside tries once more what waits.
func (w *worker) retryAside(ctx context.Context) error {
	w.aside.tried = time.Now()
	for before := 0; !w.aside.empty() && before != w.aside.bytes; {
		before = w.aside.bytes
		heads := w.aside.heads()
		next := w.next
		for _, r := range heads {
			next = max(next, r.units[len(r.units)-1].offset+1)
		}
		if err := w.applyOrSetAside(ctx, heads, next); err != nil {
			return err
		}
		w.aside.tidy()
	}
	w.settle()
	return nil
}

// awaitAside waits until nothing is set aside.
func (w *worker) awaitAside(ctx context.Context) error {
	for attempt := 0; !w.aside.empty(); attempt++ {
		if w.soft.Err() != nil {
			return errStopped
		}
		if attempt > 0 {
			if err := w.pause(ctx, attempt); err != nil {
				return err
			}
		}
		if err := w.retryAside(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle finds out up to where everything is applied.
func (w *worker) settle() {
	w.next = w.aside.lowest(w.at)
	w.stat.applied.Store(w.next)
	w.stat.restart.Store(w.in.restart(w.next))
	if w.aside.empty() {
		w.stat.clearError()
	}
}
