package verify

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

const (
	// dumpBytes bounds the payloads one pipeline of DUMPs asks of one side.
	dumpBytes = 16 << 20
	// expiring is how close to its expiry a key may be that is then waited for.
	expiring = time.Second
	// decoders is how many values of one page are read in pieces at a time.
	decoders = 4
	// redirects is how often keys are asked for again after a look at who has them now.
	redirects = 3
)

// meta is what is read of a key before its value.
type meta struct {
	exists bool
	away   bool   // the server sent us elsewhere
	typ    string // "" while not asked for
	expiry int64  // Unix milliseconds, 0 for none
	size   int64  // memory, roughly; -1 when unknown
	sum    [20]byte
	summed bool
}

// found is what was seen of a key that differs.
type found struct {
	diffs  []Difference
	prints [2]uint64 // of type, expiry and value as each side had them: equal prints are the same state
}

// looked is the outcome for some keys: those that differ, and how many were there to compare.
type looked struct {
	diffs map[string]found
	n     int
	gone  []string // at neither side any more
}

// compareKeys compares keys that exist at least at one side.
func (c *comparison) compareKeys(ctx context.Context, sp Databases, keys []string) (looked, error) {
	out := looked{diffs: map[string]found{}}
	left := keys
	for range redirects {
		away, err := c.compareOnce(ctx, sp, left, &out, false)
		if err != nil || len(away) == 0 {
			return out, err
		}
		left = away
		if err := c.lookAgain(ctx); err != nil {
			return out, err
		}
	}
	err := c.compareAway(ctx, sp, left, &out)
	return out, err
}

// compareOnce compares keys and returns those that a server would not answer for. again: this is the second look at
// keys that were about to expire.
func (c *comparison) compareOnce(ctx context.Context, sp Databases, keys []string, out *looked, again bool) (away []string, err error) {
	p := &pageWork{c: c, sp: sp, keys: keys, out: out}
	p.metas[0], p.metas[1] = make([]meta, len(keys)), make([]meta, len(keys))
	tolerance, err := p.readMetas(ctx)
	if err != nil {
		return nil, err
	}
	var leaving []string // to be looked at again
	var until int64
	soon := c.sourceNow() + expiring.Milliseconds()
	var untyped []int32
	for i, k := range keys {
		f, t := &p.metas[0][i], &p.metas[1][i]
		switch {
		case f.away || t.away:
			away = append(away, k)
		case !f.exists && !t.exists:
			out.gone = append(out.gone, k)
		case f.exists && t.exists:
			p.both = append(p.both, int32(i))
			if p.large(int32(i)) && f.typ == "" {
				untyped = append(untyped, int32(i))
			}
		default:
			// One side expired it a moment before the other: an outcome only once the moment has passed. Then a key that a
			// sink holds is as good as gone: it waits for the source's DEL.
			e := c.exactExpiry(f, t)
			if e != 0 && e <= soon && !again {
				leaving = append(leaving, k)
				until = max(until, e)
				continue
			}
			if t.exists && c.opt.ExpiryHold > 0 && e != 0 && e <= c.sourceNow() {
				out.gone = append(out.gone, k)
				continue
			}
			p.alone = append(p.alone, int32(i))
			if f.typ+t.typ == "" {
				untyped = append(untyped, int32(i))
			}
		}
	}
	if err := p.readTypes(ctx, untyped); err != nil {
		return nil, err
	}
	if err := p.reportAlone(ctx); err != nil {
		return nil, err
	}
	p.patient = again
	if err := p.compareBoth(ctx, tolerance); err != nil {
		return nil, err
	}
	away, leaving = append(away, p.away...), append(leaving, p.changed...)
	out.n += len(p.alone) + len(p.both) - len(p.away) - len(p.changed)
	if len(leaving) == 0 {
		return away, nil
	}
	if err := sleep(ctx, time.Duration(until+10-c.sourceNow())*time.Millisecond); err != nil {
		return nil, err
	}
	more, err := c.compareOnce(ctx, sp, leaving, out, true)
	return append(away, more...), err
}

// sourceNow is the source's clock, in Unix milliseconds: ours may be another.
func (c *comparison) sourceNow() int64 { return time.Now().Add(c.from.ahead).UnixMilli() }

// exactExpiry is when a key that one side has expires by the source's word, 0 for never.
func (c *comparison) exactExpiry(f, t *meta) int64 {
	if t.exists && t.expiry != 0 {
		return t.expiry - c.opt.ExpiryHold.Milliseconds()
	}
	return f.expiry
}

// pageWork is the comparison of one page.
type pageWork struct {
	c     *comparison
	sp    Databases
	keys  []string
	metas [2][]meta // of source and target
	both  []int32   // keys that exist at both sides
	alone []int32   // at one side only
	out   *looked

	patient bool     // a key that changes while it is read has had its second look
	client  bool     // read by the client library, which follows keys that are being moved
	away    []string // of both, those that a server would not answer for
	changed []string // of both, those that changed while they were read
}

func (p *pageWork) of(s *side) []meta {
	if s == p.c.from {
		return p.metas[0]
	}
	return p.metas[1]
}

// readMetas reads what the mode needs of all keys. Without PEXPIRETIME an expiry is reckoned by the clock, and the
// result tells by how much it may be off.
func (p *pageWork) readMetas(ctx context.Context) (time.Duration, error) {
	c := p.c
	if c.opt.Mode == Digest && c.from.offer.digests() && c.to.offer.digests() {
		return 0, p.readDigests(ctx)
	}
	sizes := c.opt.Mode != Keys && c.opt.Mode != Length && c.from.offer.memory && c.to.offer.memory
	perKey := func(*side) int { return 2 }
	if c.opt.Mode == Keys {
		perKey = func(*side) int { return 1 }
	}
	sent := time.Now()
	err := c.askBoth(ctx, p.sp, p.keys, allOf(len(p.keys)), perKey, func(s *side, cn *conn, i int32) {
		if sizes {
			cn.addKey(askMemory, p.keys[i])
		} else {
			cn.addKey(askType, p.keys[i])
		}
		switch {
		case c.opt.Mode == Keys:
		case s.offer.expireTime:
			cn.addKey(askExpireTime, p.keys[i])
		default:
			cn.addKey(askTTL, p.keys[i])
		}
	}, func(s *side, i int32, j int, r resp.Reply) error {
		m := &p.of(s)[i]
		if err := r.Err(); err != nil {
			return m.refusal(s, p.keys[i], err)
		}
		switch {
		case j == 1:
			m.setExpiry(s, r.Int, sent)
		case sizes:
			m.exists, m.size = !r.IsNull(), r.Int
		default:
			m.typ, m.size = typeName(r.Str), -1
			m.exists = m.typ != "none"
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	var off time.Duration
	for _, s := range []*side{c.from, c.to} {
		if !s.offer.expireTime {
			off += time.Since(sent) + s.aheadOff
		}
	}
	return off, nil
}

// setExpiry takes the answer of PEXPIRETIME or PTTL. -2: the key went between the two commands.
func (m *meta) setExpiry(s *side, ms int64, sent time.Time) {
	switch {
	case ms == -2:
		m.exists = false
	case ms < 0:
	case s.offer.expireTime:
		m.expiry = ms
	default:
		m.expiry = sent.UnixMilli() + s.ahead.Milliseconds() + ms
	}
}

// refusal takes an error reply for a key: one that sends us elsewhere is for another look, any other ends the comparison.
func (m *meta) refusal(s *side, key string, err error) error {
	if redirected(err) {
		m.away = true
		return nil
	}
	return s.refusal(key, err)
}

func (s *side) refusal(key string, err error) error {
	addr := s.at.Addrs[0]
	if n := s.now().nodeOf(key); n != nil {
		addr = n.addr
	}
	e := sideError{s.name, addr, "read key " + short(key), err}
	if hasPrefix(err, "NOPERM") {
		return &rightError{e}
	}
	return &e
}

// typeName is a type's name without an allocation for those that everybody has.
func typeName(b []byte) string {
	switch string(b) {
	case "string":
		return "string"
	case "list":
		return "list"
	case "set":
		return "set"
	case "zset":
		return "zset"
	case "hash":
		return "hash"
	case "stream":
		return "stream"
	case "none":
		return "none"
	}
	return string(b)
}

// readTypes asks for the types of keys where they are needed for the report or to read the value in pieces.
func (p *pageWork) readTypes(ctx context.Context, index []int32) error {
	return p.c.askBoth(ctx, p.sp, p.keys, index, func(*side) int { return 1 }, func(_ *side, cn *conn, i int32) {
		cn.addKey(askType, p.keys[i])
	}, func(s *side, i int32, _ int, r resp.Reply) error {
		if err := r.Err(); err != nil {
			return p.of(s)[i].refusal(s, p.keys[i], err)
		}
		m := &p.of(s)[i]
		if m.typ = typeName(r.Str); m.typ == "none" {
			m.typ = ""
		}
		return nil
	})
}

func (p *pageWork) add(i int32, kind Kind, from, to string) {
	k := p.keys[i]
	f := p.out.diffs[k]
	f.diffs = append(f.diffs, Difference{Key: k, DB: p.sp.From, Slot: slot.Of([]byte(k)), Kind: kind, From: from, To: to})
	p.out.diffs[k] = f
}

// print notes what was seen of a key that differs: expiry and type are added to the prints of its values.
func (p *pageWork) print(i int32, from, to uint64) {
	f, ok := p.out.diffs[p.keys[i]]
	if !ok {
		return
	}
	for s, v := range [2]uint64{from, to} {
		m := &p.metas[s][i]
		f.prints[s] = xxhash.Sum64String(fmt.Sprint(v, m.exists, m.typ, m.expiry))
	}
	p.out.diffs[p.keys[i]] = f
}

// large tells whether a value is read in pieces.
func (p *pageWork) large(i int32) bool {
	f, t := &p.metas[0][i], &p.metas[1][i]
	return f.size < 0 || t.size < 0 || max(f.size, t.size) >= p.c.opt.LargeBytes || !p.c.from.offer.dump || !p.c.to.offer.dump
}

func (p *pageWork) compareBoth(ctx context.Context, tolerance time.Duration) error {
	c := p.c
	deltas := make([]*delta, len(p.keys))
	var small, pieces []int32
	for _, i := range p.both {
		f, t := &p.metas[0][i], &p.metas[1][i]
		switch {
		case f.away || t.away:
			deltas[i] = &delta{outcome: away}
		case f.typ != "" && t.typ != "" && f.typ != t.typ:
			deltas[i] = &delta{kind: Type, from: f.typ, to: t.typ}
		case c.opt.Mode == Keys, f.summed && t.summed && f.sum == t.sum:
		case f.typ == "" && t.typ == "" && p.large(i), (f.typ == "") != (t.typ == ""):
			deltas[i] = changedDelta() // gone between two commands
		case c.opt.Mode == Length:
			pieces = append(pieces, i)
		case p.large(i):
			pieces = append(pieces, i)
		default:
			small = append(small, i)
		}
	}
	var err error
	if c.opt.Mode == Length && !p.client {
		err = p.compareLengths(ctx, pieces, deltas)
	} else {
		if err = p.compareSmall(ctx, small, deltas); err == nil {
			err = p.comparePieces(ctx, pieces, deltas)
		}
	}
	if err != nil {
		return err
	}
	for _, i := range p.both {
		f, t := &p.metas[0][i], &p.metas[1][i]
		var from, to uint64
		if d := deltas[i]; d != nil {
			switch {
			case d.outcome == away:
				p.away = append(p.away, p.keys[i])
				continue
			case d.outcome == changed && !p.patient:
				p.changed = append(p.changed, p.keys[i])
				continue
			}
			p.add(i, d.kind, d.from, d.to)
			from, to = d.prints()
		}
		if c.opt.Mode != Keys && !c.expiryEqual(f.expiry, t.expiry, c.opt.TTLTolerance+tolerance) {
			p.add(i, Expiry, expiryText(f.expiry), expiryText(t.expiry))
		}
		p.print(i, from, to)
	}
	return nil
}

// comparePieces compares values that are too large for a payload, or have none.
func (p *pageWork) comparePieces(ctx context.Context, index []int32, deltas []*delta) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(decoders)
	for _, i := range index {
		g.Go(func() error {
			f, t := &p.metas[0][i], &p.metas[1][i]
			one := pair{key: p.keys[i], typ: f.typ, size: max(f.size, t.size)}
			if f.size < 0 || t.size < 0 {
				one.size = -1
			}
			d, err := p.c.compareLarge(ctx, p.sp, one)
			if err != nil {
				return fmt.Errorf("compare %s %s: %w", one.typ, short(one.key), err)
			}
			mu.Lock()
			defer mu.Unlock()
			deltas[i] = d
			return nil
		})
	}
	return g.Wait()
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
	return strconv.FormatInt(ms, 10) + " (" + time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") + ")"
}

func describe(m *meta) string {
	typ := m.typ
	if typ == "" {
		typ = "a key"
	}
	if m.expiry == 0 {
		return typ
	}
	return typ + " until " + expiryText(m.expiry)
}
