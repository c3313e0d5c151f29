package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// begin takes the partition over: from here on nobody but us writes to it, and we know where it stands. What was in
// memory of an earlier try is worth nothing any more. The order of the steps is in doc.go.
func (w *worker) begin(ctx context.Context) error {
	w.disconnect()
	w.fences, w.written = map[slot.Slot]int64{}, map[slot.Slot]watermark{}
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.checkExisting(); err != nil {
		return err
	}
	if err := w.raiseFences(true); err != nil {
		return err
	}
	if err := w.killOthers(); err != nil {
		return err
	}
	plan, stale, err := w.plan(ctx)
	if err != nil {
		return err
	}
	w.adopt(plan, stale)
	if plan.isNew {
		// Nothing may be sent before every node has a watermark: a crash in between would look like a target that was
		// wiped in part.
		return w.apply(ctx, w.markRuns(markUnsent, w.firsts()), plan.offset)
	}
	return nil
}

// resume restores the connections of a partition that is ours, and checks that the target has all it acknowledged. It
// returns the checkpoints.
func (w *worker) resume(ctx context.Context) (map[slot.Slot]checkpoint, error) {
	w.disconnect()
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	if err := w.raiseFences(false); err != nil {
		return nil, err
	}
	if err := w.killOthers(); err != nil {
		return nil, err
	}
	checkpoints, watermarks, err := w.readOwn()
	if err != nil {
		return nil, err
	}
	for at, m := range w.written {
		switch got, ok := watermarks[at]; {
		case !ok:
			return nil, classed(Resync, "the target has lost the watermark in slot %d", at)
		case got.applied < m.applied:
			return nil, classed(Resync, "the target is back at offset %d in slot %d, it had acknowledged %d", got.applied, at, m.applied)
		}
	}
	return checkpoints, nil
}

// connect proves that we are a member of the group, looks at the topology, and opens a connection to every node that has
// slots of the partition.
func (w *worker) connect(ctx context.Context) error {
	if err := w.s.group.prove(ctx); err != nil {
		return err
	}
	top, err := w.s.discover(ctx)
	if err != nil {
		return err
	}
	w.owner = w.owner[:0]
	for i := range w.slots.Len() {
		n, ok := top.MasterOf(w.slots.First + slot.Slot(i))
		if !ok || n.Addr == "" {
			return fmt.Errorf("look at the target's topology: nobody has slot %d", int(w.slots.First)+i)
		}
		w.owner = append(w.owner, n.Addr)
	}
	for _, addr := range w.owner {
		if w.conns[addr] == nil {
			if err := w.dial(ctx, addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *worker) dial(ctx context.Context, addr string) error {
	c, err := w.s.dialConn(ctx, addr, clientName(w.s.cfg.Name, w.partition, w.epoch))
	if err != nil {
		return err
	}
	w.connMu.Lock()
	w.conns[addr] = c
	w.connMu.Unlock()
	if w.hard.Err() != nil {
		// abort has run, or will: see there.
		return context.Cause(w.hard)
	}
	return nil
}

// connFor is the connection a run goes through.
func (w *worker) connFor(ctx context.Context, r *run) (*conn, error) {
	if r.askAt == "" {
		if c := w.conns[w.ownerOf(r.slot)]; c != nil {
			return c, nil
		}
		return nil, errTopology
	}
	if c := w.conns[r.askAt]; c != nil {
		return c, nil
	}
	// A node without slots of this partition takes over one of them. It has no fence of ours; what protects it is the proof
	// of membership, and that the connections of a predecessor are killed before the first write.
	if err := w.s.group.prove(ctx); err != nil {
		return nil, err
	}
	if err := w.dial(ctx, r.askAt); err != nil {
		return nil, err
	}
	return w.conns[r.askAt], w.killAt(w.conns[r.askAt])
}

func (w *worker) ownerOf(s slot.Slot) string { return w.owner[s-w.slots.First] }

// broken tells whether a connection was lost.
func (w *worker) broken() bool {
	for _, c := range w.conns {
		if c.broken {
			return true
		}
	}
	return false
}

func (w *worker) disconnect() {
	w.connMu.Lock()
	defer w.connMu.Unlock()
	for addr, c := range w.conns {
		c.close()
		delete(w.conns, addr)
	}
}

// abort closes the sockets from another goroutine: whoever waits for an answer is woken with an error.
func (w *worker) abort() {
	w.connMu.Lock()
	defer w.connMu.Unlock()
	for _, c := range w.conns {
		c.nc.Close()
	}
}

// firsts are the first slots of the partition that each node has: where watermarks and fences lie.
func (w *worker) firsts() []slot.Slot {
	var out []slot.Slot
	seen := map[string]bool{}
	for i, addr := range w.owner {
		if !seen[addr] {
			seen[addr] = true
			out = append(out, w.slots.First+slot.Slot(i))
		}
	}
	return out
}

// slotsAt are the slots of the partition that the owner of slot s has.
func (w *worker) slotsAt(s slot.Slot) (set slot.Set) {
	for i, addr := range w.owner {
		if addr == w.ownerOf(s) {
			set.Add(w.slots.First + slot.Slot(i))
		}
	}
	return set
}

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
		for i, owner := range w.owner {
			if owner == addr {
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

// discover looks at the target from the seeds and from all nodes seen before.
func (s *Sink) discover(ctx context.Context) (*topology.Topology, error) {
	s.mu.Lock()
	seeds := append(slices.Clone(s.known), s.cfg.Seeds...)
	s.mu.Unlock()
	top, err := topology.Discover(ctx, s.cfg.Dialer, seeds)
	if errors.Is(err, topology.ErrNotCluster) {
		return nil, classed(Stop, "look at the target: %w: this version writes to clusters only", err)
	}
	if errors.Is(err, topology.ErrAuth) || errors.Is(err, topology.ErrPermission) {
		return nil, classed(Stop, "look at the target: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("look at the target: %w", err)
	}
	var known []string
	for i := range top.Shards {
		if a := top.Shards[i].Master.Addr; a != "" && !slices.Contains(s.cfg.Seeds, a) {
			known = append(known, a)
		}
	}
	s.mu.Lock()
	s.known = known
	s.mu.Unlock()
	return top, nil
}

// checkExisting refuses keys that are not ours in the slots of a partition that was never written.
func (w *worker) checkExisting() error {
	if w.s.cfg.ExistingKeys != ExistingRefuse {
		return nil
	}
	found, err := w.hasAny(own.Watermark)
	if err != nil || found {
		return err
	}
	return w.countForeign()
}

func (w *worker) hasAny(kind byte) (found bool, err error) {
	err = w.readKind(kind, func(slot.Slot, string) error {
		found = true
		return nil
	})
	return found, err
}

// countForeign returns an error if any key in our slots is not of our own shape.
func (w *worker) countForeign() error {
	keys := int64(0)
	var example []byte
	slots := make([]slot.Slot, len(w.owner))
	for i := range slots {
		slots[i] = w.slots.First + slot.Slot(i)
	}
	if err := w.listSlots(slots, func(_ slot.Slot, key []byte) error {
		if !own.Is(key) {
			keys++
			example = bytes.Clone(key)
		}
		return nil
	}); err != nil {
		return err
	}
	if keys > 0 {
		return &ExistingKeysError{Keys: keys, Key: example}
	}
	return nil
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
