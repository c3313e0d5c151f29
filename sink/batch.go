package sink

import (
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

// batch is what a partition sends before it waits for all answers.
type batch struct {
	units   []*unit
	bytes   int
	guarded bool // one of the units is
	// crowd counts its guarded units, crowdPerSlot of each slot at most: more of a slot are in one transaction anyway.
	crowd int
	// next is the Kafka offset behind the batch: once all units are applied, everything below it is.
	next int64
	// runs are the units by slot, in the order in which the slots first appear.
	runs   []*run
	bySlot []uint16 // one more than the place in runs, by slot, counted from first; as long as need be
	first  slot.Slot
	// Memory of its own units and runs, which is used again for the next batch.
	ownUnits slab[unit]
	ownRuns  slab[run]
	ownMore  slab[moreUnits]
	// then is done when all units are applied: a sweep or a flush. It ends the batch.
	then *control
	// dead are events to be kept elsewhere before anything of the batch is sent.
	dead []deadLetter
	// over is set when the batch takes no more.
	over bool
}

// control is a control event to carry out between two batches.
type control struct {
	kind       event.Kind
	offset     int64
	shard      event.Shard
	generation event.Generation
	slots      slot.Set
	seen       *seenSet
	// commands of libraries of functions.
	commands []byte
	// first: the shard's first generation at this target.
	first bool
	// db is the database of the target that a flush empties, every says that it is all of them.
	db    uint32
	every bool
	// unit, with its keys: it has to be worked out, see spread.go. The kind is event.Unit then.
	unit *unit
	keys [][]byte
	// large, see largeunit.go. The kind is event.Unit then.
	large *largeUnit
}

const (
	// A slot's transaction is executed in one go by the target, during which it serves nobody else.
	maxGroupBytes    = 256 << 10
	maxGroupCommands = 1000
	// maxBlindUnits are enough without guarded ones, which share a slot's checkpoint the more the larger a batch is: beyond them the
	// processor's cache does not hold a batch, and each takes a quarter more of our time.
	maxBlindUnits = 2000
)

// limits of a batch, and the hold of expiry times.
type limits struct {
	bytes, units int
	holdMs       int64
}

// fits tells whether the unit may join. An empty batch takes any.
func (b *batch) fits(u *unit, l limits) bool {
	if len(b.units) == 0 {
		return true
	}
	if b.over || len(b.units) >= l.units || !b.guarded && len(b.units) >= maxBlindUnits || b.bytes+len(u.commands) > l.bytes {
		return false
	}
	have := b.runOf(u.slot)
	if have == nil || !have.guarded && u.blind {
		return true
	}
	return have.bytes+len(u.commands) <= maxGroupBytes && have.commands+u.count <= maxGroupCommands
}

func (b *batch) add(u *unit) {
	b.units = append(b.units, u)
	b.bytes += len(u.commands)
	b.guarded = b.guarded || !u.blind
	r := b.runOf(u.slot)
	if r == nil {
		r = b.ownRuns.next()
		r.slot, r.units = u.slot, r.few[:0]
		at := int(u.slot - b.first)
		if at >= len(b.bySlot) {
			b.bySlot = append(b.bySlot, make([]uint16, at+1-len(b.bySlot))...)
		}
		b.runs = append(b.runs, r)
		b.bySlot[at] = uint16(len(b.runs)) // there are no more runs than slots
	}
	if len(r.units) == len(r.few) {
		r.units = append(b.ownMore.next()[:0], r.units...)
	}
	if !u.blind && len(r.units) < crowdPerSlot {
		b.crowd++
	}
	r.units = append(r.units, u)
	r.bytes += len(u.commands)
	r.commands += u.count
	r.guarded = r.guarded || !u.blind
}

// runOf returns the run of a slot, nil if there is none yet.
func (b *batch) runOf(s slot.Slot) *run {
	if at := int(s - b.first); at < len(b.bySlot) && b.bySlot[at] > 0 {
		return b.runs[b.bySlot[at]-1]
	}
	return nil
}

// reset empties the batch for another one and keeps what it has grown to; its units and runs not if they live on, since some
// are set aside.
func (b *batch) reset(next int64, liveOn bool) {
	for _, u := range b.units {
		b.bySlot[u.slot-b.first] = 0
	}
	clear(b.units)
	clear(b.runs)
	if liveOn {
		b.ownUnits, b.ownRuns, b.ownMore = slab[unit]{}, slab[run]{}, slab[moreUnits]{}
	}
	b.ownUnits.reset()
	b.ownRuns.reset()
	b.ownMore.reset()
	*b = batch{
		units: b.units[:0], runs: b.runs[:0], bySlot: b.bySlot, first: b.first, next: next,
		ownUnits: b.ownUnits, ownRuns: b.ownRuns, ownMore: b.ownMore,
	}
}

// slab makes values many at a time, and again once it is reset.
type slab[T any] struct {
	blocks [][]T
	used   int
}

const slabLen = 64

// next returns a zero value.
func (s *slab[T]) next() *T {
	block, i := s.used/slabLen, s.used%slabLen
	if block == len(s.blocks) {
		s.blocks = append(s.blocks, make([]T, slabLen))
	}
	s.used++
	return &s.blocks[block][i]
}

// reset takes back all values: nobody may have one any more.
func (s *slab[T]) reset() {
	for i := 0; s.used > 0; i++ {
		n := min(s.used, slabLen)
		clear(s.blocks[i][:n])
		s.used -= n
	}
}

// sent is the offset at and above which nothing of the batch lies. It is behind next if a unit comes in parts.
func (b *batch) sent() int64 {
	if n := len(b.units); n > 0 {
		return max(b.next, b.units[n-1].offset+1)
	}
	return b.next
}

// run is the units of one slot in a batch that are still to be applied, in order.
type run struct {
	slot  slot.Slot
	units []*unit
	// guarded: one of the units is, so all go in one transaction with the slot's checkpoint.
	guarded bool
	// bytes and commands of its units, as long as the batch takes more.
	bytes, commands int
	// mark is set when the run is not a slot's units but writes this watermark.
	mark *watermark
	// bare: its units go in one transaction without a checkpoint, for what they do vouches for nothing.
	bare bool
	// careful: one unit at a time, since the slot is being moved and each key may be on either side.
	careful bool
	// askAt is the node to ask next, this one time.
	askAt string

	// Of the rounds before: all units that the run began with, and where the first of them were acknowledged; nil if none is.
	all []*unit
	by  *conn
	// scattered: further ones were acknowledged elsewhere.
	scattered bool

	// Of the last round: how many units from the front are applied, and what stopped the next one.
	confirmed int
	failed    bool
	verdict   verdict
	reply     string
	// since is when it began to wait for its slot, which is being moved; zero if it does not.
	since time.Time
	// few is room for units: most runs have no more.
	few [4]*unit
}

// moreUnits is room for the units of a run that has more than few.
type moreUnits [32]*unit

// confirm notes that the next n units are acknowledged.
func (r *run) confirm(n int, by *conn) {
	if r.all == nil {
		r.all, r.by = r.units, by
	}
	r.scattered = r.scattered || r.by != by
	r.confirmed += n
}

// rewind takes back what was acknowledged: a node that took the place of another may not have it. Blind units converge when
// they are repeated from the first on, and of the others the checkpoint tells.
func (r *run) rewind() {
	if r.all != nil {
		r.units = r.all
		r.all, r.by, r.scattered = nil, nil, false
	}
}

// settle takes what the last round confirmed out of the run and tells whether anything is left.
func (r *run) settle() (left bool) {
	r.units = r.units[r.confirmed:]
	r.confirmed = 0
	return len(r.units) > 0
}

// skip takes out what the slot's checkpoint vouches for.
func (r *run) skip(c checkpoint, by *conn) {
	n := 0
	for n < len(r.units) && c.covers(r.units[n]) {
		n++
	}
	if n > 0 {
		r.confirm(n, by)
		r.settle()
	}
}

// unsettled moves runs with units left to the front, in their order, and returns how many there are.
func unsettled(runs []*run) (n int) {
	for i, r := range runs {
		if len(r.units) > 0 {
			runs[n], runs[i] = runs[i], runs[n]
			n++
		}
	}
	return n
}
