package sink

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// gather makes a batch of all records that are there, or returns nil.
func (w *worker) gather() (*batch, error) {
	if w.aside.full() {
		return nil, nil
	}
	if w.bad != nil {
		return nil, w.bad
	}
	b := &w.batch
	b.reset(w.at, !w.aside.empty())
	w.in.nowMs = time.Now().UnixMilli()
	if err := w.in.start(b); err != nil {
		if len(b.units) == 0 {
			return nil, err
		}
		w.bad, b.over = err, true // what comes before is fine and goes first
	}
	if err := w.fill(b); err != nil {
		return nil, err
	}
	w.stat.skipped.Store(w.in.skipped)
	if b.next == w.at && len(b.units) == 0 {
		return nil, nil
	}
	return b, nil
}

// fill adds the records that are there. An error that comes behind something is left for the next batch.
func (w *worker) fill(b *batch) error {
	for !b.over {
		r, err := w.queue.take()
		if err != nil {
			if b.next > w.at || len(b.units) > 0 {
				break
			}
			if errors.Is(err, kerr.OffsetOutOfRange) {
				return classed(Resync, "%w", err)
			}
			return err
		}
		if r == nil {
			break
		}
		if r.Offset < b.next {
			return classed(Resync, "read partition %d: offset %d came after %d", w.partition, r.Offset, b.next)
		}
		if err := w.in.add(b, r); err != nil {
			if b.next > w.at || len(b.units) > 0 {
				// What comes before is fine and goes first.
				w.bad = err
				break
			}
			return err
		}
	}
	return nil
}

// linger has a batch wait for more units while guarded ones come in crowds, to many slots, until Config.GuardedWait after the
// batch before was begun: the more of a slot's units a batch has, the fewer transactions and checkpoints the target has to
// carry out. A backlog fills batches by itself.
func (w *worker) linger(b *batch) error {
	wait := w.s.cfg.GuardedWait
	rest := wait - time.Since(w.crowd.at)
	if crowded := w.crowd.add(time.Now(), b.crowd, wait); !crowded || rest <= 0 || !w.aside.empty() {
		return nil
	}
	counted := b.crowd
	defer func() { w.crowd.add(time.Now(), b.crowd-counted, wait) }()
	over := time.NewTimer(rest)
	defer over.Stop()
	for !b.over && w.bad == nil {
		select {
		case <-w.soft.Done():
			return nil
		case <-over.C:
			return nil
		case <-w.queue.ready:
		}
		if err := w.fill(b); err != nil {
			return err
		}
	}
	return nil
}

const (
	// crowdPerSecond is how many guarded units have to come in a second for batches to wait for more of them. What they cost the
	// target otherwise, each in a transaction of its own, is a hundredth of its core.
	crowdPerSecond = 2500
	// crowdPerSlot is how many of them count in one slot of a batch: a hot slot, and a partition that is all one run, have few
	// transactions without any waiting.
	crowdPerSlot = 8
)

// crowd is a bucket that loses crowdPerSecond: it is full if units have come faster than that for a while.
type crowd struct {
	units float64
	at    time.Time // of the last batch
}

// add puts units into the bucket, and tells whether it is full: of what comes within the wait.
func (c *crowd) add(now time.Time, units int, wait time.Duration) bool {
	full := crowdPerSecond * wait.Seconds()
	left := max(0, c.units-crowdPerSecond*now.Sub(c.at).Seconds())
	c.units, c.at = min(left+float64(units), 2*full), now
	return c.units >= full
}
