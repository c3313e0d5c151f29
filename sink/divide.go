package sink

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/command"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// A unit of a log in total order may have keys of several slots. A single target takes it as it is. At a cluster
//
//	(1) a unit of commands that each have one slot, or are divided by key (DEL, UNLINK, MSET), becomes one unit for each
//	    slot. What is in one slot stays atomic; that another slot is a moment behind cannot be seen in a cluster.
//	(2) any other is worked out at the target between two batches, see spread.go.

// SpreadError tells that a cluster cannot be given what a unit does to keys of several slots.
type SpreadError struct {
	Command string
	Why     string
}

func (e *SpreadError) Error() string {
	return fmt.Sprintf("apply %s, whose keys lie in several slots of the target: %s (a single server as target takes it as it is)", e.Command, e.Why)
}

// divided is what a unit is at a cluster.
type divided struct {
	// parts are units of one slot each; whole says that these do not do.
	parts []*unit
	whole bool
	// keys of all commands, each once, in order.
	keys [][]byte
}

// divide takes a unit apart. What it returns aliases the unit.
func (u *unit) divide() (*divided, error) {
	d := &divided{}
	seen := map[string]bool{}
	for rest := u.commands; len(rest) > 0; {
		n, args, err := resp.ParseCommand(rest, nil)
		if err != nil {
			return nil, fmt.Errorf("parse command of unit: %w", err)
		}
		raw := rest[:n]
		rest = rest[n:]
		info, idx, err := keysOf(args)
		if err != nil {
			return nil, err
		}
		first, several := slot.Of(args[idx[0]]), false
		for _, i := range idx {
			several = several || slot.Of(args[i]) != first
			if k := args[i]; !seen[string(k)] {
				seen[string(k)] = true
				d.keys = append(d.keys, k)
			}
		}
		if !several {
			d.add(u, first, args[idx[0]], raw, isBlind(args))
			continue
		}
		parts, err := command.Divide(args)
		if errors.Is(err, command.ErrIndivisible) {
			if err := canWorkOut(info, args); err != nil {
				return nil, err
			}
			d.whole = true
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("divide %s: %w", nameOf(args), err)
		}
		for _, p := range parts {
			_, idx, err := keysOf(p.Args)
			if err != nil {
				return nil, err
			}
			d.add(u, p.Slot, p.Args[idx[0]], resp.AppendCommandBytes(nil, p.Args...), isBlind(p.Args))
		}
	}
	return d, nil
}

func keysOf(args [][]byte) (*command.Info, []int, error) {
	info, ok := command.Resolve(args)
	if !ok {
		return nil, nil, &SpreadError{nameOf(args), "this version does not know the command's keys"}
	}
	idx, err := info.Keys(args, nil)
	if err != nil {
		return nil, nil, &SpreadError{nameOf(args), err.Error()}
	}
	return info, idx, nil
}

// canWorkOut refuses what reads keys that its arguments do not name.
func canWorkOut(info *command.Info, args [][]byte) error {
	if info.Split != command.SplitEmulate {
		return &SpreadError{nameOf(args), "what it does to which key shows only when it is executed"}
	}
	if resp.IsWord(args[0], "SORT") {
		for i := 2; i+1 < len(args); i++ {
			if (resp.IsWord(args[i], "BY") || resp.IsWord(args[i], "GET")) && bytes.IndexByte(args[i+1], '*') >= 0 {
				return &SpreadError{"SORT", "it reads keys by a pattern"}
			}
		}
	}
	return nil
}

func (d *divided) add(u *unit, s slot.Slot, key, raw []byte, blind bool) {
	for _, p := range d.parts {
		if p.slot == s {
			p.commands = append(p.commands, raw...)
			p.count++
			p.blind = p.blind && blind
			return
		}
	}
	d.parts = append(d.parts, &unit{offset: u.offset, slot: s, key: key, commands: bytes.Clone(raw), count: 1, blind: blind})
}

// addSpread takes a unit with keys of several slots for a cluster.
func (in *intake) addSpread(b *batch, u *unit) error {
	d, err := u.divide()
	if err != nil {
		return err
	}
	if d.whole {
		b.then, b.over = &control{kind: event.Unit, offset: u.offset, unit: u, keys: d.keys}, true
		return nil
	}
	var parts []*unit
	for _, p := range d.parts {
		if slot.Partition(p.slot, in.partitions) != in.partition {
			return fmt.Errorf("slot %d of a unit over several slots belongs to another partition: such units need a topic with one", p.slot)
		}
		if !in.isDone(p.slot, u.offset, 0) {
			parts = append(parts, p)
		}
	}
	fits := true
	for _, p := range parts {
		fits = fits && b.fits(p, in.limits)
	}
	switch {
	case len(parts) == 0:
		in.skipped++
	case fits:
		for _, p := range parts {
			b.add(p)
		}
	default:
		in.held, in.heldMore, in.heldNext, b.over = parts[0], parts[1:], u.offset+1, true
	}
	return nil
}
