package sink

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/slot"
)

// startInput is all that the decision where a partition starts depends on.
type startInput struct {
	topic, topicID string
	partition      int32
	slots          slot.Range
	// logBegin and logEnd are the first offset of the log and the one behind its last.
	logBegin, logEnd int64
	// checkpoints and watermarks as found, by the slot they lie in; owner is the node that has a slot now.
	checkpoints map[slot.Slot]checkpoint
	watermarks  map[slot.Slot]watermark
	owner       func(slot.Slot) string
	// boundaries are the newest complete snapshots that reach into this partition. unready tells that a shard lies here
	// whose first snapshot is not complete yet.
	boundaries []offsets.Boundary
	// hold is the configured one.
	hold    time.Duration
	unready bool
	// group is the consumer group, filled that the sink has written to the target before: it remembers, or the group's
	// commits show it.
	group  string
	filled bool
	// single: the target is no cluster, and a checkpoint speaks of all slots of the partition. databases is its map.
	single    bool
	databases string
}

// startPlan is where a partition starts.
type startPlan struct {
	// offset is the first to read.
	offset int64
	// isNew: the sink has never written to these slots.
	isNew bool
	// done has for each slot of the partition, counted from its first, the offset up to which, that one included, everything
	// is applied; noneDone if nothing is known.
	done []int64
	// parts are the checkpoints of slots that have a part of a record beyond that.
	parts map[slot.Slot]checkpoint
	// window is the end of the unknown window: what lies before it may have been sent.
	window int64
	// begins: events of a shard before its begin are not for us.
	begins  map[event.Shard]int64
	settled []event.Shard
	refused []int64
	// generations are the newest that were met of each shard.
	generations map[event.Shard]event.Generation
	// moved are slots that only a watermark of another node vouches for: they were moved while no sink ran.
	moved slot.Set
	// lost is set if the log did not reach back, and the partition starts at a snapshot in place of where it was.
	lost *LostError
}

const noneDone int64 = -1

// doneMax is the last offset at which something is done already.
func (p *startPlan) doneMax() int64 {
	last := noneDone
	for _, offset := range p.done {
		last = max(last, offset)
	}
	for _, c := range p.parts {
		last = max(last, c.offset)
	}
	return last
}

const hintLostEnd = "brokers lost the end of the log: have the source take a new snapshot, and start the sink anew under another name"

// decideStart decides where a partition starts. No offset is taken from the group's commits: they expire, and a target
// that lost writes does not turn them back. That there are some is enough to tell a wiped target from a new one.
func decideStart(in startInput) (startPlan, error) {
	if err := in.sameLog(); err != nil {
		return startPlan{}, err
	}
	p := startPlan{done: make([]int64, in.slots.Len())}
	for i := range p.done {
		p.done[i] = noneDone
	}
	begun := false
	for _, m := range in.watermarks {
		begun = begun || m.applied >= 0
	}
	if len(in.watermarks) == 0 && in.filled {
		return startPlan{}, in.refuse("to fill it anew from the newest snapshot of the log remove consumer group "+in.group+", or give the sink another name",
			"the target was filled before and has none of the sink's watermarks any more: it was wiped, or finished")
	}
	if !begun {
		p.isNew = true
		err := in.startNew(&p)
		in.raiseToCheckpoints(&p)
		return p, err
	}
	if err := in.startAgain(&p); err != nil {
		return startPlan{}, err
	}
	in.raiseToCheckpoints(&p)
	return p, nil
}

func (in *startInput) refuse(hint, format string, args ...any) error {
	return &StartError{Partition: in.partition, Why: fmt.Sprintf(format, args...), Hint: hint}
}

func otherLog(partition int32, format string, args ...any) error {
	return &StartError{
		Partition: partition, Why: "the target was filled from another log: " + fmt.Sprintf(format, args...),
		Hint: "give the sink another name and an empty target, or bring the old topic back",
	}
}

// sameLog checks that what lies in the target was written from this topic.
func (in *startInput) sameLog() error {
	check := func(topicID string, partition int32) error {
		if topicID != in.topicID {
			return otherLog(in.partition, "topic id %s, this is %s", topicID, in.topicID)
		}
		if partition != in.partition {
			return in.refuse("the number of partitions of a log never changes: give the sink another name and an empty target",
				"the target was filled from partition %d of this log in these slots", partition)
		}
		return nil
	}
	for _, c := range in.checkpoints {
		if err := check(c.topicID, c.partition); err != nil {
			return err
		}
	}
	for _, m := range in.watermarks {
		if err := check(m.topicID, m.partition); err != nil {
			return err
		}
		if m.hold != in.hold {
			return in.refuse(fmt.Sprintf("set expiry.hold to %s again, or give the sink another name and an empty target", m.hold),
				"expiry times at the target are held by %s, and the configuration says %s: nobody could tell them apart", m.hold, in.hold)
		}
		if m.databases != in.databases {
			return in.refuse(fmt.Sprintf("set databases to %s again, or give the sink another name and an empty target", m.databases),
				"the target was filled with databases: %s, and the configuration says %s", m.databases, in.databases)
		}
	}
	return nil
}

// startNew starts at the newest complete snapshot of every shard: the least of their begins.
func (in *startInput) startNew(p *startPlan) error {
	p.begins = map[event.Shard]int64{}
	p.offset = in.logEnd
	for _, b := range in.boundaries {
		begin := b.Begin[in.partition]
		p.begins[b.Shard] = begin
		p.offset = min(p.offset, begin)
	}
	if len(in.boundaries) == 0 || in.unready {
		p.offset = 0
	}
	if p.offset < in.logBegin {
		return &LostError{
			Topic: in.topic, Partition: in.partition, From: p.offset, To: in.logBegin,
			Hint: "a new sink needs a complete snapshot in the log: have the source take a new one",
		}
	}
	return nil
}

// startAgain starts at the least watermark.
func (in *startInput) startAgain(p *startPlan) error {
	if err := in.continued(p); err != nil {
		return err
	}
	if p.offset < in.logBegin {
		return &LostError{
			Topic: in.topic, Partition: in.partition, From: p.offset, To: in.logBegin,
			Hint: "what these offsets held never reached the target: set log.lost to snapshot to start again from the newest snapshot in the log, " +
				"or empty the target and start anew, and give the topic a longer retention",
		}
	}
	return in.notAhead(p.offset)
}

// decideAnew decides where a partition starts that decideStart refused with lost: at the newest complete snapshot of every
// shard. They bring the state at their begins, whatever lies between here and there, and their sweeps remove what is no longer
// in it. What is applied stays skipped.
func decideAnew(in startInput, lost *LostError) (startPlan, error) {
	p := startPlan{done: make([]int64, in.slots.Len()), lost: lost}
	for i := range p.done {
		p.done[i] = noneDone
	}
	if err := errors.Join(in.continued(&p), in.notAhead(0)); err != nil {
		return startPlan{}, err
	}
	ready := len(in.boundaries) > 0 && !in.unready
	p.begins, p.offset = map[event.Shard]int64{}, in.logEnd
	for _, b := range in.boundaries {
		begin := b.Begin[in.partition]
		p.begins[b.Shard] = begin
		p.offset = min(p.offset, begin)
		ready = ready && begin >= in.logBegin
	}
	if !ready {
		return startPlan{}, fmt.Errorf("wait for a complete snapshot of every shard behind offset %d: %w", in.logBegin, &awaitError{lost})
	}
	in.raiseToCheckpoints(&p)
	return p, nil
}

// continued takes over what the watermarks say.
func (in *startInput) continued(p *startPlan) error {
	var missing slot.Set
	first := true
	for i := range p.done {
		s := in.slots.First + slot.Slot(i)
		m, here := in.watermarkOf(s)
		if m == nil {
			missing.Add(s)
			continue
		}
		if !here {
			p.moved.Add(s)
		}
		p.done[i] = max(m.restart, m.applied) - 1
		if first || m.restart < p.offset {
			p.offset, first = m.restart, false
		}
	}
	if !missing.IsEmpty() {
		return in.refuse("empty all slots of this partition, the sink's keys included, and remove consumer group "+in.group+" to fill it anew",
			"the target was filled before and has lost the sink's watermark for slots %s: a part of it was wiped", missing.String())
	}
	for _, m := range in.watermarks {
		p.window = max(p.window, m.sent)
		p.refused = append(p.refused, m.refused...)
		for shard, begin := range m.begins {
			put(&p.begins, shard, begin)
		}
		for shard, g := range m.generations {
			put(&p.generations, shard, max(g, p.generations[shard]))
		}
		for _, s := range m.settled {
			if !slices.Contains(p.settled, s) {
				p.settled = append(p.settled, s)
			}
		}
	}
	slices.Sort(p.settled)
	slices.Sort(p.refused)
	p.refused = slices.Compact(p.refused)
	return nil
}

// notAhead refuses a target that has more than the log: what is written to the log from now on would count as applied.
func (in *startInput) notAhead(offset int64) error {
	for _, m := range in.watermarks {
		offset = max(offset, m.applied)
	}
	for _, c := range in.checkpoints {
		offset = max(offset, c.offset+1)
	}
	if offset <= in.logEnd {
		return nil
	}
	return in.refuse(hintLostEnd,
		"the target has everything before offset %d, and the log ends at %d", offset, in.logEnd)
}

// watermarkOf finds the watermark that vouches for most of a slot, nil if none does. One on the slot's own node goes
// first: it went back with the node if the node lost writes. Another speaks only for slots that were moved away from its
// node meanwhile.
func (in *startInput) watermarkOf(s slot.Slot) (best *watermark, here bool) {
	for at, m := range in.watermarks {
		if !m.slots.Has(s) {
			continue
		}
		lives := in.owner(at) == in.owner(s)
		if best == nil || lives && !here || lives == here && m.applied > best.applied {
			best, here = &m, lives
		}
	}
	return best, here
}

func (in *startInput) raiseToCheckpoints(p *startPlan) {
	for s, c := range in.checkpoints {
		if i := int(s) - int(in.slots.First); i >= 0 && i < len(p.done) {
			p.done[i] = max(p.done[i], c.done())
			if c.parts > 0 {
				if p.parts == nil {
					p.parts = map[slot.Slot]checkpoint{}
				}
				p.parts[s] = c
			}
			p.window = max(p.window, c.offset+1)
		}
	}
	if in.single && len(p.done) > 0 {
		most := slices.Max(p.done)
		for i := range p.done {
			p.done[i] = most
		}
	}
}
