package source

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/source/spool"
)

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
func (p *publisher) produce(r *kgo.Record, settle promise, chunk []byte, part bool) {
	if chunk != nil {
		record := settle
		settle = func(r *kgo.Record, err error) {
			p.em.chunks.put(chunk, err)
			record(r, err)
		}
	}
	if !p.begin() {
		settle(r, *p.failed.Load())
		return
	}
	p.bytes += len(r.Key) + len(r.Value)
	p.records++
	p.wrote[r.Partition] = true
	if part {
		p.chunks[r.Partition]++
	}
	p.cl.Produce(p.work, r, settle)
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
		p.waits.begin("Kafka to take the records of a transaction")
	}
	return true
}

// admit waits until another transaction may begin and has its place in the worker's budget: what comes meanwhile is a part
// of it. It is not called while the link waits for us.
func (p *publisher) admit() error {
	if p.open {
		return nil
	}
	p.markers.Await(p.work, p.cl, offsets.TransactionalID(p.cfg.Connector, p.shard), p.ended)
	err := p.takePlace()
	p.waits.end()
	return err
}

// takePlace waits for a place in the budget, which all lanes of the worker share, if the lane has none.
func (p *publisher) takePlace() error {
	if p.admitted {
		return nil
	}
	p.waits.begin("the worker's budget of transactions (commit.rate.max)")
	begun := time.Now()
	if err := p.cfg.Commits.Wait(p.work); err != nil {
		return fmt.Errorf("wait for the budget of transactions: %w", err)
	}
	p.link.pace(time.Since(begun))
	p.admitted = true
	return nil
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
	if p.open && due || p.asked {
		return p.commit()
	}
	if p.open || p.cur == p.pos.Position || time.Since(p.committed) < quietCommit {
		return nil
	}
	// Nothing is produced, so nothing else tells that the topic is gone.
	if err := p.refresh(p.work); err != nil {
		return err
	}
	return p.commit()
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
	if err := p.takePlace(); err != nil {
		return err
	}
	p.admitted = false
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
	p.waits.begin("Kafka to take the records of a transaction")
	if err := p.cl.Flush(p.work); err != nil {
		return fmt.Errorf("flush transaction: %w", err)
	}
	if err := p.failed.Load(); err != nil {
		return fmt.Errorf("commit transaction: %w", *err)
	}
	if err := p.gate.mayCommit(); err != nil {
		return err
	}
	p.waits.begin("Kafka to commit a transaction")
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
	p.cl.Produce(p.work, offsetsRecord(p.cfg.Prefix, offsets.LanePartition(p.shard), key, value), p.promise)
	return nil
}

// offsetsRecord has no time in Kafka: nobody asks for it there, and a broker whose clock is wrong would refuse it.
func offsetsRecord(prefix string, partition int32, key, value []byte) *kgo.Record {
	return &kgo.Record{Topic: offsets.Topic(prefix), Partition: partition, Key: key, Value: value, Timestamp: time.UnixMilli(untimed)}
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
	p.waits.end()
	p.ended = time.Now()
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
