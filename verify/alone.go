package verify

import (
	"context"
	"errors"

	"github.com/cespare/xxhash/v2"

	"github.com/redriver/redriver/redis/resp"
)

func (p *pageWork) reportAlone(ctx context.Context) error {
	prints, err := p.alonePrints(ctx)
	if err != nil {
		return err
	}
	for _, i := range p.alone {
		f, t := &p.metas[0][i], &p.metas[1][i]
		if t.exists {
			p.add(i, Extra, "none", describe(t))
		} else {
			p.add(i, Missing, describe(f), "none")
		}
		p.print(i, prints[i], prints[i])
	}
	return nil
}

// alonePrints reads the values of keys at one side only, where another look will want to know whether they are the same
// still: a key that is deleted and written again and again may be missing at every look, and never for long.
func (p *pageWork) alonePrints(ctx context.Context) (map[int32]uint64, error) {
	c := p.c
	prints := map[int32]uint64{}
	var bytes int64
	index := without(p.alone, func(i int32) bool {
		size := max(p.metas[0][i].size, p.metas[1][i].size)
		bytes += max(size, 0)
		return size < 0 || size >= c.opt.LargeBytes || bytes > dumpBytes
	})
	if c.opt.Rounds < 2 || !c.from.offer.dump || !c.to.offer.dump || !c.listed && c.full() {
		return prints, nil
	}
	err := c.askBoth(ctx, p.sp, p.keys, index, func(*side) int { return 1 }, func(_ *side, cn *conn, i int32) {
		cn.addKey(askDump, p.keys[i])
	}, func(s *side, i int32, _ int, r resp.Reply) error {
		if err := r.Err(); err != nil && !redirected(err) {
			return s.refusal(p.keys[i], err)
		}
		if r.Kind == resp.KindBulk {
			prints[i] += xxhash.Sum64(r.Str)
		}
		return nil
	})
	if _, ok := errors.AsType[*tooLargeError](err); ok {
		return prints, nil
	}
	return prints, err
}
