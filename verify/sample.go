package verify

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/resp"
)

// sampleTries is how often a random key is drawn for each that is wanted: the filter, our own keys and keys drawn twice
// take their share.
const sampleTries = 20

// sample compares random keys, half of them drawn at each side. RANDOMKEY does not draw all keys alike often; it is what
// a server has.
func (c *comparison) sample(ctx context.Context) error {
	for _, l := range c.listings {
		if err := c.patiently(ctx, func() error { return l.size(ctx) }); err != nil {
			return err
		}
		c.total += l.total
	}
	c.total = min(c.total, int64(c.opt.SampleN))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Workers)
	drawn := map[ref]bool{}
	for _, l := range c.listings {
		var of int64
		for _, other := range c.listings {
			if other.to == l.to {
				of += other.total
			}
		}
		if of == 0 {
			continue
		}
		want := int(float64(c.opt.SampleN) / 2 * float64(l.total) / float64(of))
		if !l.to {
			want += c.opt.SampleN % 2
		}
		var keys []string
		err := c.patiently(ctx, func() (err error) {
			keys, err = l.draw(ctx, c, want)
			return err
		})
		if err != nil {
			return err
		}
		keys = slices.DeleteFunc(keys, func(k string) bool { // drawn at the other side too
			r := ref{l.pair, k}
			twice := drawn[r]
			drawn[r] = true
			return twice
		})
		for some := range slices.Chunk(keys, c.opt.Page) {
			g.Go(func() error {
				c.scanned.Add(int64(len(some)))
				if err := c.admit(ctx, len(some)); err != nil {
					return err
				}
				some := some
				if err := c.patiently(ctx, func() error { return c.filterTypes(ctx, l, &some) }); err != nil {
					return err
				}
				return c.compareListed(ctx, l.pair, some, nil)
			})
		}
	}
	return g.Wait()
}

// draw returns random keys of a listing's side, each master's share by how many it has.
func (l *listing) draw(ctx context.Context, c *comparison, want int) ([]string, error) {
	nodes := l.s.now().nodes
	var all []string
	for _, n := range nodes {
		cn, err := n.take(ctx, l.db())
		if err != nil {
			return nil, err
		}
		r, err := cn.one("DBSIZE")
		if err != nil {
			n.give(cn, refused(err))
			return nil, err
		}
		share := int(float64(want)*float64(r.Int)/float64(max(l.total, 1)) + 0.999)
		keys, err := drawFrom(cn, c, min(share, want-len(all)))
		n.give(cn, err == nil)
		if err != nil {
			return nil, fmt.Errorf("draw random keys: %w", err)
		}
		all = append(all, keys...)
	}
	return all, nil
}

func drawFrom(cn *conn, c *comparison, want int) ([]string, error) {
	seen := map[string]bool{}
	for range sampleTries {
		n := min(want-len(seen), c.opt.Page)
		if n <= 0 {
			break
		}
		for range n {
			cn.add("RANDOMKEY")
		}
		if err := cn.send(); err != nil {
			return nil, err
		}
		for range n {
			r, err := cn.read()
			if err != nil {
				return nil, err
			}
			if err := r.Err(); err != nil {
				return nil, cn.fail("RANDOMKEY", err)
			}
			if r.Kind != resp.KindBulk || r.IsNull() {
				continue
			}
			if k := string(r.Str); !isOwn(k) && c.opt.Filter.passes(k) {
				seen[k] = true
			}
		}
	}
	keys := make([]string, 0, len(seen))
	for k := range seen {
		keys = append(keys, k)
	}
	return keys, nil
}
