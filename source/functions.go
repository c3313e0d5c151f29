package source

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/source/spool"
)

// Libraries of functions belong to no key: every master has its own set, and tools load the same into all of them. What
// travels are three commands that may be repeated, FUNCTION LOAD REPLACE, DELETE and FLUSH, once for each shard; so at the
// target the last word on a library is that of all shards, in whatever order their lanes arrive.

// libraries gathers such commands.
type libraries struct {
	commands []byte
	count    uint32
}

func (l *libraries) reset() { l.commands, l.count = l.commands[:0], 0 }

func (l *libraries) load(code []byte) error {
	l.commands = resp.AppendCommandBytes(l.commands, []byte("FUNCTION"), []byte("LOAD"), []byte("REPLACE"), code)
	l.count++
	return nil
}

func (l *libraries) add(args ...[]byte) {
	l.commands = resp.AppendCommandBytes(l.commands, args...)
	l.count++
}

// take understands a FUNCTION command of the stream. RESTORE is taken apart: an older target could not read its payload.
func (l *libraries) take(args [][]byte) error {
	wants := func(n int, sub string) bool { return len(args) >= n && resp.IsWord(args[1], sub) }
	switch {
	case wants(3, "LOAD"):
		return l.load(args[len(args)-1])
	case wants(3, "DELETE"):
		l.add([]byte("FUNCTION"), []byte("DELETE"), args[2])
	case wants(2, "FLUSH"):
		l.add([]byte("FUNCTION"), []byte("FLUSH"))
	case wants(3, "RESTORE"):
		if len(args) > 3 && resp.IsWord(args[3], "FLUSH") {
			l.add([]byte("FUNCTION"), []byte("FLUSH"))
		}
		if err := rdb.Libraries(args[2], l.load); err != nil {
			return stop(fmt.Errorf("read payload: %w", err))
		}
	default:
		return stop(errors.New("this version does not know it"))
	}
	return nil
}

// functions emits commands about libraries into the first partition of the slots.
func (m *emitter) functions(begin, end event.Offset, l *libraries, slots *slot.Set) {
	e := &m.e
	for p, ranges := range byPartition(slots, m.partitions) {
		if len(ranges) == 0 {
			continue
		}
		e.Kind, e.Begin, e.End, e.Atomic, e.Slot, e.DB, e.Key = event.Functions, begin, end, false, 0, 0, nil
		e.Commands, e.Count = l.commands, l.count
		e.Slots = append(e.Slots[:0], ranges...)
		m.captured(0)
		m.chained(int32(p))
		break
	}
}

// functionsOfSnapshot emits the libraries of a snapshot behind its end, as the second of two parts that share the offset.
func (m *emitter) functionsOfSnapshot(at event.Offset, l *libraries, slots *slot.Set) {
	if l.count == 0 {
		return
	}
	m.e.Part, m.e.Parts = 1, 2
	m.functions(at, at, l, slots)
	m.e.Part, m.e.Parts = 0, 0
}

// What a source does about data of modules that belongs to no key.
const (
	// ModuleAuxStop stops the shard. It is the default.
	ModuleAuxStop = "stop"
	// ModuleAuxSkip leaves it out and counts it.
	ModuleAuxSkip = "skip"
)

func (p *publisher) moduleAux(aux rdb.ModuleAux, sec spool.Section) error {
	name, _ := rdb.ModuleName(aux.ModuleID)
	if p.cfg.ModuleAux != ModuleAuxSkip {
		return stop(fmt.Errorf("publish snapshot of shard %d: module type %s keeps data outside of keys, which no command can bring to a target: "+
			"remove it at the source, or set module.aux: skip", p.shard, name))
	}
	p.status.update(func(s *Snapshot) { s.SkippedAux++ })
	if p.auxTold != sec.Number {
		p.auxTold = sec.Number
		p.log.Warn("data of a module that belongs to no key is left out", slog.String("type", name))
	}
	return nil
}
