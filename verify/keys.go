package verify

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/slot"
)

const (
	// dumpBytes bounds the payloads one pipeline of DUMPs asks of one side.
	dumpBytes = 16 << 20
	// expiring is how close to its expiry a key may be that is then waited for.
	expiring = time.Second
	// decoders is how many values of one page are read in pieces at a time.
	decoders = 4
)

// compareKeys compares keys that exist at least at one side. It returns the differences by key and the number of
// keys compared. again: this is the second look at keys that were about to expire.
func (c *comparison) compareKeys(ctx context.Context, keys []string, again bool) (map[string][]Difference, int, error) {
	from, fromOff, err := c.from.metas(ctx, keys)
	if err != nil {
		return nil, 0, err
	}
	to, toOff, err := c.to.metas(ctx, keys)
	if err != nil {
		return nil, 0, err
	}
	// The clocks are not read twice at the same moment: at least the time the pipelines took is tolerated then.
	tolerance := c.opt.TTLTolerance + fromOff + toOff
	diffs := map[string][]Difference{}
	add := func(key string, kind Kind, from, to string) {
		diffs[key] = append(diffs[key], Difference{key, slot.Of([]byte(key)), kind, from, to})
	}
	n := 0
	var same []pair
	var leaving []string
	var until int64
	soon := time.Now().Add(expiring).UnixMilli()
	for i, k := range keys {
		f, t := from[i], to[i]
		if f.typ == "" && t.typ == "" {
			continue
		}
		// One side expired it a moment before the other: an outcome only once the moment has passed.
		if (f.typ == "" || t.typ == "") && !again {
			if e := f.expiry + t.expiry; e != 0 && e <= soon {
				leaving = append(leaving, k)
				until = max(until, e)
				continue
			}
		}
		n++
		switch {
		case t.typ == "":
			add(k, Missing, describe(f), "none")
			continue
		case f.typ == "":
			add(k, Extra, "none", describe(t))
			continue
		case f.typ != t.typ:
			add(k, Type, f.typ, t.typ)
		default:
			same = append(same, pair{key: k, typ: f.typ, size: size(f, t)})
		}
		if !c.expiryEqual(f.expiry, t.expiry, tolerance) {
			add(k, Expiry, expiryText(f.expiry), expiryText(t.expiry))
		}
	}
	values, err := c.compareValues(ctx, same)
	if err != nil {
		return nil, 0, err
	}
	for k, d := range values {
		add(k, Value, d.from, d.to)
	}
	if len(leaving) == 0 {
		return diffs, n, nil
	}
	if err := sleep(ctx, time.Until(time.UnixMilli(until+10))); err != nil {
		return nil, 0, err
	}
	late, m, err := c.compareKeys(ctx, leaving, true)
	maps.Copy(diffs, late)
	return diffs, n + m, err
}

// expiryEqual compares two expiry times, 0 for none; the target's is later by the hold.
func (c *comparison) expiryEqual(from, to int64, tolerance time.Duration) bool {
	if from == 0 || to == 0 {
		return from == to
	}
	// In milliseconds: an expiry may be as far away as a time.Duration cannot tell.
	d := to - from - c.opt.ExpiryHold.Milliseconds()
	return max(d, -d) <= tolerance.Milliseconds()
}

func expiryText(ms int64) string {
	if ms == 0 {
		return "no expiry"
	}
	return fmt.Sprintf("%d (%s)", ms, time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"))
}

func describe(m meta) string {
	if m.expiry == 0 {
		return m.typ
	}
	return m.typ + " until " + expiryText(m.expiry)
}

// pair is a key of the same type at both sides.
type pair struct {
	key, typ string
	size     int64 // the larger of both, -1 when unknown
}

func size(f, t meta) int64 {
	if f.size < 0 || t.size < 0 {
		return -1
	}
	return max(f.size, t.size)
}

// delta is how a value differs, in words.
type delta struct{ from, to string }

// compareValues returns the delta of each pair that differs.
func (c *comparison) compareValues(ctx context.Context, pairs []pair) (map[string]delta, error) {
	var group, pieces []pair
	var bytes int64
	flush := func() error {
		left, err := c.compareDumps(ctx, group)
		pieces = append(pieces, left...)
		group, bytes = group[:0], 0
		return err
	}
	for _, p := range pairs {
		if p.size < 0 || p.size >= c.opt.LargeBytes || !c.dumpProves(p.typ) {
			pieces = append(pieces, p)
			continue
		}
		if bytes+p.size > dumpBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		group = append(group, p)
		bytes += p.size
	}
	if err := flush(); err != nil {
		return nil, err
	}

	var mu sync.Mutex
	deltas := map[string]delta{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(decoders)
	for _, p := range pieces {
		g.Go(func() error {
			d, err := c.compareValue(ctx, p)
			if err != nil {
				return fmt.Errorf("compare %s %s: %w", p.typ, short(p.key), err)
			}
			if d != nil {
				mu.Lock()
				defer mu.Unlock()
				deltas[p.key] = *d
			}
			return nil
		})
	}
	return deltas, g.Wait()
}

// dumpProves tells whether equal payloads are equal values. Payloads hold the expiry of a hash's fields, which must
// not be equal where the target has a hold.
func (c *comparison) dumpProves(typ string) bool {
	return c.from.dump && c.to.dump && (typ != "hash" || c.opt.ExpiryHold == 0)
}

// compareDumps returns the pairs whose payloads do not prove them equal.
func (c *comparison) compareDumps(ctx context.Context, pairs []pair) ([]pair, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	read := func(s *side) ([]*redis.StringCmd, error) {
		p := s.c.Pipeline()
		cmds := make([]*redis.StringCmd, len(pairs))
		for i := range pairs {
			cmds[i] = p.Dump(ctx, pairs[i].key)
		}
		return cmds, s.exec(ctx, p, "dump")
	}
	from, err := read(c.from)
	if err != nil {
		return nil, err
	}
	to, err := read(c.to)
	if err != nil {
		return nil, err
	}
	var left []pair
	for i := range pairs {
		if from[i].Err() != nil || to[i].Err() != nil || from[i].Val() != to[i].Val() {
			left = append(left, pairs[i])
		}
	}
	return left, nil
}
