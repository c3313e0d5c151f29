package sink

import (
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// addChunk takes a chunk of an event: of one that is rebuilt, or of one that is joined, which it returns when it is whole.
func (in *intake) addChunk(b *batch, r *kgo.Record) (whole []byte, err error) {
	c, err := codec.ParseChunk(r.Value)
	if err != nil {
		return nil, err
	}
	if begin, ok := in.plan.begins[c.Shard]; ok && r.Offset < begin {
		return nil, nil // reading may have begun in the middle of it
	}
	if c.First() {
		in.giveUp(b, c.Shard, r.Offset)
		in.firsts[c.Shard] = r.Offset
		if err := in.openRebuild(r, &c); err != nil {
			return nil, err
		}
		if err := in.openLarge(r, &c); err != nil {
			return nil, err
		}
	}
	if in.chunks == nil {
		in.chunks = in.open(r.Offset)
	}
	if l := in.larges[c.Shard]; l != nil {
		return nil, in.passOver(b, l, &c, r.Offset)
	}
	rb := in.rebuilds[c.Shard]
	if rb == nil {
		whole, _, err = in.joiner.Add(r.Value)
		return whole, err
	}
	if err := in.sequence.Add(&c); err != nil {
		return nil, err
	}
	if !c.First() {
		rb.piece = c.Piece
	}
	rb.offset, rb.last, rb.parts, rb.record = r.Offset, c.Last(), giveUpPart, r
	return nil, in.drain(b, rb)
}

// openRebuild opens a rebuild, or a load, if the event that begins with this chunk is a value of a snapshot, large, and of a
// type whose elements we know. Everything else is joined.
func (in *intake) openRebuild(r *kgo.Record, c *codec.Chunk) error {
	if in.values == nil || c.Count > 0 && uint64(c.Count)*uint64(len(c.Piece)) <= uint64(in.values.rebuildBytes) {
		return nil
	}
	var e event.Event
	if err := codec.DecodeRaw(r.Key, c.Piece, &e); err != nil || e.Kind != event.Entry {
		return nil //nolint:nilerr // the whole event tells what is wrong with it, or that its key needed more than a chunk
	}
	kind, ok := rdb.KindOf(e.Type, rdb.FormatOf(int(e.RDBVersion)))
	if !ok || kind == rdb.ValueModule {
		return nil
	}
	if slot.Partition(e.Slot, in.partitions) != in.partition {
		return fmt.Errorf("slot %d belongs to partition %d of %d", e.Slot, slot.Partition(e.Slot, in.partitions), in.partitions)
	}
	to, mapped := in.shape.goes(e.DB)
	if !mapped {
		if err := in.shape.nowhere(e.DB, ""); err != nil {
			return err
		}
	}
	ignored := own.Is(e.Key) || !mapped
	if !ignored && in.gens[e.Shard] == nil {
		return fmt.Errorf("entry of shard %d %w", e.Shard, errOutside)
	}
	if !ignored {
		over, pieces, err := in.passesOver(r, c, &e, to)
		if err != nil {
			return err
		}
		if over {
			in.openLoad(r, c, &e, pieces)
			return nil
		}
		if err := in.overdue(&e, r.Offset); err != nil {
			return err
		}
	}
	rb := newRebuild(in.values, &e)
	rb.slot, rb.db, rb.ignored = in.shape.slotOf(e.Slot), to, ignored
	if in.rebuilds == nil {
		in.rebuilds = map[event.Shard]*rebuild{}
	}
	in.rebuilds[e.Shard] = rb
	return nil
}

// drain puts the parts of a chunk into the batch. What does not fit goes into the next one, see start.
func (in *intake) drain(b *batch, rb *rebuild) error {
	in.draining = nil
	for {
		s, err := rb.step()
		if err != nil {
			return err
		}
		if s.kind == stepDone {
			if err := in.complete(b, rb); err != nil {
				return err
			}
		}
		u, err := in.partOf(rb, s)
		if err != nil {
			return err
		}
		if u != nil && !b.fits(u, in.limits) {
			in.held, in.heldNext, b.over = u, rb.offset+1, true
			if s.kind == stepPart {
				in.heldNext, in.draining = rb.offset, rb
			}
			return nil
		}
		if u != nil {
			b.add(u)
		}
		if s.kind != stepPart {
			return nil
		}
	}
}

// step goes on until there is something to do.
func (r *rebuild) step() (step, error) {
	if r.ignored {
		if r.last {
			return step{kind: stepDone}, nil
		}
		return step{kind: stepHungry}, nil
	}
	s, ok := r.next()
	if !ok {
		return s, errStoppedBuild
	}
	return s, s.err
}

// giveUpPart is the number of the part of a record that removes what an event given up with it has left.
const giveUpPart = 1

// partOf makes the unit of a step; nil if there is nothing to do, or if it is applied. The last part of a record stands for
// all of it. That a part that is not the last turns out to be the last there is does no harm.
func (in *intake) partOf(rb *rebuild, s step) (*unit, error) {
	if s.count == 0 {
		return nil, nil
	}
	part := 0
	if s.kind == stepPart {
		rb.parts++
		part = rb.parts
	}
	if in.isDone(rb.slot, rb.offset, part) {
		in.skipped++
		if slices.Contains(in.plan.refused, rb.offset) {
			return nil, errRefusedBefore
		}
		return nil, nil
	}
	return &unit{offset: rb.offset, part: part, slot: rb.slot, key: rb.event.Key, commands: s.commands, count: s.count, db: rb.db, last: rb.db}, nil
}

// isDone tells whether a unit, or a part of one, is applied.
func (in *intake) isDone(s slot.Slot, offset int64, part int) bool {
	if offset > in.doneMax { // so is almost every one, and a look at a table of all slots is dear
		return false
	}
	i := int(s) - int(slot.PartitionRange(in.partition, in.partitions).First)
	if offset <= in.plan.done[i] {
		return true
	}
	p, ok := in.plan.parts[s]
	return ok && part > 0 && offset == p.offset && part <= p.parts
}

// complete ends a rebuild whose event is whole: it counts in its lane's chain, and as seen.
func (in *intake) complete(b *batch, rb *rebuild) error {
	rb.stop()
	delete(in.rebuilds, rb.event.Shard)
	in.closeChunks(rb.offset + 1)
	if !in.isDone(rb.slot, rb.offset, 0) {
		if err := in.addDead(b, rb.record, rb.dead); err != nil {
			return err
		}
	}
	if err := in.follow(&rb.event); err != nil {
		return err
	}
	return in.see(&rb.event)
}

// see notes the key of an entry that is whole as one of its snapshot.
func (in *intake) see(e *event.Event) error {
	if g := in.gens[e.Shard]; g != nil {
		return g.seen.add(in.shape.fingerprint(e.DB, xxhash.Sum64(e.Key)))
	}
	return nil
}

// giveUp forgets the unfinished event of a shard, because another record of it came at the offset.
func (in *intake) giveUp(b *batch, shard event.Shard, offset int64) {
	in.joiner.Drop(shard)
	in.sequence.Drop(shard)
	delete(in.larges, shard)
	rb := in.rebuilds[shard]
	if rb == nil {
		return
	}
	rb.stop()
	delete(in.rebuilds, shard)
	if !rb.ignored && !in.isDone(rb.slot, offset, giveUpPart) {
		b.add(&unit{
			offset: offset, part: giveUpPart, slot: rb.slot, key: rb.stage, count: 1, blind: in.shape.atHome(rb.db),
			commands: resp.AppendCommandBytes(nil, []byte("UNLINK"), rb.stage), db: rb.db, last: rb.db,
		})
	}
}

// closeChunks ends the span of the chunked events if none is open any more.
func (in *intake) closeChunks(end int64) {
	if in.chunks != nil && !in.joiner.Open() && len(in.rebuilds) == 0 && len(in.larges) == 0 {
		in.chunks.end = end
		in.chunks = nil
	}
}

// close ends what the intake has open. It takes no more records.
func (in *intake) close() {
	for _, rb := range in.rebuilds {
		rb.stop()
	}
	in.seen.close()
}
