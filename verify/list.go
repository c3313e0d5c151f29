package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

const (
	// listedN is up to how many keys of a slot are listed by one CLUSTER GETKEYSINSLOT, which has no cursor. Slots with
	// more are found by scanning their master.
	listedN = 50_000
	// countedN is how many slots are counted by one pipeline.
	countedN = 512
	// pageNameBytes bounds the names of a page.
	pageNameBytes = 4 << 20
)

// page is some keys of one side, and what to do when they have been compared.
type page struct {
	listed *listing
	keys   []string
	done   func(compared int) // called once, under the comparison's lock
}

// listing is how far the keys of one side in one database have been listed. A key is behind it when it was compared.
type listing struct {
	s    *side
	pair Databases
	to   bool // of the target: only what the source does not have is compared

	mu      sync.Mutex
	slots   slot.Set              // done
	cursors map[string]*scanState // by address, of masters that are scanned
	total   int64                 // keys there, as counted
	keys    int64                 // compared, of what is done
}

// scanState is a scan of one master.
type scanState struct {
	RunID  string `json:"run_id"`
	Slots  string `json:"slots"`  // that it looks for
	Cursor uint64 `json:"cursor"` // all before it is done
	Done   bool   `json:"done"`

	ahead []*scanned // read and not yet done, in order
}

type scanned struct {
	next    uint64 // the cursor behind it
	pending int    // pages
	keys    int    // compared
}

func (l *listing) db() int {
	if l.to {
		return l.pair.To
	}
	return l.pair.From
}

// run lists the keys of the slots that are not done, and hands them out as pages.
func (l *listing) run(ctx context.Context, c *comparison, out chan<- page) error {
	v := l.s.now()
	g, ctx := errgroup.WithContext(ctx)
	if v.owner == nil {
		g.Go(func() error {
			return l.scan(ctx, c, v.nodes[0], c.opt.Filter.slots(), out)
		})
		return g.Wait()
	}
	want := c.opt.Filter.slots()
	l.mu.Lock()
	want = want.Minus(&l.slots)
	l.mu.Unlock()
	byNode := map[*node]*slot.Set{}
	add := func(n *node, s slot.Slot) {
		if byNode[n] == nil {
			byNode[n] = new(slot.Set)
		}
		byNode[n].Add(s)
	}
	for s := range want.All() {
		add(v.owner[s], s)
		for _, n := range v.inFlight[s] { // its keys are at both
			add(n, s)
		}
	}
	for n, slots := range byNode {
		g.Go(func() error { return l.node(ctx, c, n, *slots, out) })
	}
	return g.Wait()
}

// node lists slots of one master of a cluster.
func (l *listing) node(ctx context.Context, c *comparison, n *node, slots slot.Set, out chan<- page) error {
	if !l.s.offer.slotKeys {
		return l.scan(ctx, c, n, slots, out)
	}
	var large slot.Set
	all := slices.Collect(slots.All())
	for some := range slices.Chunk(all, countedN) {
		counts, err := l.count(ctx, c, n, some)
		if err != nil {
			return err
		}
		var group []slot.Slot
		keys := 0
		for i, s := range some {
			if counts[i] > listedN {
				large.Add(s)
				continue
			}
			if keys+counts[i] > c.opt.Page && keys > 0 {
				if err := l.slotKeys(ctx, c, n, group, out); err != nil {
					return err
				}
				group, keys = nil, 0
			}
			group = append(group, s)
			keys += counts[i]
		}
		if err := l.slotKeys(ctx, c, n, group, out); err != nil {
			return err
		}
	}
	if large.IsEmpty() {
		return nil
	}
	return l.scan(ctx, c, n, large, out)
}

// count asks how many keys the slots have.
func (l *listing) count(ctx context.Context, c *comparison, n *node, slots []slot.Slot) ([]int, error) {
	counts := make([]int, len(slots))
	err := c.patiently(ctx, func() error {
		return l.slotCommand(ctx, n, slots, "COUNTKEYSINSLOT", func(i int, r resp.Reply) error {
			counts[i] = int(r.Int)
			return nil
		})
	})
	return counts, err
}

func (l *listing) slotCommand(ctx context.Context, n *node, slots []slot.Slot, sub string, fn func(i int, r resp.Reply) error, more ...string) error {
	cn, err := n.take(ctx, l.db())
	if err != nil {
		return err
	}
	clean := false
	defer func() { n.give(cn, clean) }()
	for _, s := range slots {
		cn.add(append([]string{"CLUSTER", sub, strconv.Itoa(int(s))}, more...)...)
	}
	if err := cn.send(); err != nil {
		return err
	}
	for i := range slots {
		r, err := cn.read()
		if err != nil {
			return err
		}
		if err := r.Err(); err != nil {
			return cn.fail("CLUSTER "+sub, err)
		}
		if err := fn(i, r); err != nil {
			return err
		}
	}
	clean = true
	return nil
}

// slotKeys lists the keys of some slots that have few enough, and hands them out. A slot is done with its last page.
func (l *listing) slotKeys(ctx context.Context, c *comparison, n *node, slots []slot.Slot, out chan<- page) error {
	if len(slots) == 0 {
		return nil
	}
	var b pageBuilder
	err := c.patiently(ctx, func() error {
		b = pageBuilder{filter: &c.opt.Filter}
		const limit = 2 * listedN // a slot may have grown since it was counted
		return l.slotCommand(ctx, n, slots, "GETKEYSINSLOT", func(_ int, r resp.Reply) error {
			for _, k := range r.Elems {
				b.add(k.Str)
			}
			return nil
		}, strconv.Itoa(limit))
	})
	if err != nil {
		return err
	}
	c.own.Add(b.own)
	pages := b.pages(c.opt.Page)
	left, compared := len(pages), 0
	done := func(n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		compared += n
		if left--; left <= 0 {
			l.keys += int64(compared)
			for _, s := range slots {
				l.slots.Add(s)
			}
		}
	}
	if left == 0 {
		done(0)
	}
	for _, keys := range pages {
		if err := c.handOut(ctx, out, page{l, keys, done}); err != nil {
			return err
		}
	}
	return nil
}

// scan lists the keys of a master that lie in slots. Its cursor is good for as long as the process lives.
func (l *listing) scan(ctx context.Context, c *comparison, n *node, slots slot.Set, out chan<- page) error {
	runID, err := n.runID(ctx)
	if err != nil {
		return err
	}
	st := l.scanState(n, runID, slots.String())
	if st.Done {
		return nil
	}
	everything := slots.Len() == slot.Count
	cursor := st.Cursor
	for {
		var b pageBuilder
		var next uint64
		failed := false
		err := c.patiently(ctx, func() error {
			if failed { // by another process at this address?
				if now, err := n.runID(ctx); err != nil || now != runID {
					return cmp.Or(err, errRestarted)
				}
			}
			failed = true
			b = pageBuilder{filter: &c.opt.Filter}
			var err error
			next, err = l.scanPage(ctx, n, cursor, c.opt.Page, func(key []byte) {
				if everything || slots.Has(slot.Of(key)) {
					b.add(key)
				}
			})
			return err
		})
		if errors.Is(err, errRestarted) {
			c.opt.Notice(fmt.Sprintf("%s %s was restarted: its keys are listed again from the beginning", l.s.name, n.addr))
			return l.scan(ctx, c, n, slots, out)
		}
		if err != nil {
			return err
		}
		c.own.Add(b.own)
		pages := b.pages(c.opt.Page)
		mark := &scanned{next: next, pending: len(pages)}
		l.mu.Lock()
		st.ahead = append(st.ahead, mark)
		l.mu.Unlock()
		done := func(n int) { l.passed(st, mark, n, slots) }
		if len(pages) == 0 {
			mark.pending = 1
			done(0)
		}
		for _, keys := range pages {
			if err := c.handOut(ctx, out, page{l, keys, done}); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// errRestarted tells that a cursor is of another process.
var errRestarted = errors.New("the server was restarted")

// runID names the process that serves a node; "" where INFO is forbidden.
func (n *node) runID(ctx context.Context) (string, error) {
	info, err := n.info(ctx, "server")
	return info["run_id"], err
}

// scanState is where the scan of a master stands; at the start if that was another process.
func (l *listing) scanState(n *node, runID, slots string) *scanState {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.cursors[n.addr]
	if st == nil || st.RunID != runID || runID == "" || st.Slots != slots {
		st = &scanState{RunID: runID, Slots: slots}
		l.cursors[n.addr] = st
	}
	st.ahead = nil
	return st
}

// passed moves the cursor over what is done without a hole.
func (l *listing) passed(st *scanState, mark *scanned, compared int, slots slot.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mark.pending--
	mark.keys += compared
	for len(st.ahead) > 0 && st.ahead[0].pending <= 0 {
		st.Cursor = st.ahead[0].next
		l.keys += int64(st.ahead[0].keys)
		st.ahead = st.ahead[1:]
		if st.Cursor == 0 {
			st.Done = true
			l.slots = l.slots.Union(&slots)
		}
	}
}

func (l *listing) scanPage(ctx context.Context, n *node, cursor uint64, count int, fn func(key []byte)) (uint64, error) {
	cn, err := n.take(ctx, l.db())
	if err != nil {
		return 0, err
	}
	clean := false
	defer func() { n.give(cn, clean) }()
	r, err := cn.one("SCAN", strconv.FormatUint(cursor, 10), "COUNT", strconv.Itoa(count))
	if err != nil {
		return 0, err
	}
	if len(r.Elems) != 2 {
		return 0, cn.fail("SCAN", fmt.Errorf("an answer of %d elements", len(r.Elems)))
	}
	next, err := strconv.ParseUint(string(r.Elems[0].Str), 10, 64)
	if err != nil {
		return 0, cn.fail("SCAN", err)
	}
	for _, k := range r.Elems[1].Elems {
		fn(k.Str)
	}
	clean = true
	return next, nil
}

// pageBuilder collects keys without an allocation for each.
type pageBuilder struct {
	filter *Filter
	names  strings.Builder
	ends   []int
	own    int64
}

func (b *pageBuilder) add(key []byte) {
	start := b.names.Len()
	b.names.Write(key)
	name := b.names.String()[start:]
	if isOwn(name) {
		b.own++
		return
	}
	if b.filter.passes(name) {
		b.ends = append(b.ends, start, b.names.Len())
	}
}

// pages cuts what was added into pages of at most n keys, and of fewer where their names are long.
func (b *pageBuilder) pages(n int) [][]string {
	all := b.names.String()
	var pages [][]string
	var keys []string
	bytes := 0
	for i := 0; i < len(b.ends); i += 2 {
		if keys == nil {
			keys = make([]string, 0, min(n, (len(b.ends)-i)/2))
		}
		k := all[b.ends[i]:b.ends[i+1]]
		keys = append(keys, k)
		if bytes += len(k); len(keys) == n || bytes > pageNameBytes {
			pages = append(pages, keys)
			keys, bytes = nil, 0
		}
	}
	if keys != nil {
		pages = append(pages, keys)
	}
	return pages
}

// handOut gives a page to a worker. Bound: one page waits for each lister, and one is with each worker.
func (c *comparison) handOut(ctx context.Context, out chan<- page, p page) error {
	c.scanned.Add(int64(len(p.keys)))
	select {
	case out <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// size counts the keys that a listing has before it, for the time left.
func (l *listing) size(ctx context.Context) error {
	var total int64
	for _, n := range l.s.now().nodes {
		cn, err := n.take(ctx, l.db())
		if err != nil {
			return err
		}
		r, err := cn.one("DBSIZE")
		n.give(cn, err == nil || refused(err))
		if err != nil && !refused(err) {
			return err
		}
		total += r.Int
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total = total
	return nil
}

// forget makes slots undone, so that they are listed again.
func (l *listing) forget(slots slot.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots = l.slots.Minus(&slots)
	l.cursors = map[string]*scanState{}
}

// savedListing is the form of a listing in a state file.
type savedListing struct {
	Pair    Databases             `json:"databases"`
	Target  bool                  `json:"target"`
	Slots   string                `json:"slots"`
	Keys    int64                 `json:"keys"`
	Cursors map[string]*scanState `json:"cursors,omitempty"`
}

func (l *listing) save() savedListing {
	l.mu.Lock()
	defer l.mu.Unlock()
	cursors := map[string]*scanState{}
	for addr, st := range maps.All(l.cursors) {
		cursors[addr] = &scanState{RunID: st.RunID, Slots: st.Slots, Cursor: st.Cursor, Done: st.Done}
	}
	return savedListing{l.pair, l.to, l.slots.String(), l.keys, cursors}
}

func (l *listing) restore(s savedListing) error {
	if s.Slots != "" {
		set, err := slot.ParseSet(s.Slots)
		if err != nil {
			return err
		}
		l.slots = set
	}
	l.keys = s.Keys
	for addr, st := range s.Cursors {
		if !st.Done && st.Cursor == 0 {
			continue
		}
		l.cursors[addr] = st
	}
	return nil
}
