package sink

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// A unit whose commands need keys of several slots of a cluster at once (RENAME, SUNIONSTORE, LMOVE, ...) is worked out at
// the target while the partition is held: everything before it is acknowledged, nothing behind it is sent.
//
//	(1) Copies of all its keys are put into one slot (DUMP, RESTORE), the commands are carried out on the copies there.
//	(2) What has become of each key is put beside it, under a staging key of its own slot.
//	(3) A plan is written: what is to be done with each key, and that the staging keys are complete.
//	(4) Slot by slot the staging keys take the place of the keys, in one transaction with the slot's checkpoint.
//	(5) The plan is removed. Copies that a crash leaves behind go with Finish at the latest.
//
// After a crash the checkpoints of the slots and the plan tell where to go on: with a plan only (4) and (5) are left, and
// (4) only where the checkpoint is lower than the unit; without one nothing has been changed, unless all of it has.

// stagingBase is where the numbers of the staging keys of spread.go begin; lower ones belong to values built in pieces.
const stagingBase = 1 << 40

// planVersion begins a plan: "1 <topic id> <offset> <outcome>,...", one outcome for each key of the unit.
const planVersion = "1"

// The outcomes: a key is as it was, is gone, or is replaced and then expires at a time or never (0).
const (
	outcomeSame = "s"
	outcomeGone = "g"
	outcomePut  = "p" // followed by the time
)

func (w *worker) copyKey(i int, s slot.Slot) []byte {
	return own.StagingKey(w.s.cfg.Name, stagingBase+1+2*uint64(i), s)
}

func (w *worker) stagingKey(i int, key []byte) []byte {
	return own.StagingKey(w.s.cfg.Name, stagingBase+2+2*uint64(i), slot.Of(key))
}

func (w *worker) planKey() []byte { return own.StagingKey(w.s.cfg.Name, stagingBase, w.slots.First) }

// spread works out a unit. It is called again after an error that passes.
func (w *worker) spread(ctx context.Context, c *control) error {
	done, all, err := w.doneSlots(c)
	if err != nil {
		return err
	}
	outcomes, planned, err := w.readPlan(c)
	if err != nil {
		return err
	}
	switch {
	case planned:
	case len(done) == len(all):
		return nil
	case len(done) > 0:
		return classed(Stop, "apply %s at partition %d offset %d: it is done in some of its slots, and the plan of the rest is lost: the target has lost "+
			"writes that it acknowledged; give the sink another name and an empty target", c.unit.commandAt(0), w.partition, c.offset)
	default:
		if outcomes, err = w.workOut(ctx, c); err != nil {
			return err
		}
	}
	if err := w.commitSpread(ctx, c, outcomes, done, all); err != nil {
		return err
	}
	w.stat.units.Add(1)
	return w.tidySpread()
}

// doneSlots are the slots of the unit whose checkpoint vouches for it, and all of them in order.
func (w *worker) doneSlots(c *control) (done map[slot.Slot]bool, all []slot.Slot, err error) {
	done = map[slot.Slot]bool{}
	seen := map[slot.Slot]bool{}
	for _, k := range c.keys {
		s := slot.Of(k)
		if seen[s] {
			continue
		}
		if s < w.slots.First || s > w.slots.Last {
			return nil, nil, classed(Stop, "apply %s: slot %d belongs to another partition: units over several slots need a topic with one", c.unit.commandAt(0), s)
		}
		seen[s] = true
		all = append(all, s)
		if err := w.ask(s, func(r resp.Reply) error {
			if r.IsNull() {
				return nil
			}
			point, err := parseCheckpoint(string(r.Str))
			if err == nil && point.offset >= c.offset {
				done[s] = true
			}
			return err
		}, []byte("GET"), own.Key(own.Checkpoint, w.s.cfg.Name, s)); err != nil {
			return nil, nil, err
		}
	}
	return done, all, nil
}

func (w *worker) readPlan(c *control) (outcomes []string, ok bool, err error) {
	var text string
	if err := w.ask(w.slots.First, func(r resp.Reply) error {
		text = string(r.Str)
		return nil
	}, []byte("GET"), w.planKey()); err != nil {
		return nil, false, err
	}
	f := strings.Split(text, " ")
	if len(f) != 4 || f[0] != planVersion || f[1] != w.s.topic.ID || f[2] != itoa(c.offset) {
		return nil, false, nil // none, or that of an earlier unit
	}
	if outcomes = strings.Split(f[3], ","); len(outcomes) != len(c.keys) {
		return nil, false, classed(Stop, "read plan of partition %d offset %d: %w", w.partition, c.offset, errRecord)
	}
	return outcomes, true, nil
}

// dumped is a key's value, "" if it does not exist, and when it expires, 0 for never.
type dumped struct {
	payload  string
	expireAt int64
}

// workOut does (1) to (3).
func (w *worker) workOut(ctx context.Context, c *control) ([]string, error) {
	before := make([]dumped, len(c.keys))
	for i, k := range c.keys {
		if err := w.ask(slot.Of(k), func(r resp.Reply) error {
			before[i].payload = string(r.Str)
			return nil
		}, []byte("DUMP"), k); err != nil {
			return nil, err
		}
		if before[i].payload == "" {
			continue
		}
		if err := w.ask(slot.Of(k), func(r resp.Reply) error {
			before[i].expireAt = max(r.Int, 0)
			return nil
		}, []byte("PEXPIRETIME"), k); err != nil {
			return nil, err
		}
	}
	copied, after, err := w.carryOutAside(c, before)
	if err != nil {
		return nil, err
	}
	outcomes := make([]string, len(c.keys))
	var runs []*run
	for i, k := range c.keys {
		switch {
		case after[i] == copied[i]:
			outcomes[i] = outcomeSame
		case after[i].payload == "":
			outcomes[i] = outcomeGone
		default:
			outcomes[i] = outcomePut + itoa(after[i].expireAt)
			// Without its time: it must not vanish before it is in its place.
			runs = append(runs, w.ownRun(c, slot.Of(k), "RESTORE", string(w.stagingKey(i, k)), "0", after[i].payload, "REPLACE"))
		}
	}
	if err := w.apply(ctx, runs, c.offset+1); err != nil {
		return nil, err
	}
	plan := strings.Join([]string{planVersion, w.s.topic.ID, itoa(c.offset), strings.Join(outcomes, ",")}, " ")
	return outcomes, w.apply(ctx, []*run{w.ownRun(c, w.slots.First, "SET", string(w.planKey()), plan)}, c.offset+1)
}

// ownRun writes one of our own keys.
func (w *worker) ownRun(c *control, s slot.Slot, args ...string) *run {
	cmd := resp.AppendCommand(nil, args...)
	return &run{slot: s, bare: true, units: []*unit{{offset: c.offset, slot: s, key: []byte(args[1]), commands: cmd, count: 1, blind: true}}}
}

// carryOutAside carries the commands out on copies in one slot, and returns what these were and what has become of them.
// The copies are dumped too, since equal values of two servers need not have equal payloads. It is one request: whatever
// goes wrong, nothing but copies was touched.
func (w *worker) carryOutAside(c *control, before []dumped) (copied, after []dumped, err error) {
	bench := slot.Of(c.keys[0])
	names := map[string][]byte{}
	var q request
	for i, k := range c.keys {
		names[string(k)] = w.copyKey(i, bench)
		q.addBytes([]byte("UNLINK"), names[string(k)])
		if b := before[i]; b.payload != "" {
			q.addBytes([]byte("RESTORE"), names[string(k)], []byte(itoa(b.expireAt)), []byte(b.payload), []byte("ABSTTL"))
		}
	}
	look := func() (from int) {
		from = q.n
		for i := range c.keys {
			q.addBytes([]byte("DUMP"), w.copyKey(i, bench))
			q.addBytes([]byte("PEXPIRETIME"), w.copyKey(i, bench))
		}
		return from
	}
	lookBefore := look()
	first := q.n
	q.add("MULTI")
	for rest := c.unit.commands; len(rest) > 0; {
		n, args, err := resp.ParseCommand(rest, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("parse command of unit: %w", err)
		}
		rest = rest[n:]
		_, idx, err := keysOf(args)
		if err != nil {
			return nil, nil, err
		}
		for _, i := range idx {
			if name, ok := names[string(args[i])]; ok { // a position may come twice
				args[i] = name
			}
		}
		q.addBytes(args...)
	}
	q.add("EXEC")
	exec := q.n - 1
	lookAfter := look()
	for i := range c.keys {
		q.addBytes([]byte("UNLINK"), w.copyKey(i, bench))
	}
	copied, after = make([]dumped, len(c.keys)), make([]dumped, len(c.keys))
	conn := w.conns[w.ownerOf(bench)]
	if conn == nil {
		return nil, nil, errTopology
	}
	err = conn.do(&q, func(i int, r resp.Reply) error {
		switch {
		case r.Kind == resp.KindError:
			return w.asideError(c, string(r.Str), max(i-first-1, 0))
		case i == exec:
			for n, e := range r.Elems {
				if e.Kind == resp.KindError {
					return w.asideError(c, string(e.Str), n)
				}
			}
		default:
			take(copied, i-lookBefore, r)
			take(after, i-lookAfter, r)
		}
		return nil
	})
	return copied, after, err
}

// take reads the n-th answer to DUMP and PEXPIRETIME of each key; any other n is not one of them.
func take(in []dumped, n int, r resp.Reply) {
	switch {
	case n < 0 || n >= 2*len(in):
	case n%2 == 0:
		in[n/2].payload = string(r.Str)
	default:
		in[n/2].expireAt = max(r.Int, 0)
	}
}

func (w *worker) asideError(c *control, line string, i int) error {
	if v := judge(line); v == refused || v == passable {
		return w.refusal(line, c.unit, min(i, c.unit.count-1), false)
	}
	return fmt.Errorf("%w: %s", errTopology, line)
}

// commitSpread does (4).
func (w *worker) commitSpread(ctx context.Context, c *control, outcomes []string, done map[slot.Slot]bool, all []slot.Slot) error {
	var runs []*run
	for _, s := range all {
		if done[s] {
			continue
		}
		u := &unit{offset: c.offset, slot: s, key: c.unit.key}
		add := func(args ...string) {
			u.commands = resp.AppendCommand(u.commands, args...)
			u.count++
		}
		for i, k := range c.keys {
			if slot.Of(k) != s || outcomes[i] == outcomeSame {
				continue
			}
			add("UNLINK", string(k))
			at, put := strings.CutPrefix(outcomes[i], outcomePut)
			if !put {
				continue
			}
			add("RENAME", string(w.stagingKey(i, k)), string(k))
			if ms, err := strconv.ParseInt(at, 10, 64); err == nil && ms > 0 {
				add("PEXPIREAT", string(k), at)
			}
		}
		runs = append(runs, &run{slot: s, guarded: true, units: []*unit{u}})
	}
	return w.apply(ctx, runs, c.offset+1)
}

// tidySpread does (5). What a crash leaves of it is written over by the next unit.
func (w *worker) tidySpread() error {
	return w.ask(w.slots.First, func(resp.Reply) error { return nil }, []byte("UNLINK"), w.planKey())
}
