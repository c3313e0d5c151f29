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

	open      bool
	bytes     int
	records   int
	since     time.Time
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
	p.em = emitter{topic: l.topic.Name, partitions: n, attempt: attempt, marks: make([]event.Mark, n), produce: p.produce, maxValue: l.topic.MaxMessageBytes - recordOverheadBytes}
	p.em.chunks, p.em.between = newChunkPool(min(p.em.maxValue, maxChunkBytes)), p.between
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
		p.gate.stand(p.cur)
	}
	p.em.begin(p.shard, p.pos.Generation, sec.ReplID)
	return p.stream(ctx, sec)
}

// stream publishes units until the section ends (nil), or ctx is done and what was read is committed.
func (p *publisher) stream(ctx context.Context, sec spool.Section) error {
	reader := p.unitsAt(sec)
	for {
		var empty bool
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
	for n := 1; ; n++ {
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
		if p.bytes >= p.limit || p.asked || n%clockEvery == 0 && p.late(ctx) {
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

// between commits what there is of a large unit: its position is the one before the unit, so that an interruption has it
// published again from its beginning.
func (p *publisher) between() {
	if p.failed.Load() != nil || !p.full() {
		return
	}
	next := p.pos
	next.Position, next.DB = p.cur, p.unitDB
	if err := p.commitAs(next, nil); err != nil {
		p.failed.CompareAndSwap(nil, &err)
	}
}

// full tells whether the transaction should not grow any more.
func (p *publisher) full() bool {
	return p.bytes >= maxCommitBytes || p.open && time.Since(p.since) >= p.cfg.MaxCommitInterval
}

// produce hands a record to the client, inside a transaction. A piece of an event may end the one before: an event may
// be larger than a transaction.
func (p *publisher) produce(r *kgo.Record, chunk []byte, part bool) {
	promise := p.promise
	if chunk != nil {
		promise = func(r *kgo.Record, err error) {
			p.promise(r, err)
			p.em.chunks.put(chunk, err)
		}
	}
	if !p.begin() {
		promise(r, *p.failed.Load())
		return
	}
	p.bytes += len(r.Key) + len(r.Value)
	p.records++
	p.wrote[r.Partition] = true
	if part {
		p.chunks[r.Partition]++
	}
	p.cl.Produce(p.work, r, promise)
}

func (p *publisher) begin() bool {
	if p.failed.Load() != nil {
		return false
	}
	if !p.open {
		if err := p.cl.BeginTransaction(); err != nil {
			err = fmt.Errorf("begin transaction: %w", err)
			p.failed.Store(&err)
			return false
		}
		p.open, p.since = true, time.Now()
	}
	return true
}

// promise: the client commits what succeeded, so one failed record has to fail the whole transaction.
func (p *publisher) promise(r *kgo.Record, err error) {
	if err != nil {
		err = fmt.Errorf("produce to %s/%d: %w", r.Topic, r.Partition, err)
		p.failed.CompareAndSwap(nil, &err)
		return
	}
	if r.Topic == p.topic.Name {
		p.ends[r.Partition].Store(r.Offset + 1)
	}
}

func (p *publisher) commitIfDue(idle bool) error {
	due := p.bytes >= p.limit || idle || time.Since(p.since) >= p.interval
	if p.open && due || p.asked || !p.open && p.cur != p.pos.Position && time.Since(p.committed) >= quietCommit {
		return p.commit()
	}
	return nil
}

// commit ends the transaction with the lane's position. Without anything new it does nothing.
func (p *publisher) commit() error {
	if !p.open && p.cur == p.pos.Position {
		p.asked = false
		if p.pos.Snapshot == nil {
			p.link.commit(p.cur, true)
		}
		return nil
	}
	next := p.pos
	next.Position, next.DB = p.cur, p.in.db
	return p.commitAs(next, nil)
}

func (p *publisher) commitAs(next offsets.Position, b *offsets.Boundary) error {
	// The budget is shared by all lanes of the worker; waiting for it gathers more in the spool.
	if err := p.cfg.Commits.Wait(p.work); err != nil {
		return fmt.Errorf("wait for the budget of transactions: %w", err)
	}
	next.TopicID, next.TimeMs = p.topic.ID, time.Now().UnixMilli()
	next.Marks, next.Ends, next.Wrote, next.Chunks = map[int32]event.Mark{}, map[int32]int64{}, nil, map[int32]uint32{}
	for i := range p.em.marks {
		if p.em.marks[i].Generation > 0 {
			next.Marks[int32(i)] = p.em.marks[i]
			next.Ends[int32(i)] = p.pos.Ends[int32(i)]
		}
		if p.wrote[i] {
			next.Wrote = append(next.Wrote, int32(i))
		}
		if p.chunks[i] > 0 {
			next.Chunks[int32(i)] = p.chunks[i]
		}
	}
	if b != nil {
		if err := p.offsetsRecord(offsets.BoundaryRecord(p.cfg.Connector, *b)); err != nil {
			return err
		}
	}
	if err := p.offsetsRecord(offsets.PositionRecord(p.cfg.Connector, next)); err != nil {
		return err
	}
	if err := p.cl.Flush(p.work); err != nil {
		return fmt.Errorf("flush transaction: %w", err)
	}
	if err := p.failed.Load(); err != nil {
		return fmt.Errorf("commit transaction: %w", *err)
	}
	if err := p.cl.EndTransaction(p.work, kgo.TryCommit); err != nil {
		// Whether it was committed is unknown: the next session fences, and reads it from the topic.
		return fmt.Errorf("end transaction: %w", err)
	}
	return p.afterCommit(next)
}

func (p *publisher) offsetsRecord(key, value []byte, err error) error {
	if err != nil {
		return stop(err)
	}
	if !p.begin() {
		return *p.failed.Load()
	}
	r := &kgo.Record{Topic: offsets.Topic(p.cfg.Prefix), Partition: offsets.LanePartition(p.shard), Key: key, Value: value}
	p.cl.Produce(p.work, r, p.promise)
	return nil
}

func (p *publisher) afterCommit(next offsets.Position) error {
	ends := p.pos.Ends
	p.pos = next
	p.pos.Ends = ends
	for i := range p.ends {
		ends[int32(i)] = p.ends[i].Load()
	}
	entries := next.Snapshot != nil
	p.status.update(func(s *Snapshot) {
		s.Commits++
		s.LastCommit, s.Committed, s.Generation = time.Now(), next.Position, next.Generation
		s.LastError = ""
		s.NotCarried += p.in.dropped
		s.MadeAbsolute += p.in.absolute
		if !entries {
			s.Units += uint64(p.records)
		}
	})
	if p.in.dropped > 0 && !p.droppedTold {
		p.droppedTold = true
		p.log.Info("the stream has messages or scripts, which are not carried (PUBLISH, SCRIPT)")
	}
	p.in.dropped, p.in.absolute = 0, 0
	p.open, p.bytes, p.records, p.committed = false, 0, 0, time.Now()
	clear(p.wrote)
	clear(p.chunks)
	if p.spool.Bytes() > backlogBytes {
		p.interval, p.limit = min(2*p.interval, p.cfg.MaxCommitInterval), min(2*p.limit, maxCommitBytes)
	} else {
		p.interval, p.limit = p.cfg.CommitInterval, commitBytes
	}
	if !entries {
		// A snapshot's offset vouches for all that it holds, so it is acknowledged with its end.
		p.link.commit(p.cur, p.asked)
	}
	p.asked = false
	return p.trim()
}

// trim lets go of what is committed. A snapshot is kept whole until its end is committed, so that an aborted transaction
// can be published again, unless the spool runs full.
func (p *publisher) trim() error {
	if p.pos.Snapshot != nil {
		return nil
	}
	for _, s := range p.spool.Sections() {
		if s.Kind == spool.Stream && s.ReplID == p.cur.ReplID && s.Offset <= p.cur.Offset && p.cur.Offset <= s.End() {
			return p.spool.Trim(spool.Place{Section: s.Number, Byte: int64(p.cur.Offset - s.Offset)})
		}
	}
	return nil
}
