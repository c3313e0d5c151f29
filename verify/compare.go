package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/redriver/redriver/redis/slot"
)

// comparison is one call of Compare.
type comparison struct {
	opt      Options
	from, to *side
	pairs    []Databases
	listings []*listing // of the source and of the target for each pair
	meter    *meter
	keyLimit *rate.Limiter // nil: none
	started  time.Time
	before   time.Duration // that an earlier process spent
	resumed  bool
	skipped  int64 // keys that an earlier process listed

	payloads, decoders sync.Pool // of *payloads and *valueComparer

	scanned  atomic.Int64
	compared atomic.Int64

	lookMu   sync.Mutex // held while a side is looked at again
	lookedAt time.Time

	noticeMu sync.Mutex // held while Notice is called
	noticed  map[string]time.Time

	mu       sync.Mutex
	round    int
	listed   bool           // all has been listed: what is compared now is not counted
	total    int64          // keys to list
	found    map[ref]*state // holds no more than MaxRecheck keys
	over     map[Kind]int64 // differences of keys that found had no room for
	spare    []Difference   // the first of them, at most MaxListed
	told     int64          // differences in found and over
	savedAt  time.Time
	saveTook time.Duration // the last time
	saveMu   sync.Mutex    // held while the state is written
	unstable int           // slots that moved at the last pass
	repaired int64
}

// ref names a key.
type ref struct {
	pair Databases
	key  string
}

// state is what is known of a key that differs.
type state struct {
	found
	looks     int
	unchanged bool // between the last two looks
}

// Compare compares two deployments. Errors are those of reading; differences are in the Result.
func Compare(ctx context.Context, from, to Deployment, opt Options) (Result, error) {
	if err := opt.Validate(); err != nil {
		return Result{}, err
	}
	opt.setDefaults()
	c := &comparison{
		opt: opt, meter: newMeter(opt.BytesPerSecond), started: time.Now(),
		found: map[ref]*state{}, over: map[Kind]int64{}, noticed: map[string]time.Time{},
	}
	c.payloads.New = func() any { return new(payloads) }
	c.decoders.New = func() any { return newValueComparer(&c.opt, c.sourceNow) }
	if opt.KeysPerSecond > 0 {
		c.keyLimit = rate.NewLimiter(rate.Limit(opt.KeysPerSecond), max(opt.KeysPerSecond/10, 1))
	}
	var err error
	if c.from, err = newSide(ctx, "source", from, c.meter, c.opt.LargeBytes); err != nil {
		return Result{}, err
	}
	defer c.from.close()
	if c.to, err = newSide(ctx, "target", to, c.meter, c.opt.LargeBytes); err != nil {
		return Result{}, err
	}
	defer c.to.close()
	err = c.run(ctx)
	if err == nil {
		c.tell()
	}
	return c.result(), err
}

func (c *comparison) run(ctx context.Context) error {
	if err := c.pairDatabases(ctx); err != nil {
		return err
	}
	if err := c.restore(); err != nil {
		return err
	}
	err := c.rounds(ctx)
	if err == nil && c.opt.Repair {
		err = c.repair(ctx)
	}
	if err == nil {
		err = c.compareFunctions(ctx)
	}
	if err == nil {
		return c.removeState()
	}
	return errors.Join(err, c.save())
}

// pairDatabases decides which databases are compared.
func (c *comparison) pairDatabases(ctx context.Context) error {
	c.pairs = slices.Clone(c.opt.Databases)
	if c.pairs == nil {
		var all []int
		for _, s := range []*side{c.from, c.to} {
			dbs, err := s.databases(ctx)
			if err != nil {
				return err
			}
			all = append(all, dbs...)
		}
		slices.Sort(all)
		for _, db := range slices.Compact(all) {
			c.pairs = append(c.pairs, Databases{db, db})
		}
		if len(c.pairs) == 0 {
			c.pairs = []Databases{{}}
		}
	}
	for _, s := range []*side{c.from, c.to} {
		for _, p := range c.pairs {
			if db := c.db(s, p); s.cluster && db != 0 {
				return fmt.Errorf("compare database %d: the %s is a cluster and has database 0 only: name the databases to compare", db, s.name)
			}
		}
	}
	for _, p := range c.pairs {
		c.addPair(p)
	}
	if c.opt.Mode == Digest && (!c.from.offer.digests() || !c.to.offer.digests()) {
		c.notice("mode digest needs EVAL and 7.0 or newer at both sides: values are transferred, as mode full does")
	}
	return nil
}

func (c *comparison) addPair(p Databases) {
	c.listings = append(c.listings, newListing(c.from, p, false), newListing(c.to, p, true))
}

func newListing(s *side, p Databases, to bool) *listing {
	return &listing{s: s, pair: p, to: to, cursors: map[string]*scanState{}}
}

// rounds compares all, and then again what differs.
func (c *comparison) rounds(ctx context.Context) error {
	c.setRound(1)
	if c.opt.Mode == Sample {
		if err := c.sample(ctx); err != nil {
			return err
		}
	} else if err := c.everything(ctx); err != nil {
		return err
	}
	c.listed = true
	for round := 2; round <= c.opt.Rounds && c.open() > 0; round++ {
		if c.opt.Settle != nil {
			if err := c.opt.Settle(ctx); err != nil {
				return fmt.Errorf("wait until the pipeline has settled: %w", err)
			}
		} else if err := sleep(ctx, c.opt.Interval); err != nil {
			return err
		}
		c.setRound(round)
		if err := c.recheck(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) setRound(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round = n
}

// open counts the keys that another look could settle.
func (c *comparison) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, st := range c.found {
		if !c.final(st) {
			n++
		}
	}
	return n
}

// final tells whether a difference is proven: it was there before the pipeline had settled and is there unchanged.
func (c *comparison) final(st *state) bool {
	return c.opt.Settle != nil && st.looks > 1 && st.unchanged
}

// passes is how often slots that moved while they were listed are listed again.
const passes = 3

// everything is the first round: all keys of both sides, and again those of slots that moved meanwhile.
func (c *comparison) everything(ctx context.Context) error {
	for range passes {
		for _, s := range []*side{c.from, c.to} { // listing begins with who is there now
			if err := c.patiently(ctx, func() error { return s.look(ctx) }); err != nil {
				return err
			}
		}
		before := [2]*view{c.from.now(), c.to.now()}
		if err := c.listAll(ctx); err != nil {
			return err
		}
		var moved slot.Set
		for i, s := range []*side{c.from, c.to} {
			of, err := c.movedSince(ctx, s, before[i])
			if err != nil {
				return err
			}
			for _, l := range c.listings {
				if l.s == s && !of.IsEmpty() {
					l.forget(of)
				}
			}
			moved = moved.Union(&of)
		}
		c.mu.Lock()
		c.unstable = moved.Len()
		c.mu.Unlock()
		if moved.IsEmpty() {
			return nil
		}
		c.notice(fmt.Sprintf("%d slots moved or changed their master while they were compared: they are compared again", moved.Len()))
	}
	return nil
}

// movedSince tells which slots of a side, of those that are compared, had not one master all the time.
func (c *comparison) movedSince(ctx context.Context, s *side, before *view) (moved slot.Set, err error) {
	if !s.cluster {
		return moved, nil
	}
	if err := c.patiently(ctx, func() error { return s.look(ctx) }); err != nil {
		return moved, err
	}
	after := s.now()
	for n := range slot.Slot(slot.Count) {
		if before.stable(n) != after.stable(n) {
			moved.Add(n)
		}
	}
	for _, l := range c.listings {
		if l.s == s {
			moved = moved.Union(&l.given)
		}
	}
	want := c.opt.Filter.slots()
	return moved.Intersect(&want), nil
}

// listAll compares what the listings have before them: one goroutine lists for each master, Workers compare.
func (c *comparison) listAll(ctx context.Context) error {
	var total int64
	for _, l := range c.listings {
		if err := c.patiently(ctx, func() error { return l.size(ctx) }); err != nil {
			return err
		}
		total += l.total
	}
	c.mu.Lock()
	c.total = total
	c.mu.Unlock()
	pages := make(chan page)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { // ends with the listers, and ends the workers
		defer close(pages)
		for i := 0; i < len(c.listings); i += 2 { // both directions at once, one database after the other
			both, ctx := errgroup.WithContext(ctx)
			for _, l := range c.listings[i : i+2] {
				both.Go(func() error { return l.run(ctx, c, pages) })
			}
			if err := both.Wait(); err != nil {
				return err
			}
		}
		return nil
	})
	for range c.opt.Workers {
		g.Go(func() error {
			for p := range pages {
				if err := c.comparePage(ctx, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// comparePage compares what was listed.
func (c *comparison) comparePage(ctx context.Context, p page) error {
	if err := c.admit(ctx, len(p.keys)); err != nil {
		return err
	}
	keys := p.keys
	err := c.patiently(ctx, func() error {
		keys = p.keys
		if err := c.filterTypes(ctx, p.listed, &keys); err != nil {
			return err
		}
		if p.listed.to {
			return c.onlyAbsent(ctx, p.listed.pair, &keys)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.compareListed(ctx, p.listed.pair, keys, p.done); err != nil {
		return err
	}
	return c.saveNow()
}

// compareListed compares keys and records the outcome. done: nil, or told which keys there were and which differences found
// had no room for, in one with recording the others.
func (c *comparison) compareListed(ctx context.Context, pair Databases, keys []string, done func([]string, []Difference)) error {
	var out looked
	err := c.patiently(ctx, func() (err error) {
		if len(keys) > 0 {
			out, err = c.compareKeys(ctx, pair, keys)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	late := c.record(pair, keys, out)
	if done != nil {
		done(out.left(keys), late)
	} else {
		c.reportAll(late)
	}
	return nil
}

// left are the keys that were there to compare.
func (out *looked) left(keys []string) []string {
	if len(out.gone) == 0 {
		return keys
	}
	gone := map[string]bool{}
	for _, k := range out.gone {
		gone[k] = true
	}
	return pick(keys, func(i int) bool { return !gone[keys[i]] })
}

// admit waits until the rate allows n keys more.
func (c *comparison) admit(ctx context.Context, n int) error {
	for c.keyLimit != nil && n > 0 {
		some := min(n, c.keyLimit.Burst())
		if err := c.keyLimit.WaitN(ctx, some); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// isNil tells whether err only says that there is no such thing.
func isNil(err error) bool { return errors.Is(err, redis.Nil) }
