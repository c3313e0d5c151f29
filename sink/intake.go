package sink

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/command"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// intake turns the records of a partition into batches: a machine without I/O, started anew with every start of the
// partition.
type intake struct {
	partition  int32
	partitions int
	limits     limits
	plan       startPlan
	doneMax    int64 // nothing behind it is done in any slot, or in part
	values     *values
	joiner     codec.Joiner
	// rebuilds are the values that are brought to the target while their chunks come, sequence checks those chunks, and
	// draining is the one whose chunk did not fit into the last batch.
	rebuilds map[event.Shard]*rebuild
	sequence codec.Sequence
	// firsts are the offsets of the first chunks of the shards' last events in chunks.
	firsts   map[event.Shard]int64
	draining *rebuild
	// larges are the units that are passed over until they are whole.
	larges map[event.Shard]*largeUnit
	// spans are the parts of the log that must be read from their begin: snapshots and chunked events.
	spans []*span
	// chunks is the span of the chunked events that are unfinished, nil if none is.
	chunks *span
	shape  shape
	marks  map[event.Shard]*event.Mark
	gens   map[event.Shard]*generation
	// seen holds the fingerprints of the generations' keys. sweeps tells whether they will be asked for; nil: always.
	seen   *seenStore
	sweeps func(first bool) bool
	// settled are the shards whose first generation is complete at the target.
	settled []event.Shard
	// generations are the newest that were met of each shard. A map is never changed, since watermarks hold it.
	generations map[event.Shard]event.Generation
	// held is a unit that did not fit into the last batch, heldNext the offset behind it.
	held     *unit
	heldNext int64
	// heldMore are the other parts of the unit that was held back.
	heldMore []*unit

	// nowMs is the time, accept what is told of overdue events; nil refuses them.
	nowMs  int64
	accept func(*OverdueError)

	ev      event.Event
	scratch scratch
	keys    []int
	skipped int64 // units at or below what is done
	ownKeys int64 // commands left out because they name keys of our own shape
}

// generation is a snapshot between its begin and its end.
type generation struct {
	span *span
	seen *seenSet
}

// span is the offsets from begin up to, not including, end. Reading may start at begin or at end, nowhere between.
type span struct{ begin, end int64 }

// endless is the end of a span that is still open.
const endless int64 = math.MaxInt64

func newIntake(partition int32, partitions int, l limits, maxEventBytes int, seen *seenStore, plan startPlan) *intake {
	return &intake{
		doneMax:   plan.doneMax(),
		partition: partition, seen: seen, partitions: partitions, limits: l, plan: plan,
		joiner: codec.Joiner{MaxBytes: maxEventBytes}, firsts: map[event.Shard]int64{},
		marks: map[event.Shard]*event.Mark{}, gens: map[event.Shard]*generation{},
		settled: slices.Clone(plan.settled), generations: plan.generations,
	}
}

// restart is where reading has to begin after a crash if everything below next is applied: at next, or at the begin of
// the spans around it. Spans overlap where lanes share a partition: a snapshot that is complete has to be read again if
// another one began within it and is still open.
func (in *intake) restart(next int64) int64 {
	for again := true; again; {
		again = false
		for _, s := range in.spans {
			if s.begin < next && next < s.end {
				next, again = s.begin, true
			}
		}
	}
	in.spans = slices.DeleteFunc(in.spans, func(s *span) bool { return s.end <= next })
	return next
}

// beginsAfter are the begins of shards that are still to come for a restart there.
func (in *intake) beginsAfter(restart int64) map[event.Shard]int64 {
	var out map[event.Shard]int64
	for shard, begin := range in.plan.begins {
		if begin > restart {
			if out == nil {
				out = map[event.Shard]int64{}
			}
			out[shard] = begin
		}
	}
	return out
}

func (in *intake) open(begin int64) *span {
	s := &span{begin, endless}
	in.spans = append(in.spans, s)
	return s
}

// start puts what was held back into the batch.
func (in *intake) start(b *batch) error {
	if in.held == nil {
		return nil
	}
	b.add(in.held)
	for _, u := range in.heldMore {
		b.add(u)
	}
	b.next = in.heldNext
	in.held, in.heldMore = nil, nil
	if rb := in.draining; rb != nil {
		if err := in.drain(b, rb); err != nil {
			return in.fault(rb.offset, err)
		}
		if in.held == nil {
			b.next = rb.offset + 1
		}
	}
	return nil
}

// add takes one record. The batch is full when b.over is set.
func (in *intake) add(b *batch, r *kgo.Record) error {
	if r.Attrs.IsControl() {
		b.next = r.Offset + 1
		return nil
	}
	if err := in.addRecord(b, r); err != nil {
		return in.fault(r.Offset, err)
	}
	if in.held == nil {
		b.next = r.Offset + 1
	}
	return nil
}

// fault says where an error was met.
func (in *intake) fault(offset int64, err error) error {
	if e, ok := errors.AsType[*UnsupportedError](err); ok {
		e.Partition, e.Offset = in.partition, offset
		return e
	}
	if e, ok := errors.AsType[*OverdueError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*probeError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*StartError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*SpillError](err); ok {
		return e
	}
	return &RecordError{Partition: in.partition, Offset: offset, Err: err}
}

func (in *intake) addRecord(b *batch, r *kgo.Record) error {
	value := r.Value
	if codec.IsChunk(value) {
		whole, err := in.addChunk(b, r)
		if err != nil || whole == nil {
			return err
		}
		value = whole
	}
	e := &in.ev
	if err := codec.DecodeRaw(r.Key, value, e); err != nil {
		return err
	}
	in.giveUp(b, e.Shard, r.Offset)
	in.closeChunks(r.Offset + 1)
	if begin, ok := in.plan.begins[e.Shard]; ok && r.Offset < begin {
		return nil
	}
	if err := in.follow(e); err != nil {
		return err
	}
	if e.Kind.IsControl() {
		return in.control(b, e, r.Offset)
	}
	if slot.Partition(e.Slot, in.partitions) != in.partition {
		return fmt.Errorf("slot %d belongs to partition %d of %d", e.Slot, slot.Partition(e.Slot, in.partitions), in.partitions)
	}
	if err := in.addUnit(b, e, r.Offset); err != nil {
		return err
	}
	return in.addDead(b, r, in.values.takeDead())
}

// follow checks the lane's chain. The first event of a lane after a start is where its chain begins, but that it is of no later
// generation than the one that was met before: that one's snapshot would be missing.
func (in *intake) follow(e *event.Event) error {
	known, met := in.generations[e.Shard]
	if m := in.marks[e.Shard]; m != nil {
		if err := m.Follow(e); err != nil {
			return err
		}
	} else {
		if met && e.Generation > known && e.Kind != event.SnapshotBegin {
			return &StartError{
				Partition: in.partition, Hint: hintLostEnd,
				Why: fmt.Sprintf("the target has generation %d of shard %d, and the log goes on within generation %d: its end was lost before that was written to it",
					known, e.Shard, e.Generation),
			}
		}
		m := &event.Mark{}
		m.Adopt(e)
		in.marks[e.Shard] = m
	}
	if !met || known < e.Generation {
		in.generations = maps.Clone(in.generations)
		put(&in.generations, e.Shard, e.Generation)
	}
	return nil
}

var errRefusedBefore = errors.New("the target refused a command of this unit within a transaction, whose other commands took effect: " +
	"put the key right by hand, and take the offset out of the seventh word of the sink's watermarks of this partition (redriver!w!...), which is - then if it was the only one")

var errOutside = errors.New("stands outside of a snapshot that was read from its begin")

func (in *intake) addUnit(b *batch, e *event.Event, offset int64) error {
	if e.Kind == event.Entry {
		g := in.gens[e.Shard]
		if g == nil {
			return fmt.Errorf("entry of shard %d %w", e.Shard, errOutside)
		}
		if err := g.seen.add(in.shape.fingerprint(e.DB, xxhash.Sum64(e.Key))); err != nil {
			return err
		}
	}
	if e.Kind == event.Unit {
		if err := in.rememberKeys(e); err != nil {
			return err
		}
	}
	apart := e.Spread && !in.shape.single
	if !apart && in.isDone(e.Slot, offset, 0) {
		in.skipped++
		if slices.Contains(in.plan.refused, offset) {
			return errRefusedBefore
		}
		return nil
	}
	if err := in.overdue(e, offset); err != nil {
		return err
	}
	u := b.ownUnits.next()
	if err := u.read(e, offset, in.limits.holdMs, in.values, &in.scratch); err != nil {
		return err
	}
	in.ownKeys += int64(u.passedOver)
	if err := in.shape.place(u, e); err != nil {
		return err
	}
	if u.count == 0 {
		return nil
	}
	if apart {
		return in.addSpread(b, u)
	}
	if !b.fits(u, in.limits) {
		later := *u // the batch's memory is used again for the next one
		in.held, in.heldNext, b.over = &later, offset+1, true
		return nil
	}
	b.add(u)
	return nil
}

// rememberKeys keeps the keys of a unit that arrives while a generation is open from being swept by it: another lane has
// written them, so they are not in its snapshot.
func (in *intake) rememberKeys(e *event.Event) (failed error) {
	if len(in.gens) == 0 {
		return nil
	}
	db := e.DB
	keep := func(key []byte) {
		for _, g := range in.gens {
			if err := g.seen.add(in.shape.fingerprint(db, xxhash.Sum64(key))); err != nil {
				failed = err
			}
		}
	}
	keep(e.Key)
	for rest := e.Commands; len(rest) > 0; {
		n, args, err := resp.ParseCommand(rest, in.scratch.args[:0])
		if err != nil || n == 0 {
			return failed
		}
		in.scratch.args, rest = args, rest[n:]
		if resp.IsWord(args[0], "SELECT") {
			db, _ = databaseOf(args, 1)
			continue
		}
		info, ok := command.Resolve(args)
		if !ok {
			continue
		}
		in.keys, err = info.Keys(args, in.keys[:0])
		if err != nil {
			continue
		}
		for _, k := range in.keys {
			keep(args[k])
		}
		if other, ok := otherDatabase(args); ok {
			here := db
			db = other
			for _, k := range in.keys {
				keep(args[k])
			}
			db = here
		}
	}
	return failed
}

func (in *intake) control(b *batch, e *event.Event, offset int64) error {
	c := &control{kind: e.Kind, offset: offset, shard: e.Shard, generation: e.Generation, seen: &seenSet{}}
	all := slot.PartitionRange(in.partition, in.partitions)
	for _, r := range e.Slots {
		c.slots.AddRange(slot.Range{First: max(r.First, all.First), Last: min(r.Last, all.Last)})
	}
	switch e.Kind {
	case event.SnapshotBegin:
		if g := in.gens[e.Shard]; g != nil { // given up by its lane
			g.span.end = offset
			g.seen.close()
		}
		g := &generation{span: in.open(offset), seen: in.seen.newSet()}
		g.seen.off = in.sweeps != nil && !in.sweeps(!slices.Contains(in.settled, e.Shard))
		in.gens[e.Shard] = g
		return nil
	case event.SnapshotEnd:
		g := in.gens[e.Shard]
		if g == nil {
			return fmt.Errorf("end of generation %d of shard %d %w", e.Generation, e.Shard, errOutside)
		}
		c.seen = g.seen
		c.first = !slices.Contains(in.settled, e.Shard)
	case event.Functions:
		c.commands = e.Commands
		b.then, b.over = c, true
		return nil
	case event.Flush:
		if ok, err := in.shape.scope(c, e); !ok {
			return err
		}
	default:
		return nil
	}
	for s := range c.slots.All() {
		if offset <= in.plan.done[s-all.First] {
			one := slot.Set{}
			one.Add(s)
			c.slots = c.slots.Minus(&one)
		}
	}
	b.then, b.over = c, true
	return nil
}

// finished is called when a control event is carried out.
func (in *intake) finished(c *control) {
	if c.kind != event.SnapshotEnd {
		return
	}
	in.gens[c.shard].span.end = c.offset + 1
	in.gens[c.shard].seen.close()
	delete(in.gens, c.shard)
	if c.first {
		in.settled = slices.Sorted(slices.Values(append(slices.Clone(in.settled), c.shard)))
	}
}
