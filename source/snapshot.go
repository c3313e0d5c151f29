package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/source/spool"
)

// snapshot publishes a generation: its reservation, its entries, its end. A generation that was interrupted while its
// bytes are in the spool goes on behind its last committed entry.
func (p *publisher) snapshot(ctx context.Context, sec spool.Section) error {
	var skip uint64
	if s := p.pos.Snapshot; s != nil && !p.broken && sec.Number == p.resumable {
		skip = s.Entries
		p.em.begin(p.shard, p.pos.Generation, sec.ReplID)
	} else if err := p.reserve(sec); err != nil {
		return err
	}
	p.log.Info("publishing snapshot", slog.Any("generation", uint32(p.pos.Generation)), slog.Int64("offset", int64(sec.Offset)), slog.Any("entries_committed", skip))
	if err := p.entries(ctx, sec, skip); err != nil {
		return err
	}
	return p.complete(sec)
}

// reserve commits the number of the generation before anything of it, so that no two attempts ever share one.
func (p *publisher) reserve(sec spool.Section) error {
	if err := p.commit(); err != nil {
		return err
	}
	p.slots = p.owned()
	if p.slots.IsEmpty() {
		return fmt.Errorf("begin generation of shard %d: its master serves no slots", p.shard)
	}
	next := p.pos
	next.Generation++
	next.Shard = p.shard
	next.Slots = p.slots.String()
	next.Snapshot, next.Renew = &offsets.Progress{}, false
	p.cur = event.Position{ReplID: sec.ReplID, Offset: sec.Offset}
	next.Position = p.cur
	p.in.db = 0
	p.em.begin(p.shard, next.Generation, sec.ReplID)
	p.em.control(event.SnapshotBegin, sec.Offset, sec.Offset, &p.slots)
	if err := p.commitAs(next, nil); err != nil {
		return err
	}
	p.resumable, p.begins = sec.Number, map[int32]int64{}
	for _, n := range p.pos.Wrote {
		// The reservation is one record in each partition.
		p.begins[n] = p.ends[n].Load() - 1
	}
	p.broken = false
	return nil
}

// pieceBytes is from when on a value is published while it is still being read.
const pieceBytes = 256 << 10

// passage is one reading of a snapshot.
type passage struct {
	p       *publisher
	ctx     context.Context //nolint:containedctx // of the reading under way: the callbacks have no other place for it
	sec     spool.Section
	bytes   *snapshotBytes
	reader  *rdb.Reader
	skip, n uint64 // entries that are committed already, and that were met
	err     error  // of publishing, from inside the reader
}

// entries publishes the keys of the RDB behind the first skip ones, up to the end and its checksum.
func (p *publisher) entries(ctx context.Context, sec spool.Section, skip uint64) error {
	s := &passage{p: p, ctx: ctx, sec: sec, skip: skip}
	s.bytes = &snapshotBytes{p: p, ctx: ctx, r: p.spool.Reader(spool.Place{Section: sec.Number}), idle: s.idle}
	s.reader = rdb.NewReader(s.bytes, rdb.Config{MaxValueBytes: int64(p.cfg.MaxUnitBytes), PieceBytes: pieceBytes, OnPiece: s.piece})
	defer p.em.dropCut()
	p.libs.reset()
	p.scripts.begin()
	for {
		item, err := s.reader.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		switch {
		case s.err != nil:
			return s.err
		case err != nil:
			return p.snapshotError(ctx, sec, err)
		}
		if err := s.item(&item); err != nil {
			return err
		}
		if p.bytes >= maxCommitBytes || s.n%clockEvery == 0 && p.full() {
			if err := s.progress(); err != nil {
				return err
			}
		}
	}
}

func (s *passage) item(item *rdb.Item) error {
	p := s.p
	switch item.Kind {
	case rdb.KindEntry:
		e := &item.Entry
		if !p.carries(e) {
			return nil
		}
		switch s.n++; {
		case s.n <= s.skip:
		case e.Handed > 0:
			p.em.endEntry(e.Value)
		default:
			p.describe(e, s.reader.Version(), s.sec)
			p.em.entry()
		}
	case rdb.KindAux:
		if string(item.Aux.Key) == "lua" {
			p.scripts.learn(item.Aux.Value)
		}
		if string(item.Aux.Key) == "repl-stream-db" {
			if db, err := strconv.ParseUint(string(item.Aux.Value), 10, 31); err == nil {
				p.in.db = uint32(db)
			}
		}
	case rdb.KindFunction:
		code, err := rdb.Text(item.Function)
		if err != nil {
			return p.snapshotError(s.ctx, s.sec, err)
		}
		return p.libs.load(code)
	case rdb.KindModuleAux:
		return p.moduleAux(item.ModuleAux, s.sec)
	default: // sizes and slots: hints that nothing here needs
	}
	return nil
}

// piece takes a part of a large value. Where it does not fit a transaction, it is committed without being counted: an
// interruption has the entry published again from its beginning.
func (s *passage) piece(e *rdb.Entry, piece []byte) error {
	p := s.p
	if !p.carries(e) || s.n+1 <= s.skip {
		return nil
	}
	if e.Handed == 0 {
		p.describe(e, s.reader.Version(), s.sec)
		p.em.beginEntry()
	}
	p.em.moreOfEntry(piece)
	if p.full() {
		s.err = s.progress()
	}
	return s.err
}

// progress commits what is published and lets go of it if need be.
func (s *passage) progress() error {
	if err := s.p.progress(max(s.n, s.skip)); err != nil {
		return err
	}
	if err := s.p.admit(); err != nil {
		return err
	}
	if err := s.p.relieve(spool.Place{Section: s.sec.Number, Byte: s.reader.Consumed()}); err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return nil
}

// idle is called when no transaction may stay open while more bytes are waited for, and again when none is: the spool may
// be full of what is read already, and then none come.
func (s *passage) idle() error {
	s.err = s.progress()
	return s.err
}

// carries: a node's RDB may hold keys of slots that it does not own (half-moved ones, orphans); their owner publishes
// them. Keys of a sink that writes to this cluster never travel.
func (p *publisher) carries(e *rdb.Entry) bool {
	return p.slots.Has(slot.Of(e.Key)) && !own.Is(e.Key)
}

// describe fills in an entry's event.
func (p *publisher) describe(item *rdb.Entry, version int, sec spool.Section) {
	e := &p.em.e
	e.Begin, e.End = sec.Offset, sec.Offset
	e.Slot, e.DB, e.Key = slot.Of(item.Key), uint32(item.DB), item.Key
	e.Type, e.Value, e.RDBVersion = item.Type, item.Value, uint16(version)
	e.ExpireAtMs, e.IdleSeconds, e.Freq = item.ExpireAtMs, item.Idle, int16(item.Freq)
	if p.records%clockEvery == 0 {
		p.em.captured(0)
	}
}

func (p *publisher) snapshotError(ctx context.Context, sec spool.Section, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s, ok := p.spool.Section(sec.Number); errors.Is(err, spool.ErrBroken) || ok && s.Broken {
		return spool.ErrBroken
	}
	if errors.Is(err, spool.ErrGone) {
		return resync(err)
	}
	err = fmt.Errorf("read snapshot of shard %d: %w", p.shard, err)
	if unsupported, ok := errors.AsType[*rdb.UnsupportedError](err); ok {
		return stop(fmt.Errorf("%w: this version cannot carry %s", err, unsupported.What))
	}
	if errors.Is(err, rdb.ErrValueTooLarge) {
		return stop(fmt.Errorf("%w: raise unit.max.bytes", err)) // a key or a library: values are cut
	}
	return resync(err)
}

// progress commits the entries so far.
func (p *publisher) progress(entries uint64) error {
	if !p.open {
		return nil
	}
	next := p.pos
	next.Snapshot = &offsets.Progress{Entries: entries}
	if err := p.commitAs(next, nil); err != nil {
		return err
	}
	p.status.update(func(s *Snapshot) { s.SnapshotEntries, s.Entries = entries, entries })
	return nil
}

// relieve trims a snapshot that fills the spool: better to need a new generation after an interruption than to stop
// reading from the master now.
func (p *publisher) relieve(at spool.Place) error {
	if p.spool.Bytes() < p.spool.Capacity()/4*3 {
		return nil
	}
	return p.spool.Trim(at)
}

// complete commits the end, and the boundary where consumers may start.
func (p *publisher) complete(sec spool.Section) error {
	var entries uint64
	for i := range p.em.marks {
		if m := &p.em.marks[i]; m.Snapshot && m.Generation == p.pos.Generation {
			entries += m.Number
		}
	}
	p.em.control(event.SnapshotEnd, sec.Offset, sec.Offset, &p.slots)
	p.em.functionsOfSnapshot(sec.Offset, &p.libs, &p.slots)
	next := p.pos
	next.Position, next.DB, next.Snapshot = p.cur, p.in.db, nil
	b := offsets.Boundary{
		Shard: p.shard, Generation: p.pos.Generation, Position: p.cur,
		Begin: p.begins, Entries: entries, TimeMs: time.Now().UnixMilli(), TopicID: p.topic.ID,
	}
	if err := p.commitAs(next, &b); err != nil {
		return err
	}
	p.gate.move(p.cur)
	p.link.commit(p.cur, true)
	p.status.update(func(s *Snapshot) { s.Entries = entries })
	p.log.Info("snapshot published", slog.Any("generation", uint32(p.pos.Generation)), slog.Any("entries", entries))
	return p.spool.Trim(spool.Place{Section: sec.Number + 1})
}

// snapshotBytes makes the spool a blocking reader. While it waits for the master, what was read is committed.
type snapshotBytes struct {
	p    *publisher
	ctx  context.Context //nolint:containedctx // of the read under way: io.Reader has no other place for it
	r    *spool.Reader
	idle func() error
	// gaveWay is how long it has waited for snapshots to arrive.
	gaveWay time.Duration
}

func (s *snapshotBytes) Read(b []byte) (int, error) {
	if err := s.giveWay(); err != nil {
		return 0, err
	}
	for {
		n, err := s.r.Read(b)
		if n > 0 || !errors.Is(err, spool.ErrEmpty) {
			return n, err
		}
		if err := s.wait(); err != nil {
			return 0, err
		}
	}
}

// wait waits for more bytes. No transaction stays open meanwhile for longer than the interval.
func (s *snapshotBytes) wait() error {
	ctx := s.ctx
	if s.p.open {
		rest := s.p.cfg.MaxCommitInterval - time.Since(s.p.since)
		if rest <= 0 {
			return s.idle()
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(s.ctx, rest)
		defer cancel()
	} else if err := s.idle(); err != nil {
		return err
	}
	if err := s.p.spool.Wait(ctx, s.r.Place()); err != nil && s.ctx.Err() != nil {
		return err
	}
	return nil
}
