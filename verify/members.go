package verify

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// member is an element of a hash, set or sorted set: value is the field's value, nothing, or the score.
type member struct{ name, value string }

// compareMembers looks up each member of the source at the target, and then, unless the counts agree, each of the
// target at the source. SCAN may give a member twice; that does no harm.
func (w *pieceWork) compareMembers(ctx context.Context, p pair) (*delta, error) {
	nf, err := w.from.memberN(ctx, p)
	if err != nil {
		return nil, err
	}
	nt, err := w.to.memberN(ctx, p)
	if err != nil {
		return nil, err
	}
	d, err := w.lookUp(ctx, p, w.from, w.to, nf)
	if d != nil || err != nil {
		return d, err
	}
	if nf == nt {
		return nil, nil
	}
	d, err = w.lookUp(ctx, p, w.to, w.from, nt)
	if d != nil {
		d.from, d.to = d.to, d.from
	}
	if d == nil && err == nil {
		d = countDelta(nf, nt-w.dead, "members")
	}
	return d, err
}

// isDeadField tells of a field of the target, which the source has not, whether its time has passed by the source's word:
// it waits for the source's HDEL.
func (w *pieceWork) isDeadField(ctx context.Context, key, name string) (bool, error) {
	at, err := w.to.fieldExpiries(ctx, key, []string{name})
	if err != nil || len(at) != 1 || at[0] == 0 {
		return false, err
	}
	return at[0]-w.opt.ExpiryHold.Milliseconds() <= w.sourceNow(), nil
}

// lookUp finds the first member of a that b does not have alike.
func (w *pieceWork) lookUp(ctx context.Context, p pair, a, b *reader, n int64) (*delta, error) {
	step := p.pieceLen(n)
	var cursor uint64
	for {
		ms, next, err := a.members(ctx, p, cursor, step)
		if err != nil {
			return nil, err
		}
		// A listpack comes whole whatever COUNT says.
		for len(ms) > 0 {
			piece := ms[:min(int(step), len(ms))]
			ms = ms[len(piece):]
			d, err := w.lookUpPiece(ctx, p, a, b, piece)
			if d != nil || err != nil {
				return d, err
			}
		}
		if next == 0 {
			return nil, nil
		}
		cursor = next
	}
}

func (w *pieceWork) lookUpPiece(ctx context.Context, p pair, a, b *reader, piece []member) (*delta, error) {
	names := make([]string, len(piece))
	for i, m := range piece {
		names[i] = m.name
	}
	theirs, err := b.values(ctx, p, names)
	if err != nil {
		return nil, err
	}
	if len(theirs) != len(names) {
		return nil, fmt.Errorf("asked %s for %d members, got %d", b.name, len(names), len(theirs))
	}
	for i, m := range piece {
		t := theirs[i]
		if t == nil && a == w.to && p.typ == "hash" && w.opt.ExpiryHold > 0 && a.offer.fieldExpiry {
			dead, err := w.isDeadField(ctx, p.key, m.name)
			if err != nil {
				return nil, err
			}
			if dead {
				w.dead++
				continue
			}
		}
		if t == nil || *t != m.value {
			return valueDelta(memberText(p.typ, m.name, &m.value), memberText(p.typ, m.name, t)), nil
		}
	}
	if p.typ != "hash" || w.late != nil || !a.offer.fieldExpiry || !b.offer.fieldExpiry {
		return nil, nil
	}
	ea, err := a.fieldExpiries(ctx, p.key, names)
	if err != nil {
		return nil, err
	}
	eb, err := b.fieldExpiries(ctx, p.key, names)
	if err != nil {
		return nil, err
	}
	for i := range min(len(ea), len(eb)) {
		if theirs[i] == nil { // dead
			continue
		}
		f, t := ea[i], eb[i]
		if a == w.to {
			f, t = t, f
		}
		if !w.expiryEqual(f, t, w.opt.TTLTolerance) {
			// Only if all else is equal, which is not known yet.
			w.late = cmp.Or(w.late, &delta{kind: FieldExpiry, from: fieldExpiryText(names[i], f), to: fieldExpiryText(names[i], t)})
			return nil, nil
		}
	}
	return nil, nil
}

func fieldExpiryText(name string, ms int64) string {
	return "field " + short(name) + " " + expiryText(ms)
}

func memberText(typ, name string, value *string) string {
	what := "member"
	if typ == "hash" {
		what = "field"
	}
	switch {
	case value == nil:
		return "no " + what + " " + short(name)
	case typ == "set":
		return what + " " + short(name)
	case typ == "zset":
		return what + " " + short(name) + " score " + *value
	default:
		return what + " " + short(name) + " = " + short(*value)
	}
}

func (s *reader) memberN(ctx context.Context, p pair) (int64, error) {
	switch p.typ {
	case "hash":
		return s.c.HLen(ctx, p.key).Result()
	case "set":
		return s.c.SCard(ctx, p.key).Result()
	default:
		return s.c.ZCard(ctx, p.key).Result()
	}
}

func (s *reader) members(ctx context.Context, p pair, cursor uint64, n int64) ([]member, uint64, error) {
	var flat []string
	var next uint64
	var err error
	switch p.typ {
	case "hash":
		flat, next, err = s.c.HScan(ctx, p.key, cursor, "", n).Result()
	case "set":
		flat, next, err = s.c.SScan(ctx, p.key, cursor, "", n).Result()
		ms := make([]member, len(flat))
		for i, m := range flat {
			ms[i] = member{name: m}
		}
		return ms, next, err
	default:
		flat, next, err = s.c.ZScan(ctx, p.key, cursor, "", n).Result()
	}
	ms := make([]member, len(flat)/2)
	for i := range ms {
		ms[i] = member{flat[2*i], flat[2*i+1]}
		if p.typ == "zset" {
			ms[i].value = scoreText(ms[i].value)
		}
	}
	return ms, next, err
}

// scoreText brings a score to a form that is equal exactly when the bits are: servers of different versions write the
// same score in different digits.
func scoreText(s string) string {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	return floatText(f)
}

func floatText(f float64) string {
	if math.IsNaN(f) {
		return fmt.Sprintf("NaN(%x)", math.Float64bits(f))
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// values looks up members by name: nil for one that is not there.
func (s *reader) values(ctx context.Context, p pair, names []string) ([]*string, error) {
	switch p.typ {
	case "hash":
		reply, err := s.c.HMGet(ctx, p.key, names...).Result()
		if err != nil {
			return nil, err
		}
		vs := make([]*string, len(reply))
		for i, v := range reply {
			if v, ok := v.(string); ok {
				vs[i] = &v
			}
		}
		return vs, nil
	case "set":
		return s.setValues(ctx, p.key, names)
	default:
		return s.scores(ctx, p.key, names)
	}
}

func (s *reader) setValues(ctx context.Context, key string, names []string) ([]*string, error) {
	is := make([]bool, len(names))
	if s.offer.multiMember {
		members := make([]any, len(names))
		for i, n := range names {
			members[i] = n
		}
		var err error
		if is, err = s.c.SMIsMember(ctx, key, members...).Result(); err != nil {
			return nil, err
		}
	} else {
		p := s.c.Pipeline()
		cmds := make([]*redis.BoolCmd, len(names))
		for i, n := range names {
			cmds[i] = p.SIsMember(ctx, key, n)
		}
		if _, err := p.Exec(ctx); err != nil {
			return nil, err
		}
		for i := range cmds {
			is[i] = cmds[i].Val()
		}
	}
	vs := make([]*string, len(is))
	for i := range is {
		if is[i] {
			vs[i] = new(string)
		}
	}
	return vs, nil
}

func (s *reader) scores(ctx context.Context, key string, names []string) ([]*string, error) {
	vs := make([]*string, len(names))
	if !s.offer.multiMember {
		p := s.c.Pipeline()
		cmds := make([]*redis.FloatCmd, len(names))
		for i, n := range names {
			cmds[i] = p.ZScore(ctx, key, n)
		}
		if err := s.exec(ctx, p); err != nil {
			return nil, err
		}
		for i, c := range cmds {
			if c.Err() == nil {
				vs[i] = new(floatText(c.Val()))
			}
		}
		return vs, nil
	}
	// Not ZMScore: it cannot tell a missing member from the score 0.
	args := []any{"zmscore", key}
	for _, n := range names {
		args = append(args, n)
	}
	reply, err := s.c.Do(ctx, args...).Slice()
	if err != nil {
		return nil, err
	}
	if len(reply) != len(names) {
		return nil, fmt.Errorf("asked %s for %d scores, got %d", s.name, len(names), len(reply))
	}
	for i, v := range reply {
		switch v := v.(type) {
		case float64:
			vs[i] = new(floatText(v))
		case string:
			vs[i] = new(scoreText(v))
		}
	}
	return vs, nil
}

// fieldExpiries reads the expiry of fields, 0 for none.
func (s *reader) fieldExpiries(ctx context.Context, key string, names []string) ([]int64, error) {
	args := []any{"hpexpiretime", key, "fields", len(names)}
	for _, n := range names {
		args = append(args, n)
	}
	es, err := s.c.Do(ctx, args...).Int64Slice()
	if isNil(err) {
		err = nil
	}
	for i := range es {
		es[i] = max(es[i], 0)
	}
	return es, err
}
