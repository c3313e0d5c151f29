package verify

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// record keeps what was found of keys, and tells how far the comparison is. It returns the differences that there is no
// room for. It is called under the lock.
func (c *comparison) record(pair Databases, keys []string, out looked) (late []Difference) {
	if !c.listed {
		c.compared.Add(int64(out.n))
	}
	if len(c.found) > 0 || len(out.diffs) > 0 {
		for _, k := range keys {
			late = append(late, c.recordKey(ref{pair, k}, out.diffs)...)
		}
	}
	if c.opt.Progress != nil {
		c.opt.Progress(c.progress())
	}
	return late
}

func (c *comparison) recordKey(r ref, diffs map[string]found) (late []Difference) {
	f, differs := diffs[r.key]
	old := c.found[r]
	if old != nil {
		c.told -= int64(len(old.diffs))
	}
	c.told += int64(len(f.diffs))
	switch {
	case !differs:
		delete(c.found, r)
	case old != nil && !c.listed: // listed twice: no more than one look, nobody has waited between
		old.found = f
	case old != nil:
		old.unchanged = old.prints == f.prints
		old.found = f
		old.looks++
	case len(c.found) < c.opt.MaxRecheck:
		// The key's bytes are part of a whole page's.
		r.key = strings.Clone(r.key)
		for i := range f.diffs {
			f.diffs[i].Key = r.key
		}
		c.found[r] = &state{found: f, looks: 1}
	default:
		for i := range f.diffs {
			f.diffs[i].Key = strings.Clone(f.diffs[i].Key)
		}
		return f.diffs
	}
	return nil
}

// full tells whether there is no room for another key that differs.
func (c *comparison) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.found) >= c.opt.MaxRecheck
}

// reportAll takes differences that are final, under the lock.
func (c *comparison) reportAll(ds []Difference) {
	for _, d := range ds {
		c.report(d)
	}
}

func (c *comparison) progress() Progress {
	p := Progress{
		Round: c.round, Scanned: c.scanned.Load(), Total: c.total, Compared: c.compared.Load(), Differences: c.told,
		Bytes: c.meter.read.Load() + c.meter.sent.Load(),
	}
	if p.Scanned > 0 && p.Total > p.Scanned {
		p.Left = time.Duration(float64(time.Since(c.started)) / float64(max(p.Scanned-c.skipped, 1)) * float64(p.Total-p.Scanned))
	}
	return p
}

// recheck looks again at what differs and is not proven.
func (c *comparison) recheck(ctx context.Context) error {
	keys := map[Databases][]string{}
	c.mu.Lock()
	for r, st := range c.found {
		if !c.final(st) {
			keys[r.pair] = append(keys[r.pair], r.key)
		}
	}
	c.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Workers)
	for pair, all := range keys {
		for some := range slices.Chunk(all, c.opt.Page) {
			g.Go(func() error {
				if err := c.admit(ctx, len(some)); err != nil {
					return err
				}
				if err := c.compareListed(ctx, pair, some, nil); err != nil {
					return err
				}
				return c.saveNow()
			})
		}
	}
	return g.Wait()
}

// settled tells whether the last look counts.
func (c *comparison) settled(st *state) bool {
	return c.opt.Rounds < 2 || st.looks > 1 && st.unchanged
}

// sorted lists what differs, by database and key.
func (c *comparison) sorted() []ref {
	return slices.SortedFunc(maps.Keys(c.found), func(a, b ref) int {
		if a.pair != b.pair {
			return a.pair.From - b.pair.From
		}
		return strings.Compare(a.key, b.key)
	})
}

// tell gives what is final to Each, once, at the end.
func (c *comparison) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opt.Each == nil {
		return
	}
	for _, r := range c.sorted() {
		if st := c.found[r]; c.settled(st) {
			for _, d := range st.diffs {
				c.opt.Each(d)
			}
		}
	}
}

// result is what is known so far.
func (c *comparison) result() Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Result{
		Mode: c.opt.Mode, Keys: c.compared.Load(), Listed: c.scanned.Load() - c.skipped, Counts: maps.Clone(c.over), Rounds: c.round,
		BytesRead: c.meter.read.Load(), BytesSent: c.meter.sent.Load(), Unstable: c.unstable, Resumed: c.resumed, Repaired: c.repaired,
		Elapsed: c.before + time.Since(c.started),
	}
	if c.opt.Mode != Sample {
		r.Keys = 0
		for _, l := range c.listings {
			keys, own := l.counted()
			r.Keys += keys
			r.Own += own
		}
	}
	r.Seconds = r.Elapsed.Seconds()
	for _, k := range c.sorted() {
		st := c.found[k]
		if !c.settled(st) {
			r.Unsettled++
			continue
		}
		for _, d := range st.diffs {
			r.Counts[d.Kind]++
			if len(r.Differences) < c.opt.MaxListed {
				r.Differences = append(r.Differences, d)
			}
		}
	}
	room := max(min(c.opt.MaxListed-len(r.Differences), len(c.spare)), 0)
	r.Differences = append(r.Differences, c.spare[:room]...)
	return r
}
