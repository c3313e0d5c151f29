package sink

import (
	"strings"
)

// verdict is what an answer of the target means for the write it answers.
type verdict int

const (
	applied verdict = iota
	// busy: the node cannot take it now; the same node later.
	busy
	// moved: another node owns the slot, or this one is no master any more: look at the topology again.
	moved
	// asked: this one time another node has to be asked.
	asked
	// split: the slot is being moved and the keys of the write lie on both sides.
	split
	// passable: refused, and of no consequence where the write may have been applied before and is blind.
	passable
	// refused: refused for good.
	refused
)

// judge classes an error line of the target. What it does not know is refused.
func judge(line string) verdict {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "MOVED", "READONLY", "CLUSTERDOWN":
		return moved
	case "ASK":
		return asked
	case "TRYAGAIN":
		return split
	case "LOADING", "MASTERDOWN", "OOM", "MISCONF", "BUSY", "NOREPLICAS", "UNBLOCKED":
		return busy
	case "EXECABORT":
		// "EXECABORT Transaction discarded because of: OOM command not allowed ..." (execCommandAbort in redis
		// src/multi.c); "... because of previous errors" is judged by those errors.
		if _, cause, ok := strings.Cut(rest, "because of: "); ok {
			if v := judge(cause); v != passable {
				return v
			}
		}
		return refused
	case "WRONGTYPE", "BUSYGROUP":
		return passable
	case "ERR":
		if rest == "no such key" || rest == "index out of range" {
			return passable
		}
		if strings.HasPrefix(rest, "max number of clients") {
			return busy
		}
	}
	return refused
}

// refusedHint is the next step for an operator.
func refusedHint(line string) string {
	word, _, _ := strings.Cut(line, " ")
	switch word {
	case "WRONGTYPE":
		return "the key has another type at the target: does somebody else write there?"
	case "NOPERM":
		return "grant the sink's user this command and all keys with ACL SETUSER"
	case "NOAUTH", "WRONGPASS":
		return "check the user name and password of the target"
	case "CROSSSLOT":
		return "the unit's keys lie in several slots; a cluster target cannot take it"
	}
	switch {
	case strings.Contains(line, "DUMP payload version or checksum"):
		return "the target is older than the source and cannot read this encoding"
	case strings.Contains(line, "unknown command"), strings.Contains(line, "unknown subcommand"):
		return "the target is older than the source, or lacks a module"
	}
	return "look at the key at source and target"
}
