package verify

import (
	"context"
	"slices"

	"github.com/redriver/redriver/redis/resp"
)

// filterTypes leaves out keys whose type at the listing side is not wanted.
func (c *comparison) filterTypes(ctx context.Context, l *listing, keys *[]string) error {
	if len(c.opt.Filter.Types) == 0 {
		return nil
	}
	types, err := l.s.typesOf(ctx, l.db(), *keys)
	if err != nil {
		return err
	}
	*keys = pick(*keys, func(i int) bool { return slices.Contains(c.opt.Filter.Types, types[i]) })
	return nil
}

// onlyAbsent leaves out keys that the listing of the source shows: those that it has, of a type that is wanted.
func (c *comparison) onlyAbsent(ctx context.Context, pair Databases, keys *[]string) error {
	if wanted := c.opt.Filter.Types; len(wanted) > 0 {
		types, err := c.from.typesOf(ctx, pair.From, *keys)
		if err != nil {
			return err
		}
		*keys = pick(*keys, func(i int) bool { return !slices.Contains(wanted, types[i]) })
		return nil
	}
	all := *keys
	keep := make([]bool, len(all))
	q, err := c.from.ask(ctx, pair.From, all, allOf(len(all)), 1, func(cn *conn, i int32) { cn.addKey(askExists, all[i]) })
	if err != nil {
		return err
	}
	defer q.end()
	err = q.receive(1, func(i int32, _ int, r resp.Reply) error {
		if err := r.Err(); err != nil && !redirected(err) {
			return c.from.refusal(all[i], err)
		}
		keep[i] = r.Kind != resp.KindInt || r.Int == 0 // one that is in the middle of a move is looked at
		return nil
	})
	if err != nil {
		return err
	}
	*keys = pick(all, func(i int) bool { return keep[i] })
	return nil
}

// typesOf asks for types, wherever the keys are; "none" for a key that is not there.
func (s *side) typesOf(ctx context.Context, db int, keys []string) ([]string, error) {
	types := make([]string, len(keys))
	q, err := s.ask(ctx, db, keys, allOf(len(keys)), 1, func(cn *conn, i int32) { cn.addKey(askType, keys[i]) })
	if err != nil {
		return nil, err
	}
	defer q.end()
	var moving []int32
	err = q.receive(1, func(i int32, _ int, r resp.Reply) error {
		if err := r.Err(); err != nil {
			if redirected(err) {
				moving = append(moving, i)
				return nil
			}
			return s.refusal(keys[i], err)
		}
		types[i] = typeName(r.Str)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, i := range moving {
		if types[i], err = s.client(db).Type(ctx, keys[i]).Result(); err != nil {
			return nil, s.refusal(keys[i], err)
		}
	}
	return types, nil
}

func pick(all []string, keep func(i int) bool) []string {
	var out []string
	for i, k := range all {
		if keep(i) {
			out = append(out, k)
		}
	}
	return out
}
