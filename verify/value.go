package verify

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	pieceBytes = 1 << 20 // what one reply of a piece should hold at most
	pieceN     = 1000    // elements of a piece when they are small
	unknownN   = 16      // elements of a piece when their size is unknown
	shownBytes = 64      // of a name or value in a report
)

// pair is a key of the same type at both sides.
type pair struct {
	key, typ string
	size     int64 // the larger of both, -1 when unknown
}

// reader reads values of one side in pieces.
type reader struct {
	*side
	c redis.UniversalClient
}

// pieceWork is the comparison of one value in pieces.
type pieceWork struct {
	*comparison
	from, to *reader
	late     *delta // of field expiries: counts if nothing else differs
}

// exec runs a pipeline of reads; every reply is a value or nil afterwards.
func (s *reader) exec(ctx context.Context, p redis.Pipeliner) error {
	cmds, err := p.Exec(ctx)
	if err != nil && !isNil(err) {
		return err
	}
	for _, cmd := range cmds { // Exec returns the first error, which may have been a nil reply
		if err := cmd.Err(); err != nil && !isNil(err) {
			return err
		}
	}
	return nil
}

func valueDelta(from, to string) *delta { return &delta{kind: Value, from: from, to: to} }

// compareLarge reads a value of both sides in pieces. It returns nil when they are equal. A key that changes meanwhile,
// its type included, looks different here; that is for the next round to settle.
func (c *comparison) compareLarge(ctx context.Context, sp Databases, p pair) (*delta, error) {
	w := &pieceWork{comparison: c, from: &reader{c.from, c.from.client(sp.From)}, to: &reader{c.to, c.to.client(sp.To)}}
	d, err := w.compareValue(ctx, p)
	if err != nil && hasPrefix(err, "WRONGTYPE", "ERR no such key") {
		return valueDelta("changed while it was read", "changed while it was read"), nil
	}
	if err != nil && refused(err) {
		return nil, c.from.refusal(p.key, err)
	}
	if d == nil {
		d = w.late
	}
	return d, err
}

func (w *pieceWork) compareValue(ctx context.Context, p pair) (*delta, error) {
	if w.opt.LargeLength && p.size >= w.opt.LargeBytes {
		return w.compareCounts(ctx, p)
	}
	switch p.typ {
	case "string":
		return w.compareString(ctx, p)
	case "list":
		return w.compareList(ctx, p)
	case "hash", "set", "zset":
		return w.compareMembers(ctx, p)
	case "stream":
		return w.compareStream(ctx, p)
	default:
		return w.compareOpaque(ctx, p)
	}
}

// compareOpaque compares a value of a module's type: nothing is known of it but its payload.
func (w *pieceWork) compareOpaque(ctx context.Context, p pair) (*delta, error) {
	f, err := w.from.c.Dump(ctx, p.key).Result()
	if err != nil && !isNil(err) {
		return nil, err
	}
	t, err := w.to.c.Dump(ctx, p.key).Result()
	if err != nil && !isNil(err) {
		return nil, err
	}
	// Without version and checksum, which are the server's.
	if f[:max(len(f)-10, 0)] == t[:max(len(t)-10, 0)] {
		return nil, nil
	}
	return valueDelta("a payload of type "+p.typ, "another payload"), nil
}

// compareCounts compares lengths only.
func (w *pieceWork) compareCounts(ctx context.Context, p pair) (*delta, error) {
	name := lengthCommand(p.typ)
	if name == "" {
		return nil, nil
	}
	f, err := w.from.c.Do(ctx, name, p.key).Int64()
	if err != nil {
		return nil, err
	}
	t, err := w.to.c.Do(ctx, name, p.key).Int64()
	if err != nil {
		return nil, err
	}
	return countDelta(f, t, "long"), nil
}

func (w *pieceWork) compareString(ctx context.Context, p pair) (*delta, error) {
	for at := int64(0); ; at += pieceBytes {
		f, err := w.from.c.GetRange(ctx, p.key, at, at+pieceBytes-1).Result()
		if err != nil {
			return nil, err
		}
		t, err := w.to.c.GetRange(ctx, p.key, at, at+pieceBytes-1).Result()
		if err != nil {
			return nil, err
		}
		if f != t {
			i := 0
			for i < len(f) && i < len(t) && f[i] == t[i] {
				i++
			}
			where := fmt.Sprintf("at byte %d ", at+int64(i))
			return valueDelta(where+short(f[i:]), where+short(t[i:])), nil
		}
		if len(f) < pieceBytes {
			return nil, nil
		}
	}
}

func (w *pieceWork) compareList(ctx context.Context, p pair) (*delta, error) {
	nf, err := w.from.c.LLen(ctx, p.key).Result()
	if err != nil {
		return nil, err
	}
	nt, err := w.to.c.LLen(ctx, p.key).Result()
	if err != nil {
		return nil, err
	}
	step := p.pieceLen(min(nf, nt))
	for at := int64(0); at < min(nf, nt); at += step {
		f, err := w.from.c.LRange(ctx, p.key, at, at+step-1).Result()
		if err != nil {
			return nil, err
		}
		t, err := w.to.c.LRange(ctx, p.key, at, at+step-1).Result()
		if err != nil {
			return nil, err
		}
		for i := range min(len(f), len(t)) {
			if f[i] != t[i] {
				where := fmt.Sprintf("index %d ", at+int64(i))
				return valueDelta(where+short(f[i]), where+short(t[i])), nil
			}
		}
	}
	return countDelta(nf, nt, "elements"), nil
}

func countDelta(from, to int64, what string) *delta {
	if from == to {
		return nil
	}
	return valueDelta(fmt.Sprintf("%d %s", from, what), fmt.Sprintf("%d %s", to, what))
}

// pieceLen is how many of n elements one reply may hold.
func (p pair) pieceLen(n int64) int64 {
	if p.size < 0 {
		return unknownN
	}
	each := p.size/max(n, 1) + 1
	return min(max(pieceBytes/each, 1), pieceN)
}

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
		d = countDelta(nf, nt, "members")
	}
	return d, err
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
		if t := theirs[i]; t == nil || *t != m.value {
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

// short makes bytes printable and short.
func short(s string) string {
	if len(s) <= shownBytes {
		return strconv.QuoteToASCII(s)
	}
	return strconv.QuoteToASCII(strings.Clone(s[:shownBytes])) + fmt.Sprintf("... (%d bytes)", len(s))
}
