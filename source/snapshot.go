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
	next.Snapshot = &offsets.Progress{}
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

// entries publishes the keys of the RDB behind the first skip ones, up to the end and its checksum.
func (p *publisher) entries(ctx context.Context, sec spool.Section, skip uint64) error {
	src := &snapshotBytes{p: p, ctx: ctx, r: p.spool.Reader(spool.Place{Section: sec.Number})}
	reader := rdb.NewReader(src, rdb.Config{MaxValueBytes: int64(p.cfg.MaxUnitBytes)})
	var n uint64
	src.done = func() uint64 { return max(n, skip) }
	for {
		item, err := reader.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return p.snapshotError(ctx, sec, err)
		}
		switch item.Kind {
		case rdb.KindEntry:
			if !p.carries(&item.Entry) {
				continue
			}
			if n++; n > skip {
				p.entry(&item.Entry, reader.Version(), sec)
			}
		case rdb.KindAux:
			if string(item.Aux.Key) == "repl-stream-db" {
				if db, err := strconv.ParseUint(string(item.Aux.Value), 10, 31); err == nil {
					p.in.db = uint32(db)
				}
			}
		case rdb.KindFunction, rdb.KindModuleAux:
			return stop(fmt.Errorf("publish snapshot of shard %d: it holds a %s, which this version does not carry: remove it at the source", p.shard, item.Kind))
		default: // sizes and slots: hints that nothing here needs
		}
		if p.bytes >= maxCommitBytes || n%clockEvery == 0 && p.open && time.Since(p.since) >= p.cfg.MaxCommitInterval {
			if err := p.progress(max(n, skip)); err != nil {
				return err
			}
			if err := p.relieve(spool.Place{Section: sec.Number, Byte: reader.Consumed()}); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
}

// carries: a node's RDB may hold keys of slots that it does not own (half-moved ones, orphans); their owner publishes
// them. Keys of a sink that writes to this cluster never travel.
func (p *publisher) carries(e *rdb.Entry) bool {
	return p.slots.Has(slot.Of(e.Key)) && !own.Is(e.Key)
}

func (p *publisher) entry(item *rdb.Entry, version int, sec spool.Section) {
	e := &p.em.e
	e.Begin, e.End = sec.Offset, sec.Offset
	e.Slot, e.DB, e.Key = slot.Of(item.Key), uint32(item.DB), item.Key
	e.Type, e.Value, e.RDBVersion = item.Type, item.Value, uint16(version)
	e.ExpireAtMs, e.IdleSeconds, e.Freq = item.ExpireAtMs, item.Idle, int16(item.Freq)
	if p.records%clockEvery == 0 {
		p.em.captured(0)
	}
	p.em.entry()
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
		return stop(fmt.Errorf("%w: raise unit.max.bytes", err))
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
	next := p.pos
	next.Position, next.DB, next.Snapshot = p.cur, p.in.db, nil
	b := offsets.Boundary{
		Shard: p.shard, Generation: p.pos.Generation, Position: p.cur,
		Begin: p.begins, Entries: entries, TimeMs: time.Now().UnixMilli(), TopicID: p.topic.ID,
	}
	if err := p.commitAs(next, &b); err != nil {
		return err
	}
	p.gate.stand(p.cur)
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
	done func() uint64
}

func (s *snapshotBytes) Read(b []byte) (int, error) {
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
			return s.p.progress(s.done())
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(s.ctx, rest)
		defer cancel()
	}
	if err := s.p.spool.Wait(ctx, s.r.Place()); err != nil && s.ctx.Err() != nil {
		return err
	}
	return nil
}
