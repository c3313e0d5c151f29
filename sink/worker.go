package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

// worker brings one partition to the target for as long as it is ours. One goroutine, run, owns all its fields but those
// marked otherwise, and with them the order of the partition.
type worker struct {
	s         *Sink
	partition int32
	slots     slot.Range
	log       *slog.Logger
	stat      *partitionStat // atomic

	// soft ends when no new batch may be begun, hard when nothing may be sent any more. Both are the partition's life, not a
	// call's.
	soft, hard context.Context //nolint:containedctx // see above
	done       chan struct{}   // closed when run has returned
	warned     time.Time

	// connMu guards the map conns for abort.
	connMu   sync.Mutex
	conns    map[string]*conn
	shape    shape
	holdings []holding
	owner    []uint16 // the holding of each slot, counted from the partition's first
	epoch    int64
	target   target // what the nodes can load
	whole    bool   // what is applied is done again as a whole after a lost connection: begin is, and a sweep
	// importChecked is when the nodes were last seen to be in import mode.
	importChecked time.Time
	overdueTold   time.Time
	looks         bool // it will never write
	// fences are what we raised, by the slot they lie in.
	fences map[slot.Slot]int64
	// written are the watermarks that the target has acknowledged, by slot.
	written map[slot.Slot]watermark
	// present are the slots in which a watermark was seen or written.
	present map[slot.Slot]bool
	// stale are watermarks under names of an earlier topology, to be removed when the present ones are written.
	stale []slot.Slot
	// lostMark: a watermark that should have been there was not.
	lostMark  bool
	marksDue  bool
	marksTime time.Time
	looked    time.Time // at the watermarks, while idle

	// leaving are shards that are gone and have left something open, with the end of the log as of then.
	leaving  map[event.Shard]int64
	released time.Time

	in    *intake
	queue *queue
	batch batch // the present one: the next is made when it is applied
	crowd crowd // of guarded units
	// ownKey and ownText are memory for a checkpoint that is written.
	ownKey, ownText []byte
	// bad is the error of the record behind the last batch.
	bad error
	// at is behind what was taken from the queue. next: everything below it is applied; lower than at while slots are set
	// aside.
	at, next int64
	aside    aside
	// wrote: something of the log has been brought to the target. Watermarks before that vouch for nothing, and a target that
	// loses them has lost nothing.
	wrote bool
	// window is the end of the unknown window, refused the units in it that are known to have been refused, in order.
	window  int64
	refused []int64
}

func newWorker(s *Sink, partition int32) *worker {
	w := &worker{
		s: s, partition: partition, slots: slot.PartitionRange(partition, int(s.topic.Partitions)),
		log: s.log.With(slog.Int("partition", int(partition))), stat: s.statOf(partition), done: make(chan struct{}),
		conns: map[string]*conn{}, leaving: map[event.Shard]int64{},
	}
	w.batch.first = w.slots.First
	return w
}

const (
	markInterval = time.Second
	// idleLook is a little less than two of them. Servers are configured to drop connections that are silent.
	idleLook      = 1900 * time.Millisecond
	maxFenced     = 5
	warnInterval  = 10 * time.Second
	fencedForgive = time.Minute
	spillPause    = 10 * time.Second
)

// run is the life of a partition. It returns an error of class Stop only; a partition that was taken away is no error.
func (w *worker) run(soft, hard context.Context) error {
	defer close(w.done)
	defer w.disconnect()
	defer w.dropIntake()
	defer w.s.feed.close(w.partition)
	w.soft, w.hard = soft, hard
	defer context.AfterFunc(hard, w.abort)()
	var fenced []time.Time
	for attempt := 0; ; attempt++ {
		if soft.Err() != nil {
			w.stat.setState(StateStopped)
			return nil
		}
		w.stat.setState(StateStarting)
		started := time.Now()
		err := w.live(hard)
		if soft.Err() != nil || hard.Err() != nil {
			w.stat.setState(StateStopped)
			return nil
		}
		w.stat.setError(err)
		switch classOf(err) {
		case Stop:
			w.stat.setState(StateFailed)
			return err
		case Fenced:
			fenced = append(fenced, time.Now())
			if len(fenced) > maxFenced && time.Since(fenced[len(fenced)-maxFenced-1]) < fencedForgive {
				w.stat.setState(StateFailed)
				return classed(Stop, "keep partition %d: another sink called %s keeps taking it over, and it is not in this group (%w)", w.partition, w.s.cfg.Name, err)
			}
			w.log.Warn("partition was taken over by another worker", slog.Any("error", err))
		case Resync:
			w.log.Warn("partition starts again from the target's own records", slog.Any("error", err))
			if _, ok := errors.AsType[*SpillError](err); ok {
				select { // reading a snapshot again is dear
				case <-soft.Done():
				case <-hard.Done():
				case <-time.After(spillPause):
				}
			}
		default:
			w.warn("it has to start again", err)
		}
		w.stat.setState(StateWaiting)
		if time.Since(started) > maxPause {
			attempt = 0
		}
		if w.pause(hard, attempt) != nil {
			return nil
		}
	}
}

// warn logs a passing trouble, not more often than one can read.
func (w *worker) warn(what string, err error) {
	w.stat.setError(err)
	if time.Since(w.warned) > warnInterval {
		w.warned = time.Now()
		w.log.Warn("partition waits", slog.String("because", what), slog.Any("error", err))
	}
}

func (w *worker) trouble(r *run) {
	if r.reply != "" {
		w.warn("the target does not take a write now", fmt.Errorf("slot %d: %s", r.slot, r.reply))
	}
}

// live starts the partition and then applies batch after batch.
func (w *worker) live(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	w.stat.setState(StateRunning)
	look := time.NewTimer(untilLook(time.Now()))
	defer look.Stop()
	for {
		if w.aside.due() {
			if err := w.retryAside(ctx); err != nil {
				return err
			}
		}
		if time.Since(w.released) > w.s.releaseInterval {
			if err := w.release(ctx); err != nil {
				return err
			}
		}
		b, err := w.gather()
		if err != nil {
			return err
		}
		if b == nil {
			select {
			case <-w.soft.Done():
				return w.leave(ctx)
			case <-w.queue.ready:
			case <-look.C:
				if err := w.idle(ctx); err != nil {
					return err
				}
				look.Reset(untilLook(time.Now()))
			}
			continue
		}
		if err := w.linger(b); err != nil {
			return err
		}
		err = w.applyBatch(ctx, b)
		b.reset(w.at, !w.aside.empty())
		if err != nil {
			return err
		}
		if w.soft.Err() != nil {
			return w.leave(ctx)
		}
	}
}

// untilLook is the time until idle partitions look after the target: all of them at once, so that a process with nothing to
// do wakes once.
func untilLook(now time.Time) time.Duration {
	return now.Truncate(markInterval).Add(markInterval).Sub(now)
}

// applyBatch brings a batch to the target, and carries out the control event that ends it.
func (w *worker) applyBatch(ctx context.Context, b *batch) error {
	if err := w.bury(ctx, b.dead); err != nil {
		return err
	}
	if err := w.checkImport(); err != nil {
		return err
	}
	if err := w.checkEviction(false); err != nil {
		return err
	}
	if runs := w.free(b.runs); len(runs) > 0 {
		runs = append(w.markRuns(b.sent(), w.touched(b)), runs...)
		if err := w.applyOrSetAside(ctx, runs, b.sent()); err != nil {
			return err
		}
	}
	if b.then != nil {
		// The control event itself is not applied yet: a crash in it has to meet it again.
		w.at = max(w.at, b.then.offset)
		l := b.then.large
		if l == nil || w.aside.has(l.slot) {
			if err := w.awaitAside(ctx); err != nil {
				return err
			}
		}
		w.next = w.aside.lowest(w.at)
		if l != nil && !l.done { // a connection that is lost in it starts nothing again if the target vouches for all before
			if err := w.apply(ctx, w.markRuns(b.sent(), w.firsts()), b.sent()); err != nil {
				return err
			}
		}
		if err := w.carryOut(ctx, b.then); err != nil {
			return err
		}
		w.in.finished(b.then)
	}
	w.wrote = w.wrote || len(b.runs) > 0 || b.then != nil
	w.at = b.next
	w.settle()
	w.refused = slices.DeleteFunc(w.refused, func(o int64) bool { return o < w.next })
	return nil
}

// plan reads what the target says and decides where to start.
func (w *worker) plan(ctx context.Context) (startPlan, []slot.Slot, error) {
	in := startInput{
		topic: w.s.topic.Name, topicID: w.s.topic.ID, partition: w.partition, slots: w.slots, owner: w.ownerOf, group: GroupName(w.s.cfg.Name),
		hold: w.s.cfg.ExpiryHold, single: w.shape.single, databases: w.shape.databases(),
	}
	err := w.s.sameTopic(ctx, w.partition)
	if err != nil {
		return startPlan{}, nil, err
	}
	if in.checkpoints, in.watermarks, err = w.readOwn(); err != nil {
		return startPlan{}, nil, err
	}
	if in.logBegin, in.logEnd, err = w.s.logBounds(ctx, w.partition); err != nil {
		return startPlan{}, nil, err
	}
	begun := false
	for _, m := range in.watermarks {
		begun = begun || m.applied >= 0
	}
	if !begun {
		if in.boundaries, in.unready, err = w.s.boundaries(ctx, w.partition); err != nil {
			return startPlan{}, nil, err
		}
	}
	if len(in.watermarks) == 0 {
		if in.filled, err = w.wasFilled(ctx); err != nil {
			return startPlan{}, nil, err
		}
	}
	w.stat.end.Store(in.logEnd)
	plan, err := decideStart(in)
	if lost, ok := errors.AsType[*LostError](err); ok && w.s.cfg.LogLost == LogLostSnapshot {
		if in.boundaries, in.unready, err = w.s.boundaries(ctx, w.partition); err != nil {
			return startPlan{}, nil, err
		}
		plan, err = decideAnew(in, lost)
	}
	if err != nil {
		return startPlan{}, nil, err
	}
	if !plan.moved.IsEmpty() {
		w.log.Warn("slots were moved while no sink ran: writes that a failover of their new node took back cannot be seen", slog.String("slots", plan.moved.String()))
	}
	first := map[slot.Slot]bool{}
	for _, s := range w.firsts() {
		first[s] = true
	}
	var stale []slot.Slot
	w.present = map[slot.Slot]bool{}
	for s := range in.watermarks {
		w.present[s] = true
		if !first[s] {
			stale = append(stale, s)
		}
	}
	return plan, stale, nil
}

// wasFilled tells whether the sink has written to the partition at some time. Commits are made only behind the first watermark
// that says so.
func (w *worker) wasFilled(ctx context.Context) (bool, error) {
	if w.stat.begun.Load() {
		return true, nil
	}
	group := GroupName(w.s.cfg.Name)
	commits, err := w.s.adm.FetchOffsets(ctx, group)
	if err != nil {
		return false, fmt.Errorf("read commits of group %s: %w", group, err)
	}
	c, ok := commits.Lookup(w.s.topic.Name, w.partition)
	return ok && c.Err == nil && c.At > 0, nil
}

// adopt starts reading as planned.
func (w *worker) adopt(p startPlan, stale []slot.Slot) {
	if p.lost != nil {
		w.log.Warn("the log no longer reaches back: the partition starts at the newest snapshot, whose sweep removes what is gone", slog.Any("lost", p.lost))
	}
	w.log.Info("partition starts", slog.Int64("offset", p.offset), slog.Bool("new", p.isNew),
		slog.Int64("window_end", p.window), slog.Int64("epoch", w.epoch))
	w.dropIntake()
	w.in = newIntake(w.partition, int(w.s.topic.Partitions), limits{w.s.batchBytes(), w.s.cfg.BatchUnits, w.s.cfg.ExpiryHold.Milliseconds()}, w.s.cfg.MaxEventBytes, w.newSeenStore(), p)
	w.in.sweeps = w.s.cfg.sweeps
	w.in.values = w.newValues()
	w.in.shape = w.shape
	if w.s.cfg.Overdue == OverdueAccept {
		w.in.accept = w.acceptOverdue
	}
	w.at, w.next, w.window, w.refused = p.offset, p.offset, p.window, slices.Clone(p.refused)
	w.aside = aside{}
	w.stale, w.marksDue, w.bad = stale, true, nil
	w.stat.begun.Store(!p.isNew)
	w.wrote = !p.isNew
	w.stat.applied.Store(w.next)
	w.stat.restart.Store(w.next)
	w.queue = w.s.feed.open(w.partition, p.offset, &w.stat.end)
}

// newSeenStore is for the fingerprints of this partition's keys: all partitions could be ours.
func (w *worker) newSeenStore() *seenStore {
	st := newSeenStore(w.s.cfg.SweepMemoryBytes/int(w.s.topic.Partitions), w.s.cfg.DataDir)
	st.pulse = w.mayWork
	return st
}

func (w *worker) dropIntake() {
	if w.in != nil {
		w.in.close()
	}
}

// acceptOverdue announces what is done about writes that come too late, now and then.
func (w *worker) acceptOverdue(err *OverdueError) {
	if time.Since(w.overdueTold) < overdueInterval {
		return
	}
	w.overdueTold = time.Now()
	w.log.Warn("writes come later than expiry times are held: keys may be missing at the target, have redriver verify look for them",
		slog.Int64("offset", err.Offset), slog.Duration("late", err.Late), slog.Duration("hold", err.Hold))
}

const overdueInterval = time.Minute
