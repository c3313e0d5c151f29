package verify

import (
	"context"
	"errors"
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
	// done is called once, under the comparison's lock: which were compared, and differences that are to be reported when
	// the listing has passed them for good.
	done func(compared []string, late []Difference)
}

// listing is how far the keys of one side in one database have been listed. A key is behind it when it was compared.
type listing struct {
	s    *side
	pair Databases
	to   bool // of the target: only what the source does not have is compared

	mu      sync.Mutex
	slots   slot.Set              // done
	cursors map[string]*scanState // of masters that are scanned, by address and slots
	total   int64                 // keys there, as counted
	tally                         // of slots that are done
	bySlot  *[slot.Count]tally    // of a cluster: what to take off when a slot is listed again
	given   slot.Set              // up, because their master is no more; under no lock once run has returned
}

// tally counts keys.
type tally struct {
	Keys int64 `json:"keys"` // compared
	Own  int64 `json:"own"`  // left out because they are ours
}

// work is a part of what is listed: slots of one master.
type work struct {
	n     *node
	slots slot.Set
	last  bool // no other master is listed for the same slots after it
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
			return l.scan(ctx, c, work{v.nodes[0], c.opt.Filter.slots(), true}, out)
		})
		return g.Wait()
	}
	want := c.opt.Filter.slots()
	l.mu.Lock()
	want = want.Minus(&l.slots)
	l.given = slot.Set{}
	if l.bySlot == nil {
		l.bySlot = new([slot.Count]tally)
	}
	l.mu.Unlock()
	byNode := map[*node]*slot.Set{}
	add := func(n *node, s slot.Slot) {
		if byNode[n] == nil {
			byNode[n] = new(slot.Set)
		}
		byNode[n].Add(s)
	}
	var moving []slot.Slot
	for s := range want.All() {
		if len(v.inFlight[s]) > 1 {
			moving = append(moving, s)
		} else {
			add(v.owner[s], s)
		}
	}
	for n, slots := range byNode {
		g.Go(func() error { return l.node(ctx, c, work{n, *slots, true}, out) })
	}
	g.Go(func() error {
		// Keys of a slot that is being moved are at both masters, and go one way only: what is not at the first when that is
		// listed is at the second later.
		for _, s := range moving {
			var one slot.Set
			one.Add(s)
			for i, n := range v.inFlight[s] {
				if err := l.node(ctx, c, work{n, one, i == len(v.inFlight[s])-1}, out); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return g.Wait()
}

// errGivenUp tells that a master has lost its slots, or its life: others are to be asked, in the next pass.
var errGivenUp = errors.New("the slots have another master")

// patiently repeats fn for as long as the master may come back.
func (l *listing) patiently(ctx context.Context, c *comparison, w work, fn func() error) error {
	again := false
	return c.patiently(ctx, func() error {
		if again && !l.s.now().serves(w) {
			return errGivenUp
		}
		again = true
		return fn()
	})
}

func (v *view) serves(w work) bool {
	if v.owner == nil {
		return true
	}
	for s := range w.slots.All() {
		if v.owner[s] == w.n || slices.Contains(v.inFlight[s], w.n) {
			return true
		}
	}
	return false
}

// node lists slots of one master of a cluster.
func (l *listing) node(ctx context.Context, c *comparison, w work, out chan<- page) error {
	err := l.ofNode(ctx, c, w, out)
	if errors.Is(err, errGivenUp) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.given = l.given.Union(&w.slots)
		return nil
	}
	return err
}

func (l *listing) ofNode(ctx context.Context, c *comparison, w work, out chan<- page) error {
	if !l.s.offer.slotKeys {
		return l.scan(ctx, c, w, out)
	}
	var large slot.Set
	all := slices.Collect(w.slots.All())
	for some := range slices.Chunk(all, countedN) {
		counts, err := l.count(ctx, c, w, some)
		if err != nil {
			return err
		}
		var group []slot.Slot
		keys := 0
		for i, s := range some {
			switch {
			case counts[i] > listedN:
				large.Add(s)
				continue
			case counts[i] == 0:
				if w.last {
					l.mu.Lock()
					l.slots.Add(s)
					l.mu.Unlock()
				}
				continue
			}
			if keys+counts[i] > c.opt.Page && keys > 0 {
				if err := l.slotKeys(ctx, c, w, group, &large, out); err != nil {
					return err
				}
				group, keys = nil, 0
			}
			group = append(group, s)
			keys += counts[i]
		}
		if err := l.slotKeys(ctx, c, w, group, &large, out); err != nil {
			return err
		}
	}
	if large.IsEmpty() {
		return nil
	}
	return l.scan(ctx, c, work{w.n, large, w.last}, out)
}

// count asks how many keys the slots have.
func (l *listing) count(ctx context.Context, c *comparison, w work, slots []slot.Slot) ([]int, error) {
	counts := make([]int, len(slots))
	err := l.patiently(ctx, c, w, func() error {
		return l.slotCommand(ctx, w.n, slots, "COUNTKEYSINSLOT", func(i int, r resp.Reply) error {
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

// slotKeys lists the keys of some slots that have few enough, and hands them out. A slot is done with its last page. One
// that has grown too large meanwhile is put off.
func (l *listing) slotKeys(ctx context.Context, c *comparison, w work, slots []slot.Slot, large *slot.Set, out chan<- page) error {
	if len(slots) == 0 {
		return nil
	}
	var b pageBuilder
	var grown slot.Set
	err := l.patiently(ctx, c, w, func() error {
		b, grown = pageBuilder{filter: &c.opt.Filter}, slot.Set{}
		const limit = 2 * listedN
		return l.slotCommand(ctx, w.n, slots, "GETKEYSINSLOT", func(i int, r resp.Reply) error {
			if len(r.Elems) >= limit {
				grown.Add(slots[i])
				return nil
			}
			for _, k := range r.Elems {
				b.add(k.Str)
			}
			return nil
		}, strconv.Itoa(limit))
	})
	if err != nil {
		return err
	}
	*large = large.Union(&grown)
	pages := b.pages(c.opt.Page)
	left := len(pages)
	sum := tally{Own: int64(len(b.own))}
	var late []Difference
	done := func(compared []string, diffs []Difference) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.addBySlot(compared, nil)
		sum.Keys += int64(len(compared))
		late = append(late, diffs...)
		if left--; left > 0 {
			return
		}
		l.addBySlot(nil, b.own)
		l.Keys += sum.Keys
		l.Own += sum.Own
		c.reportAll(late)
		for _, s := range slots {
			if w.last && !grown.Has(s) {
				l.slots.Add(s)
			}
		}
	}
	if left == 0 {
		c.mu.Lock()
		done(nil, nil)
		c.mu.Unlock()
	}
	for _, keys := range pages {
		if err := c.handOut(ctx, out, page{l, keys, done}); err != nil {
			return err
		}
	}
	return nil
}

// addBySlot counts keys of a cluster by slots.
func (l *listing) addBySlot(keys []string, own []slot.Slot) {
	if l.bySlot == nil {
		return
	}
	for _, k := range keys {
		l.bySlot[slot.Of([]byte(k))].Keys++
	}
	for _, s := range own {
		l.bySlot[s].Own++
	}
}

// counted is what is done of all.
func (l *listing) counted() (keys, own int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys, own = l.Keys, l.Own
	for _, st := range l.cursors {
		keys += st.Keys
		own += st.Own
	}
	return keys, own
}

// pageBuilder collects keys without an allocation for each.
type pageBuilder struct {
	filter *Filter
	names  strings.Builder
	ends   []int
	own    []slot.Slot // of keys that are ours
}

func (b *pageBuilder) add(key []byte) {
	start := b.names.Len()
	b.names.Write(key)
	name := b.names.String()[start:]
	if isOwn(name) {
		b.own = append(b.own, slot.Of(key))
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
