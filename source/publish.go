package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/source/spool"
)

const (
	commitBytes    = 1 << 20
	maxCommitBytes = 32 << 20
	// backlogBytes in the spool behind a commit make the next transaction larger.
	backlogBytes = 1 << 20
	// quietCommit is how often a position moves on without records (keep-alives of the master).
	quietCommit = 10 * time.Second
	// clockEvery is how many records may pass between two looks at the clock.
	clockEvery = 64
)

// publisher is a lane under one producer epoch. One goroutine; promises of the client come from another one and touch
// ends and failed alone.
type publisher struct {
	*lane
	cl   *kgo.Client
	work context.Context //nolint:containedctx // lives as long as the session, for the callbacks that have no other

	pos    offsets.Position // committed
	cur    event.Position   // behind the last event handed to the client
	slots  slot.Set         // of the generation
	em     emitter
	libs   libraries // of the snapshot
	in     interpreter
	ends   []atomic.Int64 // Kafka offset behind the last record of ours, by partition
	failed atomic.Pointer[error]

	admitted  bool // the budget has a transaction for us
	open      bool
	bytes     int
	records   int
	since     time.Time     // the open transaction
	ended     time.Time     // the last one
	markers   kafka.Markers // of the last one
	wrote     []bool
	chunks    []uint32 // records of the transaction that are chunks, by partition
	unitDB    uint32   // the database selected before the unit that is published
	asked     bool
	interval  time.Duration
	limit     int
	committed time.Time
	epoch     uint64
}

func newPublisher(work context.Context, l *lane, cl *kgo.Client, pos offsets.Position, attempt uint64) *publisher {
	n := int(l.topic.Partitions)
	p := &publisher{lane: l, cl: cl, work: work, pos: pos, cur: pos.Position, ends: make([]atomic.Int64, n), wrote: make([]bool, n), chunks: make([]uint32, n)}
	p.interval, p.limit, p.committed = l.cfg.CommitInterval, commitBytes, time.Now()
	p.em = emitter{topic: l.topic.Name, untimed: l.untimed, partitions: n, attempt: attempt, marks: make([]event.Mark, n), produce: p.produce, maxValue: l.topic.MaxMessageBytes - recordOverheadBytes}
	p.em.arena = arena{pieces: l.pieces, bytes: l.budget.arena, settle: p.promise}
	p.em.chunks, p.em.between = newChunkPool(min(p.em.maxValue, l.budget.chunk)), p.between
	for i, m := range pos.Marks {
		p.em.marks[i] = m
	}
	for i, end := range pos.Ends {
		p.ends[i].Store(end)
	}
	p.in.db, p.in.single, p.in.total = pos.DB, l.single, l.single && n == 1
	p.in.scripts = &l.scripts
	l.scripts.whole = false
	p.in.ask = func(args [][]byte) ([][]byte, error) { return l.ask(work, args) }
	if slots, err := slot.ParseSet(pos.Slots); err == nil {
		p.slots = slots
	}
	p.gate.stand(p.cur)
	if pos.Snapshot == nil {
		p.link.commit(p.cur, false)
	}
	return p
}

// stands takes over where the partitions end now: what a check at the next start has to read begins there.
func (p *publisher) stands(found logState) {
	p.pos.Ends = map[int32]int64{}
	for n, end := range found.ends {
		p.ends[n].Store(end)
		p.pos.Ends[n] = end
	}
}

// damaged gives up what the position says of the log, but for the number of the generation, which must be above every
// one that the log has seen. The next one begins the chain anew.
func (p *publisher) damaged(found logState) {
	p.broken = true
	clear(p.em.marks)
	p.pos.Generation = max(p.pos.Generation, found.generation)
}

// run publishes section by section, from the one numbered at or the first behind it.
func (p *publisher) run(ctx context.Context, at uint64) error {
	for ctx.Err() == nil {
		if p.broken {
			// Nothing is published before the next snapshot, which needs the room. A link that appends there takes one.
			if err := p.spool.Trim(spool.Place{Section: at}); err != nil {
				return err
			}
		}
		sec, err := p.spool.WaitSection(ctx, max(at, 1)-1)
		if err != nil {
			break
		}
		switch sec.Kind {
		case spool.Snapshot:
			err = p.snapshot(ctx, sec)
		case spool.Stream:
			err = p.section(ctx, sec)
		}
		if ClassOf(err) == Resync {
			// Whatever is in this section, it is not met again.
			p.passed = max(p.passed, sec.Number)
		}
		switch {
		case errors.Is(err, spool.ErrBroken):
			p.log.Warn("the snapshot was cut off, waiting for the next one")
			p.broken = true
		case err != nil && ctx.Err() == nil:
			return err
		case err != nil && !errors.Is(err, context.Cause(ctx)):
			return err
		}
		at = sec.Number + 1
	}
	return p.commit()
}

// section publishes one stretch of the stream, from where the lane stands.
func (p *publisher) section(ctx context.Context, sec spool.Section) error {
	if p.broken || p.pos.Snapshot != nil {
		p.log.Info("passing over a stretch of the stream, a snapshot follows", slog.Int64("offset", int64(sec.Offset)))
		return nil
	}
	if p.cur.Offset > sec.End() || !p.holds(sec) {
		return resync(fmt.Errorf("the stream goes on as %s at offset %d, the lane is at %s", sec.ReplID, sec.Offset, p.cur))
	}
	if p.cur.ReplID != sec.ReplID {
		// The lane may stand before the joint, in a unit that both histories share.
		p.em.begin(p.shard, p.pos.Generation, sec.ReplID)
		p.em.e.OldReplID = p.cur.ReplID
		p.em.control(event.HistoryChange, p.cur.Offset, p.cur.Offset, &p.slots)
		p.log.Info("the shard goes on under another replication ID", slog.String("old", p.cur.ReplID.String()), slog.String("new", sec.ReplID.String()), slog.Int64("offset", int64(sec.Offset)))
		p.cur.ReplID = sec.ReplID
		if err := p.commit(); err != nil {
			return err
		}
		p.gate.move(p.cur)
	}
	p.em.begin(p.shard, p.pos.Generation, sec.ReplID)
	return p.stream(ctx, sec)
}

// stream publishes units until the section ends (nil), or ctx is done and what was read is committed.
func (p *publisher) stream(ctx context.Context, sec spool.Section) error {
	reader := p.unitsAt(sec)
	for {
		var empty bool
		if err := p.admit(); err != nil {
			return err
		}
		closed, err := p.gate.pass(func(epoch uint64) (event.Position, error) {
			if epoch != p.epoch {
				p.epoch = epoch
				reader = p.unitsAt(sec)
			}
			var err error
			empty, err = p.burst(ctx, reader)
			return p.cur, err
		})
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, spool.ErrGone) || errors.Is(err, spool.ErrDamaged) {
			return resync(err)
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(p.commit(), context.Cause(ctx))
		}
		if err := p.commitIfDue(empty || closed != nil); err != nil {
			return err
		}
		switch {
		case closed != nil:
			err = waitFor(ctx, closed)
		case empty:
			err = p.spool.Wait(ctx, reader.src.Place())
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (p *publisher) unitsAt(sec spool.Section) *unitReader {
	r := newUnitReader(p.bytesFrom(sec, p.cur.Offset), p.cur.Offset, p.cfg.MaxUnitBytes)
	r.room = p.budget.buffer
	r.reopen = func(at event.Offset) unitBytes { return p.bytesFrom(sec, at) }
	return r
}

// holds tells whether the section, with those that it goes on from, holds what comes behind the lane.
func (p *publisher) holds(sec spool.Section) bool {
	sections := p.spool.Sections()
	i := slices.IndexFunc(sections, func(s spool.Section) bool { return s.Number == sec.Number })
	return i >= 0 && holds(sections[:i+1], p.cur.Offset)
}

// bytesFrom reads the section from an offset on. That may be in a section before it, if a unit lies in both.
func (p *publisher) bytesFrom(sec spool.Section, at event.Offset) unitBytes {
	if at >= sec.Offset {
		return p.spool.Reader(spool.Place{Section: sec.Number, Byte: int64(at - sec.Offset)})
	}
	j := &joined{tail: p.spool.Reader(spool.Place{Section: sec.Number})}
	for _, s := range p.spool.Sections() {
		if s.Number < sec.Number && s.Kind == spool.Stream && s.End() > at {
			j.heads = append(j.heads, p.spool.Reader(spool.Place{Section: s.Number, Byte: max(0, int64(at-s.Offset))}))
		}
	}
	return j
}

// burst publishes units until a commit is due, or nothing more is there.
func (p *publisher) burst(ctx context.Context, reader *unitReader) (empty bool, err error) {
	for n := 0; ; n++ {
		if n%clockEvery == 0 {
			p.em.tick()
			if n > 0 && p.late(ctx) {
				return false, nil
			}
		}
		u, err := reader.next()
		if errors.Is(err, spool.ErrEmpty) {
			return true, nil
		}
		if err == nil {
			err = p.unit(u)
		}
		if err != nil {
			return false, err
		}
		if p.bytes >= p.limit || p.asked {
			return false, nil
		}
	}
}

func (p *publisher) late(ctx context.Context) bool {
	return p.open && time.Since(p.since) >= p.interval || ctx.Err() != nil
}

func (p *publisher) unit(u *streamUnit) error {
	p.unitDB = p.in.db
	m, err := p.in.interpret(u)
	if err != nil {
		return err
	}
	for i := range m.parts {
		if s := m.parts[i].slot; !p.slots.Has(s) {
			return stop(fmt.Errorf("slot %d came to shard %d while it is replicated: slots that move at the source are not followed yet; when the move is done, restart the source with a new snapshot", s, p.shard))
		}
	}
	switch {
	case m.flush:
		p.em.controlOf(event.Flush, u.begin, u.end, &p.slots, m.flushed)
	case m.libs.count > 0:
		p.em.functions(u.begin, u.end, &m.libs, &p.slots)
	case len(m.parts) > 0:
		p.em.unit(u, m.parts)
	}
	if u.large {
		p.in.forget()
		p.em.e.Key, p.em.e.Commands = nil, nil
	}
	p.asked = p.asked || m.asked
	p.cur.Offset = u.end
	return nil
}
