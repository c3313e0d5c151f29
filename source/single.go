package source

import (
	"errors"
	"fmt"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/command"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// What is different outside a cluster: one master is one shard with all slots, it has several databases, and its commands
// may have keys of several slots.
//
// With one partition the log has the master's own total order, and a unit is one record whatever its keys. With more, the
// order holds by slot: a command is divided where each of its keys gets a command of its own, and refused otherwise.

const singlePartitions = 1

// PartitionsOf is the number of partitions of the data topic if so many are asked for; 0 leaves it to the kind of source. others
// tells that a topic that exists may have another number.
func PartitionsOf(asked int32, single bool) (n int32, others bool) {
	switch {
	case asked > 0:
		return asked, false
	case single: // a log in another order than expected is an error
		return singlePartitions, false
	}
	return defaultPartitions, true
}

// database says which one an event is about.
type database struct {
	number uint32
	all    bool
}

// errPartitions: the order of one slot does not say in which order other slots saw it.
var errPartitions = errors.New("with several partitions the order holds by slot only: topic.partitions: 1 (and another topic.prefix) keeps the order of all")

// flush takes FLUSHALL or FLUSHDB. In a transaction of a log in total order it stands among the other commands.
func (in *interpreter) flush(all bool) error {
	of := database{number: in.db, all: all}
	if in.total && in.atomic {
		name := "FLUSHDB"
		if all {
			name = "FLUSHALL"
		}
		in.among++
		in.m.flushed = of
		in.keyless([]byte(name))
		return nil
	}
	if in.m.flush && !of.all && (in.m.flushed.all || in.m.flushed != of) {
		return stop(errors.New("several databases are flushed in one transaction"))
	}
	in.m.flush, in.m.flushed = true, of
	return nil
}

// swap takes SWAPDB, which has no key.
func (in *interpreter) swap(args [][]byte) error {
	if !in.total {
		return stop(fmt.Errorf("it changes all slots: %w", errPartitions))
	}
	in.keyless(args...)
	return nil
}

// keyless appends a command without keys to the one part that there is.
func (in *interpreter) keyless(args ...[]byte) {
	p := in.partOf(0, nil)
	in.enter(p, p.slot)
	p.count++
	p.spread = true
	p.append(func(dst []byte) []byte { return resp.AppendCommandBytes(dst, args...) })
}

// settleFlush makes a flush of a transaction that holds nothing else.
func (in *interpreter) settleFlush() {
	m := &in.m
	if in.among == 1 && len(m.parts) == 1 && m.parts[0].count == 1 {
		m.flush, m.parts = true, m.parts[:0]
	}
}

// enter prepares a part for a command of slot s: it begins or goes on in the database that is selected.
func (in *interpreter) enter(p *part, s slot.Slot) {
	if p.last != in.db {
		p.last = in.db
		p.count++
		p.append(func(dst []byte) []byte {
			dst = resp.AppendArrayHeader(dst, 2)
			dst = resp.AppendBulkString(dst, "SELECT")
			return resp.AppendBulkInt(dst, int64(in.db))
		})
	}
	p.spread = p.spread || s != p.slot || in.spread && in.total
}

// divide gives each slot its own part of a command.
func (in *interpreter) divide(args [][]byte) error {
	parts, err := command.Divide(args)
	if err != nil {
		return stop(fmt.Errorf("its keys lie in several slots, and it cannot be divided: %w", errPartitions))
	}
	in.spread = false
	for _, d := range parts {
		p := in.partOf(d.Slot, d.Args[firstKeyOf(d.Args)])
		in.enter(p, d.Slot)
		p.count++
		p.append(func(dst []byte) []byte { return resp.AppendCommandBytes(dst, d.Args...) })
	}
	return nil
}

func firstKeyOf(args [][]byte) int {
	if resp.IsWord(args[0], "MSETEX") {
		return 2
	}
	return 1
}

// isCluster reads what a server says of itself in INFO; Valkey calls it server_mode.
func isCluster(info topology.Info) bool {
	return info["redis_mode"] == "cluster" || info["server_mode"] == "cluster" || info["cluster_enabled"] == "1"
}

// beforeEnd is what may be acknowledged to a master outside a cluster. FAILOVER without a target chooses whoever has
// acknowledged all (updateFailoverStatus in redis src/replication.c), and must
// never choose us: what the master has is at least what we have received, and one byte less is acknowledged.
func (l *link) beforeEnd(committed event.Offset) event.Offset {
	if last, ok := l.spool.Last(); ok {
		committed = min(committed, last.End()-1)
	}
	return max(committed, 0)
}
