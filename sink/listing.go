package sink

import (
	"slices"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// listKeys is how many keys one pipeline of listSlots brings, give or take the largest slot.
const listKeys = 10000

func (w *worker) listSlots(slots []slot.Slot, fn func(s slot.Slot, key []byte) error) error {
	return w.listSlotsThen(slots, fn, func() error { return nil })
}

// listSlotsThen hands over every key of the slots, and calls then behind each pipeline of them. Those of a slot with very many
// may come twice.
//
// CLUSTER GETKEYSINSLOT tells what this node has, owner or not. So a key of the slot that never exists is asked for before
// and behind: any redirection means that the slot is being moved, or was moved meanwhile, and is an error: another try
// later scans again.
func (w *worker) listSlotsThen(slots []slot.Slot, fn func(s slot.Slot, key []byte) error, then func() error) error {
	counts, err := w.countSlots(slots)
	if err != nil {
		return err
	}
	var huge []slot.Slot
	slots = slices.DeleteFunc(slices.Clone(slots), func(s slot.Slot) bool {
		if counts[s] <= hugeSlotKeys {
			return false
		}
		huge = append(huge, s)
		return true
	})
	if err := w.scanSlots(huge, fn, then); err != nil {
		return err
	}
	for len(slots) > 0 {
		n, sum := 0, int64(0)
		reqs := map[*conn]*request{}
		asked := map[*conn][]slot.Slot{}
		for n < len(slots) && sum < listKeys {
			s := slots[n]
			n++
			if counts[s] == 0 {
				continue
			}
			sum += counts[s]
			c := w.conns[w.ownerOf(s)]
			if reqs[c] == nil {
				reqs[c] = &request{}
			}
			probe := w.absentKey(s)
			reqs[c].add("EXISTS", probe)
			// Others may add keys between the two questions.
			reqs[c].add("CLUSTER", "GETKEYSINSLOT", itoa(int64(s)), itoa(counts[s]+listMore))
			reqs[c].add("EXISTS", probe)
			asked[c] = append(asked[c], s)
		}
		for c, q := range reqs {
			if err := c.do(q, func(i int, r resp.Reply) error {
				err := serverErr(c)(i, r)
				for _, k := range r.Elems {
					if err == nil {
						err = fn(asked[c][i/3], k.Str)
					}
				}
				return err
			}); err != nil {
				return err
			}
		}
		if err := then(); err != nil {
			return err
		}
		slots = slots[n:]
	}
	return nil
}

const (
	listMore = 1000
	// hugeSlotKeys is from when on the keys of a slot are not asked for in one go: the node would serve nobody else meanwhile, and
	// node and we would have to hold them all.
	hugeSlotKeys = 100_000
)

// scanSlots is listSlotsThen for slots whose keys are looked for among all keys of their nodes.
func (w *worker) scanSlots(slots []slot.Slot, fn func(s slot.Slot, key []byte) error, then func() error) error {
	scans := map[*conn]*slot.Set{}
	for _, s := range slots {
		c := w.conns[w.ownerOf(s)]
		if scans[c] == nil {
			scans[c] = &slot.Set{}
		}
		scans[c].Add(s)
	}
	for c, set := range scans { // countSlots has proven the same before
		if err := w.scanDatabase(c, 0, func(keys [][]byte) error {
			for _, k := range keys {
				if s := slot.Of(k); set.Has(s) {
					if err := fn(s, k); err != nil {
						return err
					}
				}
			}
			return then()
		}); err != nil {
			return err
		}
		if err := w.haveSlots(c, set); err != nil {
			return err
		}
	}
	return nil
}

// haveSlots proves that a node has the slots, and that none is being moved.
func (w *worker) haveSlots(c *conn, set *slot.Set) error {
	var q request
	for s := range set.All() {
		q.add("EXISTS", w.absentKey(s))
	}
	return c.do(&q, serverErr(c))
}

// absentKey is a key of the slot that never exists: who is asked for it tells whether the slot is there.
func (w *worker) absentKey(s slot.Slot) string { return string(own.StagingKey(w.s.cfg.Name, 0, s)) }

// countSlots counts the keys of slots, and proves that their nodes have them.
func (w *worker) countSlots(slots []slot.Slot) (map[slot.Slot]int64, error) {
	counts := map[slot.Slot]int64{}
	reqs := map[*conn]*request{}
	asked := map[*conn][]slot.Slot{}
	for _, s := range slots {
		c := w.conns[w.ownerOf(s)]
		if reqs[c] == nil {
			reqs[c] = &request{}
		}
		reqs[c].add("CLUSTER", "COUNTKEYSINSLOT", itoa(int64(s)))
		reqs[c].add("EXISTS", w.absentKey(s))
		asked[c] = append(asked[c], s)
	}
	for c, q := range reqs {
		if err := c.do(q, func(i int, r resp.Reply) error {
			if i%2 == 0 {
				counts[asked[c][i/2]] = r.Int
			}
			return serverErr(c)(i, r)
		}); err != nil {
			return nil, err
		}
	}
	return counts, nil
}
