package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/slot"
)

// Kind tells in what a key differs.
type Kind string

// The kinds of differences. A key can have one of Expiry beside one of Type or Value.
const (
	Missing Kind = "missing" // at the source only
	Extra   Kind = "extra"   // at the target only
	Type    Kind = "type"
	Value   Kind = "value" // includes groups, consumers and pending entries of a stream
	Expiry  Kind = "expiry"
)

// Kinds lists all kinds, in the order reports use.
var Kinds = []Kind{Missing, Extra, Type, Value, Expiry}

// Options of a comparison. The zero value is an exact comparison in one round.
type Options struct {
	TTLTolerance time.Duration // expiry times may differ by so much; 0: exact to the millisecond
	ExpiryHold   time.Duration // expiry times at the target are later by so much, as a sink with a hold writes them

	Rounds   int           // how often what differs is looked at; 0: once
	Interval time.Duration // between rounds; 0: one second

	MaxListed  int // Differences that Result lists; counting goes on. 0: 1000
	MaxRecheck int // differing keys kept for the next round; those beyond count as they were seen first. 0: 200 000

	Page       int   // keys of one pipeline; 0: 500
	Workers    int   // pipelines in flight for each master; 0: 2
	LargeBytes int64 // values from this size on are read in pieces; 0: 1 MiB

	Progress func(Progress) // called after pages, never concurrently; nil: none
}

// Progress is how far a comparison is.
type Progress struct {
	Round       int   // from 1
	Scanned     int64 // keys that SCAN gave at either side
	Compared    int64
	Differences int64 // as far as known in this round
}

// Difference is one difference of one key.
type Difference struct {
	Key  string // byte for byte
	Slot slot.Slot
	Kind Kind
	From string // short and printable
	To   string
}

func (d Difference) String() string {
	return fmt.Sprintf("%-7s %s (slot %d): source %s, target %s", d.Kind, short(d.Key), d.Slot, d.From, d.To)
}

// Result of a comparison.
type Result struct {
	Keys        int64          // keys compared, those at one side only included
	Own         int64          // keys left out because they are Redriver's own
	Counts      map[Kind]int64 // complete, also beyond MaxListed
	Differences []Difference   // sorted by key, at most MaxListed
	Rounds      int            // rounds it took
	Elapsed     time.Duration

	// Unstable: masters or slots changed at a side while it was scanned, so keys may have been passed over.
	Unstable bool
}

// Identical tells whether the comparison found, and could have found, every difference and there is none.
func (r Result) Identical() bool { return r.Total() == 0 && !r.Unstable }

// Total is the number of differences.
func (r Result) Total() int64 {
	var n int64
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// String is a summary for people: verdict first, then counts, then what is listed.
func (r Result) String() string {
	var b strings.Builder
	switch total := r.Total(); {
	case r.Identical():
		b.WriteString("IDENTICAL")
	case total > 0:
		fmt.Fprintf(&b, "DIFFERENT: %d differences", total)
	default:
		b.WriteString("NO VERDICT: slots or masters changed during the scan, compare again")
	}
	fmt.Fprintf(&b, "\n%d keys compared in %s", r.Keys, r.Elapsed.Round(time.Millisecond))
	if r.Rounds > 1 {
		fmt.Fprintf(&b, ", %d rounds", r.Rounds)
	}
	if r.Own > 0 {
		fmt.Fprintf(&b, ", %d keys of Redriver itself left out", r.Own)
	}
	if r.Total() == 0 {
		return b.String()
	}
	b.WriteString("\n")
	for _, k := range Kinds {
		fmt.Fprintf(&b, "  %s %d", k, r.Counts[k])
	}
	for _, d := range r.Differences {
		b.WriteString("\n  " + d.String())
	}
	if more := r.Total() - int64(len(r.Differences)); more > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	if r.Unstable {
		b.WriteString("\nSlots or masters changed during the scan: there may be more.")
	}
	return b.String()
}

// comparison is one call of Compare.
type comparison struct {
	opt      Options
	from, to *side

	round    int // written between rounds only
	own      atomic.Int64
	scanned  atomic.Int64
	compared atomic.Int64

	mu    sync.Mutex
	found map[string][]Difference // by key; holds no more than MaxRecheck keys
	over  map[Kind]int64          // differences of keys that found had no room for
	spare []Difference            // the first of them, at most MaxListed
	told  int64                   // differences in found and over
}

// Compare compares all keys of two deployments. A *redis.ClusterClient stands for a whole cluster, a *redis.Client
// for the database it has selected. Errors are those of reading; differences are in the Result.
func Compare(ctx context.Context, from, to redis.UniversalClient, opt Options) (Result, error) {
	start := time.Now()
	opt.setDefaults()
	c := &comparison{opt: opt, found: map[string][]Difference{}, over: map[Kind]int64{}}
	var err error
	if c.from, err = newSide(ctx, "source", from); err != nil {
		return Result{}, err
	}
	if c.to, err = newSide(ctx, "target", to); err != nil {
		return Result{}, err
	}
	before, err := c.topology(ctx)
	if err != nil {
		return Result{}, err
	}
	c.round = 1
	if err := c.scanBoth(ctx); err != nil {
		return Result{}, err
	}
	for c.round < opt.Rounds && len(c.found) > 0 {
		if err := sleep(ctx, opt.Interval); err != nil {
			return Result{}, err
		}
		c.round++
		if err := c.recheck(ctx); err != nil {
			return Result{}, err
		}
	}
	after, err := c.topology(ctx)
	if err != nil {
		return Result{}, err
	}
	r := c.result()
	r.Unstable = before != after
	r.Elapsed = time.Since(start)
	return r, nil
}

func (o *Options) setDefaults() {
	o.Rounds = max(o.Rounds, 1)
	o.Interval = cmp.Or(o.Interval, time.Second)
	o.MaxListed = cmp.Or(o.MaxListed, 1000)
	o.MaxRecheck = cmp.Or(o.MaxRecheck, 200_000)
	o.Page = cmp.Or(o.Page, 500)
	o.Workers = cmp.Or(o.Workers, 2)
	o.LargeBytes = cmp.Or(o.LargeBytes, 1<<20)
}

func (c *comparison) topology(ctx context.Context) (string, error) {
	f, err := c.from.topology(ctx)
	if err != nil {
		return "", err
	}
	t, err := c.to.topology(ctx)
	return f + "\n" + t, err
}

// scanBoth is the first round. Keys of the target are looked for at the source only after all of the source's have
// been compared; what exists at both sides was compared by then.
func (c *comparison) scanBoth(ctx context.Context) error {
	if err := c.from.scan(ctx, c, c.comparePage); err != nil {
		return err
	}
	return c.to.scan(ctx, c, func(ctx context.Context, keys []string) error {
		only, err := c.from.absent(ctx, keys)
		if err != nil || len(only) == 0 {
			return err
		}
		return c.comparePage(ctx, only)
	})
}

// recheck reads again what differs.
func (c *comparison) recheck(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * c.opt.Workers)
	compared := c.compared.Load()
	for page := range slices.Chunk(slices.Collect(maps.Keys(c.found)), c.opt.Page) {
		g.Go(func() error { return c.comparePage(ctx, page) })
	}
	err := g.Wait()
	c.compared.Store(compared)
	return err
}

// comparePage compares keys and records the outcome.
func (c *comparison) comparePage(ctx context.Context, keys []string) error {
	diffs, n, err := c.compareKeys(ctx, keys, false)
	if err != nil {
		return err
	}
	c.compared.Add(int64(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		c.told -= int64(len(c.found[k]))
		ds := diffs[k]
		c.told += int64(len(ds))
		_, known := c.found[k]
		switch {
		case len(ds) == 0:
			delete(c.found, k)
		case known || len(c.found) < c.opt.MaxRecheck:
			c.found[k] = ds
		default:
			for _, d := range ds {
				c.over[d.Kind]++
				if len(c.spare) < c.opt.MaxListed {
					c.spare = append(c.spare, d)
				}
			}
		}
	}
	if c.opt.Progress != nil {
		c.opt.Progress(Progress{Round: c.round, Scanned: c.scanned.Load(), Compared: c.compared.Load(), Differences: c.told})
	}
	return nil
}

func (c *comparison) result() Result {
	r := Result{Keys: c.compared.Load(), Own: c.own.Load(), Counts: c.over, Rounds: c.round}
	for _, k := range slices.Sorted(maps.Keys(c.found)) {
		for _, d := range c.found[k] {
			r.Counts[d.Kind]++
			if len(r.Differences) < c.opt.MaxListed {
				r.Differences = append(r.Differences, d)
			}
		}
	}
	room := min(c.opt.MaxListed-len(r.Differences), len(c.spare))
	r.Differences = append(r.Differences, c.spare[:room]...)
	return r
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// isNil tells whether err only says that there is no such thing.
func isNil(err error) bool { return errors.Is(err, redis.Nil) }
