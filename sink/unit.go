package sink

import (
	"fmt"
	"strconv"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// unit is what is applied as one: the commands of a unit, or an entry's RESTORE.
type unit struct {
	offset int64
	// part numbers the parts of a record that takes effect in several, from 1 on; 0 for a unit that is all of it, and for
	// the last part.
	part     int
	slot     slot.Slot
	key      []byte
	commands []byte // RESP, one behind the other; aliases the Kafka record where it can
	count    int
	blind    bool
	// passedOver counts commands left out because they name keys of our own shape.
	passedOver int
	// db is the database of the target that the commands begin in, last the one they end in, more those between.
	db, last uint32
	more     []uint32
}

// scratch is what reading a unit needs for a moment. It is used again for the next one.
type scratch struct {
	args       [][]byte
	held, kept []byte
}

// keepScratchBytes is what a scratch may hold on to.
const keepScratchBytes = 256 << 10

// read makes u the unit of an event, with expiry times later by holdMs.
func (u *unit) read(e *event.Event, offset, holdMs int64, v *values, s *scratch) error {
	if e.Kind == event.Entry {
		return v.entry(u, e, offset)
	}
	*u = unit{offset: offset, slot: e.Slot, key: e.Key, commands: e.Commands, blind: true}
	if err := u.inspect(int(e.Count), holdMs, v, s); err != nil {
		return err
	}
	u.splitLarge(&s.args)
	return nil
}

// inspect walks over the commands, finds out whether all are blind, and leaves out those that name keys of our own shape:
// what another redriver keeps at the source is no user's data, and must never meet our own keys. Expiry times are held, and
// what the target is too old for is written as it understands it.
func (u *unit) inspect(want int, holdMs int64, v *values, s *scratch) error {
	rest := u.commands
	kept := s.kept[:0] // valid once changed
	changed := false
	change := func() {
		if !changed {
			changed = true
			kept = append(kept, u.commands[:len(u.commands)-len(rest)]...)
		}
	}
	seen := 0
	for ; len(rest) > 0; seen++ {
		n, args, err := resp.ParseCommand(rest, s.args[:0])
		if err != nil {
			return fmt.Errorf("parse command %d of unit: %w", seen+1, err)
		}
		s.args = args
		if len(args) == 0 {
			return fmt.Errorf("parse command %d of unit: it is empty", seen+1)
		}
		raw := rest[:n]
		if len(args) > 1 && own.Is(args[1]) {
			change()
			u.passedOver++
			rest = rest[n:]
			continue
		}
		blind := isBlind(args)
		held, ok := holdExpiry(s.held[:0], args, holdMs)
		if ok {
			change()
			raw, s.held = held, held
		}
		count := 1
		if t, err := v.command(args, held); err != nil {
			return err
		} else if t != nil {
			change()
			raw, count, blind = t.dst, t.n, blind && t.sameKind
		}
		if changed {
			kept = append(kept, raw...)
		}
		u.count += count
		u.blind = u.blind && blind
		rest = rest[n:]
	}
	if seen != want {
		return fmt.Errorf("unit holds %d commands, not %d", seen, want)
	}
	if cap(s.held) > keepScratchBytes {
		s.held = nil
	}
	switch {
	case !changed:
	case cap(kept) > keepScratchBytes: // not copied: it is the unit's
		u.commands, s.kept = kept, nil
	default:
		u.commands, s.kept = v.keep(kept), kept
	}
	return nil
}

// restoreOverhead is more than a RESTORE holds beside key and value.
const restoreOverhead = 160

// appendRestore appends the RESTORE that puts an entry in place of whatever is there.
func appendRestore(dst []byte, e *event.Event) []byte {
	dst = appendRestoreHead(dst, e, len(e.Value))
	dst = rdb.AppendPayload(dst, e.Type, e.Value, int(e.RDBVersion))
	return appendRestoreTail(dst, e)
}

// appendRestoreHead appends what stands before the payload, whose value has so many bytes.
func appendRestoreHead(dst []byte, e *event.Event, valueBytes int) []byte {
	const payloadFrame = 1 + 2 + 8 // type, version, checksum
	n := 5
	if e.ExpireAtMs > 0 {
		n++
	}
	if e.IdleSeconds >= 0 || e.Freq >= 0 {
		n += 2
	}
	dst = resp.AppendArrayHeader(dst, n)
	dst = resp.AppendBulkString(dst, "RESTORE")
	dst = resp.AppendBulk(dst, e.Key)
	dst = resp.AppendBulkInt(dst, max(e.ExpireAtMs, 0))
	return appendBulkHeader(dst, payloadFrame+valueBytes)
}

// appendRestoreTail appends what stands behind the payload.
func appendRestoreTail(dst []byte, e *event.Event) []byte {
	dst = append(dst, '\r', '\n')
	dst = resp.AppendBulkString(dst, "REPLACE")
	if e.ExpireAtMs > 0 {
		dst = resp.AppendBulkString(dst, "ABSTTL")
	}
	switch {
	case e.IdleSeconds >= 0:
		dst = resp.AppendBulkString(dst, "IDLETIME")
		dst = resp.AppendBulkInt(dst, e.IdleSeconds)
	case e.Freq >= 0:
		dst = resp.AppendBulkString(dst, "FREQ")
		dst = resp.AppendBulkInt(dst, int64(e.Freq))
	}
	return dst
}

// setOverhead is more than a SET holds beside key and value.
const setOverhead = 100

// appendSet appends the SET that puts an entry in place of whatever is there.
func appendSet(dst []byte, e *event.Event, text []byte) []byte {
	n := 3
	if e.ExpireAtMs > 0 {
		n += 2
	}
	dst = resp.AppendArrayHeader(dst, n)
	dst = resp.AppendBulkString(dst, "SET")
	dst = resp.AppendBulk(dst, e.Key)
	dst = resp.AppendBulk(dst, text)
	if e.ExpireAtMs > 0 {
		dst = resp.AppendBulkString(dst, "PXAT")
		dst = resp.AppendBulkInt(dst, e.ExpireAtMs)
	}
	return dst
}

func appendBulkHeader(dst []byte, n int) []byte {
	dst = strconv.AppendInt(append(dst, '$'), int64(n), 10)
	return append(dst, '\r', '\n')
}

// commandAt is the name of the i-th command of the unit, for messages.
func (u *unit) commandAt(i int) string {
	rest := u.commands
	for {
		n, args, err := resp.ParseCommand(rest, nil)
		if err != nil || len(args) == 0 {
			return "a command"
		}
		if i == 0 {
			return fmt.Sprintf("%.40s", args[0])
		}
		i--
		rest = rest[n:]
	}
}
