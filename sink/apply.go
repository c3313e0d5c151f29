package sink

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
)

// apply brings runs to the target, whatever it takes, and returns when all are applied. Stop-and-wait is what keeps the
// order: nothing of a later batch is sent before.
//
// first, and then again for whatever is left: one round sends all runs and reads all answers. A run whose front unit met
// a passing trouble is sent again from that unit on, also the units behind it that were taken: SET k refused for want of
// memory, DEL k done, SET k done now would bring k back to life.
func (w *worker) apply(ctx context.Context, runs []*run, next int64) error {
	return w.applyRuns(ctx, runs, next, false)
}

// applyOrSetAside is apply, but that it does not wait long for slots that are being moved.
func (w *worker) applyOrSetAside(ctx context.Context, runs []*run, next int64) error {
	return w.applyRuns(ctx, runs, next, true)
}

func (w *worker) applyRuns(ctx context.Context, runs []*run, next int64, mayWait bool) error {
	all := runs // those that are settled stay at its end
	for attempt := 0; len(runs) > 0; attempt++ {
		if attempt > 0 && w.soft.Err() != nil {
			return errStopped
		}
		if err := w.s.group.lease.wait(ctx); err != nil {
			return err
		}
		before := countUnits(runs)
		if err := w.round(ctx, runs, next); err != nil {
			return err
		}
		reopen := w.broken()
		now := time.Now()
		for _, r := range runs {
			r.stuck(now)
			if r.settle() {
				reopen = reopen || r.failed && r.verdict == moved
			}
		}
		if runs = runs[:unsettled(runs)]; len(runs) == 0 && !reopen {
			return nil
		}
		// What is sent a second time may have been applied the first time.
		w.window = max(w.window, next)
		if countUnits(runs) < before {
			attempt = 0
		}
		if len(runs) > 0 {
			w.trouble(runs[0])
		}
		if mayWait && !reopen {
			if runs = w.setAside(runs); len(runs) == 0 {
				return nil
			}
		}
		if err := w.pause(ctx, attempt); err != nil {
			return err
		}
		if !reopen {
			continue
		}
		if w.whole {
			return errTopology
		}
		// The nodes may have other slots now, and other watermarks.
		all = slices.DeleteFunc(all, func(r *run) bool { return r.mark != nil })
		if err := w.reopen(ctx, all); err != nil {
			return err
		}
		if runs = all[:unsettled(all)]; len(runs) > 0 {
			w.marksDue = false
			w.forgetOld()
			marks := w.markRuns(next, w.firsts()) // the one that was lost said how far was sent
			all = append(marks, all...)
			runs = all[:len(marks)+len(runs)]
		}
	}
	return nil
}

func countUnits(runs []*run) (n int) {
	for _, r := range runs {
		n += len(r.units)
	}
	return n
}

// reopen restores the connections, takes out of the runs what was applied after all, and back what may have been lost:
//
//  1. the watermark of this batch, SET a and SET b go to a master; its replica gets the watermark and no more
//  2. the master acknowledges SET a, and fails over: SET b meets MOVED, or the end of the connection
//  3. the replica has the watermark, which vouches for what was acknowledged before this batch, and not a
//
// A slot that stays where it was, on a node whose connection was not lost, has what was acknowledged.
func (w *worker) reopen(ctx context.Context, runs []*run) error {
	if !w.aside.empty() {
		return classed(Resync, "%w while slots were waited for", errTopology)
	}
	for _, r := range runs {
		if r.scattered || r.by != nil && r.by.broken {
			r.rewind()
		}
	}
	for attempt := 0; ; attempt++ {
		checkpoints, err := w.resume(ctx)
		if err == nil {
			for _, r := range runs {
				now := w.conns[w.ownerOf(r.slot)]
				if r.by != nil && (attempt > 0 || r.by.addr != now.addr) {
					r.rewind()
				} else if r.by != nil {
					r.by = now
				}
				if c, ok := checkpoints[r.slot]; ok && !r.bare {
					r.skip(c, now)
				}
				r.askAt = ""
			}
			w.marksDue = true
			return nil
		}
		if classOf(err) != Retry {
			return err
		}
		w.warn("cannot reach the target", err)
		if w.soft.Err() != nil {
			return errStopped
		}
		if err := w.pause(ctx, attempt); err != nil {
			return err
		}
	}
}

const (
	firstPause = 5 * time.Millisecond
	maxPause   = time.Second
)

// pause waits a little longer with each attempt. A partition that is taken away does not wait.
func (w *worker) pause(ctx context.Context, attempt int) error {
	d := min(firstPause<<min(attempt, 10), maxPause)
	d = d/2 + rand.N(d/2+1)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.soft.Done():
		return nil
	case <-time.After(d):
		return nil
	}
}

// parcel is what one node gets in one round.
type parcel struct {
	conn      *conn
	bufs      net.Buffers
	small     []byte // small commands are copied into one buffer, large ones go by themselves
	begun     int    // where in small the next of bufs begins
	shipments []shipment
}

// shipment is one answerable part of a parcel: a unit, or a transaction.
type shipment struct {
	run   *run
	units []*unit
	// steps are the units with what selects databases between them.
	steps  []*unit
	multi  bool
	asking bool
	// checkpoint tells that the transaction ends with the slot's checkpoint.
	checkpoint bool
	bytes      int // of its commands
}

// byReferenceBytes is from when on a unit is not copied.
const byReferenceBytes = 16 << 10

func (p *parcel) append(b []byte) {
	if len(b) < byReferenceBytes {
		p.small = append(p.small, b...)
		return
	}
	p.flush()
	p.bufs = append(p.bufs, b)
}

func (p *parcel) flush() {
	if len(p.small) > p.begun {
		p.bufs = append(p.bufs, p.small[p.begun:len(p.small):len(p.small)])
		p.begun = len(p.small)
	}
}

// keepParcelBytes is what a parcel may keep for the next one.
const keepParcelBytes = 1 << 20

var parcels = sync.Pool{New: func() any { return &parcel{} }}

// done gives the parcel back once nobody looks at it any more: all answers are here, so all was sent, and whoever sends
// on a lost connection keeps what it has.
func (p *parcel) done() {
	if p.conn.broken || cap(p.small) > keepParcelBytes {
		return
	}
	clear(p.bufs)
	clear(p.shipments)
	*p = parcel{bufs: p.bufs[:0], small: p.small[:0], shipments: p.shipments[:0]}
	parcels.Put(p)
}

var (
	wireMulti  = resp.AppendCommand(nil, "MULTI")
	wireExec   = resp.AppendCommand(nil, "EXEC")
	wireAsking = resp.AppendCommand(nil, "ASKING")
	wordSet    = []byte("SET")
)

// round sends the runs and reads every answer.
func (w *worker) round(ctx context.Context, runs []*run, next int64) error {
	var order []*parcel
	for _, r := range runs {
		r.confirmed, r.failed, r.reply = 0, false, ""
		c, err := w.connFor(ctx, r)
		if err == nil && w.shape.single {
			err = w.tryDatabases(c, r)
		}
		if err != nil {
			if classOf(err) != Retry {
				for _, p := range order {
					p.conn.parcel = nil
				}
				return err
			}
			r.failed, r.verdict, r.reply = true, moved, err.Error()
			continue
		}
		if c.parcel == nil {
			c.parcel = parcels.Get().(*parcel)
			c.parcel.conn = c
			order = append(order, c.parcel)
		}
		w.pack(c.parcel, r)
	}
	for _, p := range order {
		p.flush()
		p.conn.parcel = nil
		p.conn.send(p.bufs)
	}
	var refusals []*RefusedError
	for _, p := range order {
		refusals = append(refusals, w.receive(p)...)
		p.done()
	}
	if w.lostMark {
		w.lostMark = false
		return classed(Resync, "the target has lost a watermark")
	}
	if len(refusals) == 0 {
		return nil
	}
	w.recordRefused(refusals, next)
	return slices.MinFunc(refusals, func(a, b *RefusedError) int { return cmp.Compare(a.Offset, b.Offset) })
}

func (w *worker) pack(p *parcel, r *run) {
	asking := r.askAt != ""
	ship := func(s shipment) {
		s.run, s.asking = r, asking
		if asking {
			p.append(wireAsking)
		}
		if s.multi {
			p.append(wireMulti)
		}
		s.steps = s.units
		if w.shape.single && s.multi && r.mark == nil {
			s.steps = w.shape.steps(s.units)
		}
		for _, u := range s.steps {
			p.append(u.commands)
			s.bytes += len(u.commands)
		}
		p.shipments = append(p.shipments, s)
		if s.checkpoint {
			last := s.units[len(s.units)-1]
			c := checkpoint{w.s.topic.ID, w.partition, last.offset, last.part}
			w.ownKey, w.ownText = own.AppendKey(w.ownKey[:0], own.Checkpoint, w.s.cfg.Name, r.slot), c.appendText(w.ownText[:0])
			p.small = resp.AppendCommandBytes(p.small, wordSet, w.ownKey, w.ownText)
		}
		if s.multi {
			p.append(wireExec)
		}
	}
	if r.guarded || r.bare {
		ship(shipment{units: r.units, multi: true, checkpoint: !r.bare})
		return
	}
	for i, u := range r.units {
		ship(shipment{units: r.units[i : i+1], multi: u.count > 1})
		if r.careful {
			return
		}
	}
}

// receive reads the answers of one node. A connection that is lost leaves its runs with what was confirmed before.
func (w *worker) receive(p *parcel) (refusals []*RefusedError) {
	var applies tally
	defer func() { w.stat.count(applies) }()
	for i := range p.shipments {
		s := &p.shipments[i]
		answer, err := w.receiveOne(p.conn, s)
		r := s.run
		switch {
		case err != nil:
			if !r.failed {
				r.failed, r.verdict, r.reply = true, moved, err.Error()
			}
		case r.failed:
			// An earlier unit of the slot has to come first: this one will be sent again behind it.
		case answer.refused != nil:
			r.failed, r.verdict = true, refused
			refusals = append(refusals, answer.refused...)
		case answer.verdict == applied:
			r.confirm(len(s.units), p.conn)
			r.askAt = ""
			switch {
			case r.mark == nil:
				applies.add(s)
			case answer.missing:
				w.lostMark = true
			default:
				w.written[r.slot], w.present[r.slot] = *r.mark, true
				if r.mark.applied != markUnsent && w.wrote {
					w.stat.begun.Store(true)
				}
			}
		default:
			r.failed, r.verdict, r.reply = true, answer.verdict, answer.reply
			r.askAt = ""
			r.careful = r.careful || answer.verdict == asked || answer.verdict == split
			if answer.verdict == asked {
				r.askAt = redirect(answer.reply, p.conn.addr)
			}
		}
	}
	return refusals
}
