package sink

import (
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// readOwn reads the checkpoints and watermarks of all slots.
func (w *worker) readOwn() (map[slot.Slot]checkpoint, map[slot.Slot]watermark, error) {
	checkpoints, watermarks := map[slot.Slot]checkpoint{}, map[slot.Slot]watermark{}
	err := w.readKind(own.Checkpoint, func(s slot.Slot, text string) (err error) {
		checkpoints[s], err = parseCheckpoint(text)
		return err
	})
	if err == nil {
		err = w.readKind(own.Watermark, func(s slot.Slot, text string) (err error) {
			watermarks[s], err = parseWatermark(text)
			return err
		})
	}
	if errors.Is(err, errRecord) {
		err = classed(Stop, "start partition %d: %w", w.partition, err)
	}
	return checkpoints, watermarks, err
}

// readKind reads one of our keys in every slot, one pipeline per node, and hands over those that exist.
func (w *worker) readKind(kind byte, fn func(s slot.Slot, text string) error) error {
	type redirected struct {
		slot slot.Slot
		addr string
	}
	var again []redirected
	for _, addr := range slices.Sorted(maps.Keys(w.conns)) {
		c := w.conns[addr]
		var q request
		var slots []slot.Slot
		for i, n := range w.owner {
			if w.holdings[n].addr == addr {
				s := w.slots.First + slot.Slot(i)
				q.addBytes([]byte("GET"), own.Key(kind, w.s.cfg.Name, s))
				slots = append(slots, s)
			}
		}
		if err := c.do(&q, func(i int, r resp.Reply) error {
			if r.Kind == resp.KindError && judge(string(r.Str)) == asked {
				again = append(again, redirected{slots[i], redirect(string(r.Str), addr)})
				return nil
			}
			if err := serverErr(c)(i, r); err != nil || r.IsNull() {
				return err
			}
			return fn(slots[i], string(r.Str))
		}); err != nil {
			return err
		}
	}
	for _, a := range again { // the slot is being moved, and the key, if it exists, is on the other side already
		if err := w.askAt(a.addr, func(r resp.Reply) error {
			if r.IsNull() {
				return nil
			}
			return fn(a.slot, string(r.Str))
		}, []byte("GET"), own.Key(kind, w.s.cfg.Name, a.slot)); err != nil {
			return err
		}
	}
	return nil
}

// ask sends one command to the owner of a slot, and once more to where that one points for this key.
func (w *worker) ask(s slot.Slot, fn func(resp.Reply) error, args ...[]byte) error {
	c := w.conns[w.ownerOf(s)]
	var q request
	q.addBytes(args...)
	other := ""
	err := c.do(&q, func(i int, r resp.Reply) error {
		if r.Kind == resp.KindError && judge(string(r.Str)) == asked {
			other = redirect(string(r.Str), c.addr)
			return nil
		}
		if err := serverErr(c)(i, r); err != nil {
			return err
		}
		return fn(r)
	})
	if err != nil || other == "" {
		return err
	}
	return w.askAt(other, fn, args...)
}

func (w *worker) askAt(addr string, fn func(resp.Reply) error, args ...[]byte) error {
	c, err := w.connFor(w.hard, &run{askAt: addr})
	if err != nil {
		return err
	}
	var q request
	q.add("ASKING")
	q.addBytes(args...)
	return c.do(&q, func(i int, r resp.Reply) error {
		if err := serverErr(c)(i, r); err != nil || i == 0 {
			return err
		}
		return fn(r)
	})
}

// redirect is the address that a MOVED or ASK names; an empty host is the one that answered.
func redirect(line, from string) string {
	addr := line[strings.LastIndexByte(line, ' ')+1:]
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		return addr
	}
	host, port := addr[:i], addr[i+1:]
	if host == "" {
		host, _, _ = net.SplitHostPort(from)
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
