package verify

import (
	"context"
	"maps"
	"time"
)

// compareAway compares keys that both looks at the topology did not find: in the middle of a move, the client library
// follows ASK for each.
func (c *comparison) compareAway(ctx context.Context, sp Databases, keys []string, out *looked) error {
	for _, k := range keys {
		p := &pageWork{c: c, sp: sp, keys: []string{k}, out: &looked{diffs: map[string]found{}}, patient: true, client: true}
		var off time.Duration
		for n, s := range []*side{c.from, c.to} {
			sent := time.Now()
			m, err := s.metaAway(ctx, c.db(s, sp), k)
			if err != nil {
				return err
			}
			if !s.offer.expireTime {
				off += time.Since(sent) + s.aheadOff
			}
			p.metas[n] = []meta{m}
		}
		f, t := &p.metas[0][0], &p.metas[1][0]
		switch {
		case f.exists && t.exists:
			p.both = []int32{0}
			if err := p.compareBoth(ctx, off); err != nil {
				return err
			}
		case f.exists || t.exists:
			p.alone = []int32{0}
			if err := p.reportAlone(ctx); err != nil {
				return err
			}
		default:
			out.gone = append(out.gone, k)
			continue
		}
		out.n++
		maps.Copy(out.diffs, p.out.diffs)
	}
	return nil
}

// metaAway reads the meta of one key wherever it is. Its size stays unknown, so that its value is read in pieces.
func (s *side) metaAway(ctx context.Context, db int, key string) (meta, error) {
	client := s.client(db)
	typ, err := client.Type(ctx, key).Result()
	if err != nil {
		return meta{}, s.refusal(key, err)
	}
	if typ == "none" {
		return meta{}, nil
	}
	m := meta{exists: true, typ: typ, size: -1}
	name := "pttl"
	if s.offer.expireTime {
		name = "pexpiretime"
	}
	sent := time.Now()
	ms, err := client.Do(ctx, name, key).Int64()
	if err != nil {
		return meta{}, s.refusal(key, err)
	}
	m.setExpiry(s, ms, sent)
	return m, nil
}
