package source

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redriver/redriver/redis/command"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// part is what one slot gets of a unit.
type part struct {
	slot  slot.Slot
	key   []byte // the first one
	count uint32
	bytes []byte // RESP
	// db is the database of the first command, last that of the newest one.
	db, last uint32
	// spread: see event.Event.
	spread bool
	// lent: bytes lies in the unit's buffer. own is the part's memory for commands that do not stand there as they travel.
	lent bool
	own  []byte
}

// meaning is what a unit says once its commands are understood. It is valid until the next call of interpret.
type meaning struct {
	parts []part
	// flush: the unit removes every key of the shard in the database flushed. Nothing else is in it then.
	flush   bool
	flushed database
	// libs are what the unit does to libraries of functions. No writes are beside it.
	libs libraries
	// asked: the master wants an acknowledgement behind the unit.
	asked bool
}

// interpreter tells what the commands of a unit mean. It keeps the selected database and nothing else.
type interpreter struct {
	db uint32
	// single: the source is no cluster; total: and all of it goes into one partition. See single.go.
	single, total bool
	// Of the unit: it is a transaction; how many of its commands are flushes that stand among the others.
	atomic bool
	among  int
	// spread: the keys that locate has found lie in several slots.
	spread bool
	// ask puts the question to the source's own COMMAND GETKEYS, for commands that the table does not know or whose keys
	// it cannot tell.
	ask      func(args [][]byte) ([][]byte, error)
	scripts  *scripts // of the lane
	m        meaning
	idx      []int
	parts    []part // recycled
	dropped  uint64 // PUBLISH and the like: shown in the shard's status
	absolute uint64 // commands whose time to live was made a point in time
}

// interpret reads a unit. Commands that are no writes of keys are taken by name; what is left has keys, all in one slot,
// or is an error: nothing is guessed and nothing skipped.
func (in *interpreter) interpret(u *streamUnit) (*meaning, error) {
	m := &in.m
	m.parts, m.flush, m.asked = in.parts[:0], false, false
	in.among = 0
	in.atomic = u.atomic
	m.libs.reset()
	for _, c := range u.commands {
		args := u.argsOf(c)
		handled, err := in.bookkeeping(args)
		if err != nil {
			return nil, fmt.Errorf("interpret %s at offset %d: %w", describe(args), u.end, err)
		}
		if handled {
			continue
		}
		args, rewritten, err := in.scripts.resolve(args)
		if err != nil {
			return nil, fmt.Errorf("interpret %s at offset %d: %w", describe(u.argsOf(c)), u.end, err)
		}
		info, key, s, err := in.locate(args)
		if err != nil {
			return nil, fmt.Errorf("interpret %s at offset %d: %w", describe(args), u.end, err)
		}
		if key == nil {
			continue
		}
		raw := c.raw
		if rewritten {
			raw = nil
		}
		if info != nil {
			if exact, changed := info.Absolute(args, u.sourceMs()); changed {
				args, raw = exact, nil
				in.absolute++
			}
		}
		if in.spread && !in.total {
			if err := in.divide(args); err != nil {
				return nil, fmt.Errorf("interpret %s at offset %d: %w", describe(args), u.end, err)
			}
			continue
		}
		in.add(s, key, raw, args)
	}
	in.settleFlush()
	in.parts = m.parts
	if m.flush && len(m.parts) > 0 {
		return nil, stop(fmt.Errorf("interpret unit at offset %d: a flush among other writes of one transaction cannot be replayed atomically", u.end))
	}
	if m.libs.count > 0 && (m.flush || len(m.parts) > 0) {
		return nil, stop(fmt.Errorf("interpret unit at offset %d: functions are changed among writes of one transaction, which cannot be replayed atomically", u.end))
	}
	return m, nil
}

// bookkeeping takes the commands that name no keys.
func (in *interpreter) bookkeeping(args [][]byte) (handled bool, err error) {
	name := args[0]
	switch {
	case resp.IsWord(name, "PING"):
	case resp.IsWord(name, "SELECT"):
		if len(args) != 2 {
			return true, stop(errors.New("want one argument"))
		}
		db, err := strconv.ParseUint(string(args[1]), 10, 31)
		if err != nil {
			return true, stop(fmt.Errorf("read database: %w", err))
		}
		in.db = uint32(db)
	case resp.IsWord(name, "REPLCONF"):
		in.m.asked = in.m.asked || len(args) > 1 && resp.IsWord(args[1], "GETACK")
	case resp.IsWord(name, "FLUSHALL"), resp.IsWord(name, "FLUSHDB"):
		return true, in.flush(len(name) == len("FLUSHALL"))
	case resp.IsWord(name, "SWAPDB"):
		return true, in.swap(args)
	case resp.IsWord(name, "FUNCTION"):
		return true, in.m.libs.take(args)
	case resp.IsWord(name, "PUBLISH"), resp.IsWord(name, "SPUBLISH"), resp.IsWord(name, "OPINFO"):
		in.dropped++
	case resp.IsWord(name, "SCRIPT"):
		// The effects of scripts are in the stream, or the scripts are where they run.
		in.scripts.script(args)
		in.dropped++
	default:
		return false, nil
	}
	return true, nil
}

// sourceMs is the master's clock when it carried out the unit. Bytes of a spool that an older version wrote have no stamp:
// for them it is now, by our clock.
func (u *streamUnit) sourceMs() int64 {
	if u.stamp.SourceMs != 0 {
		return u.stamp.SourceMs
	}
	return time.Now().UnixMilli()
}

// locate finds the slot of a command, its first key, and what is known of it, if anything is. A nil key says that there is
// nothing to carry: the command speaks of our own keys alone.
func (in *interpreter) locate(args [][]byte) (info *command.Info, key []byte, s slot.Slot, err error) {
	info, keys, err := in.keys(args)
	if err != nil {
		return nil, nil, 0, err
	}
	ours := 0
	in.spread = false
	for _, k := range keys {
		if own.Is(k) {
			ours++
			continue
		}
		switch ks := slot.Of(k); {
		case key == nil:
			key, s = k, ks
		case ks != s && in.single:
			in.spread = true
		case ks != s:
			return nil, nil, 0, stop(fmt.Errorf("keys lie in slots %d and %d, and this command is not split", s, ks))
		}
	}
	if key != nil && ours > 0 {
		return nil, nil, 0, stop(errors.New("names keys of a sink beside others: keys named redriver!... are reserved"))
	}
	return info, key, s, nil
}

// keys returns what is known of the command, nil if nothing is, and its keys, which alias args.
func (in *interpreter) keys(args [][]byte) (*command.Info, [][]byte, error) {
	info, known := command.Lookup(args[0])
	if known {
		idx, err := info.Keys(args, in.idx[:0])
		in.idx = idx
		if err == nil && len(idx) > 0 {
			return info, pick(args, idx), nil
		}
		if errors.Is(err, command.ErrNoKeys) {
			return nil, nil, stop(errNoKey)
		}
	}
	keys, err := in.ask(args)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the source for its keys: %w", err)
	}
	if len(keys) == 0 {
		return nil, nil, stop(errNoKey)
	}
	return info, keys, nil
}

// pick returns the arguments with those indexes. The common case of one key shares args' memory.
func pick(args [][]byte, idx []int) [][]byte {
	if len(idx) == 1 {
		return args[idx[0] : idx[0]+1]
	}
	keys := make([][]byte, len(idx))
	for i, n := range idx {
		keys[i] = args[n]
	}
	return keys
}

// add appends a command to its slot's part; raw is the command as it came, nil if it came otherwise. Commands that stand
// one behind the other in the unit are not copied.
func (in *interpreter) add(s slot.Slot, key, raw []byte, args [][]byte) {
	p := in.partOf(s, key)
	in.enter(p, s)
	p.count++
	asItCame := len(raw) > 0 && raw[0] == '*'
	switch {
	case asItCame && p.count == 1:
		p.bytes, p.lent = raw, true
		return
	case asItCame && p.lent && cap(p.bytes)-len(p.bytes) == cap(raw):
		// Both reach to the end of one buffer, so raw begins where bytes ends.
		p.bytes = p.bytes[:len(p.bytes)+len(raw)]
		return
	case asItCame:
		p.append(func(dst []byte) []byte { return append(dst, raw...) })
	default:
		p.append(func(dst []byte) []byte { return resp.AppendCommandBytes(dst, args...) })
	}
}

// append adds to a part what does not stand in the unit's buffer: what it has is its own from there on.
func (p *part) append(more func(dst []byte) []byte) {
	if p.lent {
		p.own, p.lent = append(p.own[:0], p.bytes...), false
	}
	p.own = more(p.own)
	p.bytes = p.own
}

func (in *interpreter) partOf(s slot.Slot, key []byte) *part {
	m := &in.m
	for i := range m.parts {
		if p := &m.parts[i]; p.slot == s || in.total {
			if p.key == nil {
				p.slot, p.key = s, key
			}
			return p
		}
	}
	if n := len(m.parts); n < cap(m.parts) {
		m.parts = m.parts[:n+1]
		p := &m.parts[n]
		if cap(p.own) > keepBufferBytes {
			p.own = nil
		}
		*p = part{slot: s, key: key, own: p.own[:0], db: in.db, last: in.db}
		return p
	}
	m.parts = append(m.parts, part{slot: s, key: key, db: in.db, last: in.db})
	return &m.parts[len(m.parts)-1]
}

// forget lets go of the memory of the last unit.
func (in *interpreter) forget() { in.parts, in.m.parts, in.idx = nil, nil, nil }

// errNoKey: writes that name no key are not carried.
var errNoKey = errors.New("it names no key, so there is no slot to carry it to: this version carries writes of keys alone")

const describedBytes = 64

// describe names a command for an error: its name and the start of its first argument, never a value.
func describe(args [][]byte) string {
	if len(args) == 1 {
		return string(bytes.ToUpper(args[0][:min(len(args[0]), describedBytes)]))
	}
	return fmt.Sprintf("%s %q", bytes.ToUpper(args[0][:min(len(args[0]), describedBytes)]), args[1][:min(len(args[1]), describedBytes)])
}
