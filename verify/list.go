package verify

import (
	"context"
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
	// done is called once, under the comparison's lock: how many were compared, and differences that are to be reported
	// when the listing has passed them for good.
	done func(compared int, late []Difference)
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
	again   bool                  // slots are listed that were counted before
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

// node lists slots of one master of a cluster.
func (l *listing) node(ctx context.Context, c *comparison, w work, out chan<- page) error {
	if !l.s.offer.slotKeys {
		return l.scan(ctx, c, w, out)
	}
	var large slot.Set
	all := slices.Collect(w.slots.All())
	for some := range slices.Chunk(all, countedN) {
		counts, err := l.count(ctx, c, w.n, some)
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

// slotKeys lists the keys of some slots that have few enough, and hands them out. A slot is done with its last page. One
// that has grown too large meanwhile is put off.
func (l *listing) slotKeys(ctx context.Context, c *comparison, w work, slots []slot.Slot, large *slot.Set, out chan<- page) error {
	if len(slots) == 0 {
		return nil
	}
	var b pageBuilder
	var grown slot.Set
	err := c.patiently(ctx, func() error {
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
	sum := tally{Own: b.own}
	var late []Difference
	done := func(n int, diffs []Difference) {
		l.mu.Lock()
		defer l.mu.Unlock()
		sum.Keys += int64(n)
		late = append(late, diffs...)
		if left--; left > 0 {
			return
		}
		l.add(sum)
		c.reportAll(late)
		for _, s := range slots {
			if w.last && !grown.Has(s) {
				l.slots.Add(s)
			}
		}
	}
	if left == 0 {
		c.mu.Lock()
		done(0, nil)
		c.mu.Unlock()
	}
	for _, keys := range pages {
		if err := c.handOut(ctx, out, page{l, keys, done}); err != nil {
			return err
		}
	}
	return nil
}

// add counts what is done.
func (l *listing) add(t tally) {
	if !l.again {
		l.Keys += t.Keys
		l.Own += t.Own
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
