package sink

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// raiseFences makes the partition ours, or checks that it still is.
//
// Taking over raises every fence that is there, not only those of the first slots: a predecessor that sees an older
// topology would look at another slot's. Resuming compares each with what it was raised to, and raises those of slots
// that have become first slots since.
func (w *worker) raiseFences(takeOver bool) error {
	found := map[slot.Slot]int64{}
	err := w.readKind(own.Fence, func(s slot.Slot, text string) error {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return classed(Stop, "read fence of slot %d: %q is no number", s, text)
		}
		found[s] = n
		return nil
	})
	if err != nil {
		return err
	}
	raise := map[slot.Slot]bool{}
	for _, s := range w.firsts() {
		if _, ok := w.fences[s]; takeOver || !ok {
			raise[s] = true
		}
	}
	for s, n := range found {
		if takeOver {
			raise[s] = true
		} else if mine, ok := w.fences[s]; ok && n != mine {
			return classed(Fenced, "fence of slot %d is at %d, ours was %d", s, n, mine)
		}
	}
	for s := range w.fences {
		if _, ok := found[s]; !ok {
			return classed(Resync, "the target has lost the fence in slot %d", s)
		}
	}
	for s := range raise {
		if err := w.ask(s, func(r resp.Reply) error {
			w.fences[s] = r.Int
			w.epoch = max(w.epoch, r.Int)
			return nil
		}, []byte("INCR"), own.Key(own.Fence, w.s.cfg.Name, s)); err != nil {
			return err
		}
	}
	for _, c := range w.conns {
		var q request
		q.add("CLIENT", "SETNAME", clientName(w.s.cfg.Name, w.partition, w.epoch))
		if err := c.do(&q, serverErr(c)); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) killOthers() error {
	for _, c := range w.conns {
		if err := w.killAt(c); err != nil {
			return err
		}
	}
	return nil
}

// noClient is the id of no connection: to end it shows that we may, before that matters.
const noClient = "9223372036854775807"

// killAt ends every connection of this partition to a node but our own: those of a predecessor, and those of ours that are
// lost, whose bytes may still be on their way.
func (w *worker) killAt(c *conn) error {
	var list string
	var self int64
	var q request
	q.add("CLIENT", "ID")
	q.add("CLIENT", "LIST")
	if err := c.do(&q, func(i int, r resp.Reply) error {
		if i == 0 {
			self = r.Int
		} else {
			list = string(r.Str)
		}
		return serverErr(c)(i, r)
	}); err != nil {
		return err
	}
	q = request{}
	q.add("CLIENT", "KILL", "ID", noClient)
	for line := range strings.Lines(list) {
		var id, name string
		for field := range strings.FieldsSeq(line) {
			if v, ok := strings.CutPrefix(field, "id="); ok {
				id = v
			} else if v, ok := strings.CutPrefix(field, "name="); ok {
				name = v
			}
		}
		if isClientOf(name, w.s.cfg.Name, w.partition) && id != strconv.FormatInt(self, 10) {
			q.add("CLIENT", "KILL", "ID", id)
		}
	}
	return c.do(&q, func(i int, r resp.Reply) error {
		if r.Kind == resp.KindError && strings.Contains(string(r.Str), "No such client") {
			return nil
		}
		return serverErr(c)(i, r)
	})
}

// serverErr turns an error answer into an error: what the user may not do needs a person.
func serverErr(c *conn) func(int, resp.Reply) error {
	return func(_ int, r resp.Reply) error {
		err := r.Err()
		if err == nil {
			return nil
		}
		line := string(r.Str)
		if judge(line) == refused || judge(line) == passable {
			return classed(Stop, "prepare target node %s: %w (%s)", c.addr, err, refusedHint(line))
		}
		return fmt.Errorf("prepare target node %s: %w", c.addr, err)
	}
}
