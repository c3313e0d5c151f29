package sink

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redriver/redriver/redis/resp"
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
	case strings.Contains(line, "invalid bulk length"):
		return "a value or argument is larger than the target's proto-max-bulk-len: raise that, or lower restore.bytes"
	}
	return "look at the key at source and target"
}

// answer is what the target made of one shipment.
type answer struct {
	verdict verdict
	reply   string
	// refused are the commands that were refused for good, one of each unit: several only within a transaction that was
	// executed.
	refused []*RefusedError
	// missing: nothing was written, since there was nothing to replace.
	missing bool
}

// The answers that are to be expected.
const (
	answerOK     = "+OK\r\n"
	answerQueued = "+QUEUED\r\n"
)

func (w *worker) receiveOne(c *conn, s *shipment) (answer, error) {
	if c.broken {
		return answer{}, errLostConn
	}
	var first answer // the first trouble: it decides for the whole shipment
	// one reads an answer to command i of a unit.
	one := func(expected string, u *unit, i int) (r resp.Reply, err error) {
		if expected != "" && c.rd.Accept(expected) {
			return resp.Reply{Kind: resp.KindSimple}, nil
		}
		if r, err = c.read(); err == nil && r.Kind == resp.KindError && first.verdict == applied {
			first = w.weigh(string(r.Str), u, i, false)
		}
		return r, err
	}
	front := s.units[0]
	if s.asking {
		if _, err := one(answerOK, front, 0); err != nil {
			return answer{}, err
		}
	}
	r, err := one(answerOK, front, 0)
	if err != nil || !s.multi {
		first.missing = err == nil && r.IsNull()
		return first, err
	}
	for _, u := range s.steps {
		for i := range u.count {
			if _, err := one(answerQueued, u, i); err != nil {
				return answer{}, err
			}
		}
	}
	if s.checkpoint {
		if _, err := one(answerQueued, front, 0); err != nil {
			return answer{}, err
		}
	}
	if r, err = one("", front, 0); err != nil {
		return answer{}, err
	}
	if r.Kind != resp.KindArray {
		if first.verdict == applied && first.refused == nil {
			return answer{}, fmt.Errorf("%w: answer to EXEC makes no sense", errLostConn)
		}
		return first, nil
	}
	return w.executed(s, r.Elems), nil
}

// executed looks at the answers inside EXEC: the transaction has taken effect, but for the commands that failed.
func (w *worker) executed(s *shipment, replies []resp.Reply) (all answer) {
	i := 0
	for _, u := range s.steps {
		for n := range u.count {
			if i < len(replies) && replies[i].Kind == resp.KindError && !all.names(u) {
				if line := string(replies[i].Str); w.weigh(line, u, n, true).verdict != applied {
					all.verdict, all.refused = refused, append(all.refused, w.refusal(line, u, n, true))
				}
			}
			i++
		}
	}
	return all
}

// names tells whether the last refusal is one of the unit.
func (a *answer) names(u *unit) bool {
	n := len(a.refused)
	return n > 0 && a.refused[n-1].Offset == u.offset
}

// weigh judges an error of a command.
func (w *worker) weigh(line string, u *unit, i int, exec bool) answer {
	v := judge(line)
	if v == passable && u.blind && u.offset < w.window && !slices.Contains(w.refused, u.offset) {
		w.stat.passedOver.Add(1)
		return answer{}
	}
	if v == passable || v == refused {
		return answer{verdict: refused, reply: line, refused: []*RefusedError{w.refusal(line, u, i, exec)}}
	}
	return answer{verdict: v, reply: line}
}

func (w *worker) refusal(line string, u *unit, i int, exec bool) *RefusedError {
	return &RefusedError{
		Partition: w.partition, Offset: u.offset, Command: u.commandAt(i), Key: u.key, Reply: line, Exec: exec,
	}
}
