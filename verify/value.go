package verify

import (
	"context"
	"fmt"
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
	dead     int64  // fields of the target whose time has passed
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
	if err != nil && hasPrefix(cause(err), "WRONGTYPE", "NOGROUP", "ERR no such key") {
		return changedDelta(), nil
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
	if w.opt.Mode == Length || w.opt.LargeLength && p.size >= w.opt.LargeBytes {
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
	for at := int64(0); at < max(nf, nt); at += step {
		f, err := w.from.c.LRange(ctx, p.key, at, at+step-1).Result()
		if err != nil {
			return nil, err
		}
		t, err := w.to.c.LRange(ctx, p.key, at, at+step-1).Result()
		if err != nil {
			return nil, err
		}
		for i := range max(len(f), len(t)) {
			where := fmt.Sprintf("index %d ", at+int64(i))
			switch {
			case i >= len(f):
				return valueDelta("no "+strings.TrimSpace(where), where+short(t[i])), nil
			case i >= len(t):
				return valueDelta(where+short(f[i]), "no "+strings.TrimSpace(where)), nil
			case f[i] != t[i]:
				return valueDelta(where+short(f[i]), where+short(t[i])), nil
			}
		}
	}
	return nil, nil
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

// short makes bytes printable and short.
func short(s string) string {
	if len(s) <= shownBytes {
		return strconv.QuoteToASCII(s)
	}
	return strconv.QuoteToASCII(strings.Clone(s[:shownBytes])) + fmt.Sprintf("... (%d bytes)", len(s))
}
