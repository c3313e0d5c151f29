package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/redriver/redriver/redis/resp"
)

// delta is how a value differs, in words.
type delta struct {
	kind     Kind
	from, to string
	// fromPrint and toPrint are of the whole values where they were read whole, else 0.
	fromPrint, toPrint uint64
	outcome            outcome
}

// outcome is how reading a value has ended.
type outcome byte

const (
	differs outcome = iota
	changed         // while it was read: it may be equal
	away            // the server sent us elsewhere
)

// changedDelta stands for a value that was not the same, or not there, from one command to the next.
func changedDelta() *delta {
	const text = "changed while it was read"
	return &delta{kind: Value, from: text, to: text, outcome: changed}
}

// lookN numbers looks of which nobody knows what they have seen.
var lookN atomic.Uint64

// prints tells states of the values apart. Of one that was read in pieces only the first difference is known. One that
// changed while it was read never has the same state twice.
func (d *delta) prints() (from, to uint64) {
	if d.outcome == changed {
		return lookN.Add(1), 0
	}
	if d.fromPrint == 0 && d.toPrint == 0 {
		return xxhash.Sum64String(d.from), xxhash.Sum64String(d.to)
	}
	return d.fromPrint, d.toPrint
}

// compareSmall compares values by their DUMP payloads, in groups that fit into memory.
func (p *pageWork) compareSmall(ctx context.Context, index []int32, deltas []*delta) error {
	for len(index) > 0 {
		var bytes int64
		n := 0
		for n < len(index) {
			size := max(p.metas[0][index[n]].size, p.metas[1][index[n]].size)
			if n > 0 && bytes+size > dumpBytes {
				break
			}
			bytes += size
			n++
		}
		some := index[:n]
		index = index[n:]
		for len(some) > 0 {
			err := p.compareDumps(ctx, some, deltas)
			large, ok := errors.AsType[*tooLargeError](err)
			if !ok {
				if err != nil {
					return err
				}
				break
			}
			// MEMORY USAGE asks a few elements of many: this value has larger ones.
			some = without(some, func(i int32) bool { return i == large.i })
			p.metas[0][large.i].size = max(p.metas[0][large.i].size, p.c.opt.LargeBytes)
			if err := p.readTypes(ctx, []int32{large.i}); err != nil {
				return err
			}
			if err := p.compareTyped(ctx, []int32{large.i}, deltas); err != nil {
				return err
			}
		}
	}
	return nil
}

// payloads holds the answers of the source until the target's arrive.
type payloads struct {
	bytes []byte
	at    []span // by key of the page
}

type span struct{ from, to int }

// compareDumps reads the payloads of both sides. Equal payloads are equal values; others are decoded.
func (p *pageWork) compareDumps(ctx context.Context, index []int32, deltas []*delta) error {
	c := p.c
	held := c.payloads.Get().(*payloads)
	defer c.payloads.Put(held)
	held.bytes = held.bytes[:0]
	if len(held.at) < len(p.keys) {
		held.at = make([]span, len(p.keys))
	}
	d := c.decoders.Get().(*valueComparer)
	defer c.decoders.Put(d)
	for _, i := range index {
		deltas[i] = nil // of an attempt before this one
	}
	var pieces []int32
	err := c.askBoth(ctx, p.sp, p.keys, index, func(*side) int { return 1 }, func(_ *side, cn *conn, i int32) {
		cn.addKey(askDump, p.keys[i])
	}, func(s *side, i int32, _ int, r resp.Reply) error {
		if err := r.Err(); err != nil && !redirected(err) {
			return s.refusal(p.keys[i], err)
		}
		if r.Kind == resp.KindError {
			deltas[i] = &delta{outcome: away}
		}
		var payload []byte // nil: gone
		if r.Kind == resp.KindBulk {
			payload = r.Str
		}
		if s == c.from {
			start := len(held.bytes)
			held.bytes = append(held.bytes, payload...)
			held.at[i] = span{start, len(held.bytes)}
			return nil
		}
		if deltas[i] != nil {
			return nil
		}
		from := held.bytes[held.at[i].from:held.at[i].to]
		var ok bool
		if deltas[i], ok = d.compare(from, payload); !ok {
			pieces = append(pieces, i)
		}
		return nil
	})
	if cap(held.bytes) > 4*dumpBytes {
		held.bytes = nil
	}
	if err != nil {
		return err
	}
	if len(pieces) == 0 {
		return nil
	}
	// Payloads that this version cannot decode.
	if err := p.readTypes(ctx, pieces); err != nil {
		return err
	}
	return p.compareTyped(ctx, pieces, deltas)
}

// compareTyped compares values in pieces whose types were asked for just now.
func (p *pageWork) compareTyped(ctx context.Context, index []int32, deltas []*delta) error {
	for _, i := range index {
		f, t := p.metas[0][i].typ, p.metas[1][i].typ
		switch {
		case p.metas[0][i].away || p.metas[1][i].away:
			deltas[i] = &delta{outcome: away}
		case f == "" || t == "":
			deltas[i] = changedDelta()
		case f != t:
			deltas[i] = &delta{kind: Type, from: f, to: t}
		}
	}
	return p.comparePieces(ctx, without(index, func(i int32) bool { return deltas[i] != nil }), deltas)
}

// compareLengths is all of a value that Length looks at.
func (p *pageWork) compareLengths(ctx context.Context, index []int32, deltas []*delta) error {
	lengths := make([]string, len(p.keys))
	index = without(index, func(i int32) bool { return lengthCommand(p.metas[0][i].typ) == "" })
	return p.c.askBoth(ctx, p.sp, p.keys, index, func(*side) int { return 1 }, func(_ *side, cn *conn, i int32) {
		cn.add(lengthCommand(p.metas[0][i].typ), p.keys[i])
	}, func(s *side, i int32, _ int, r resp.Reply) error {
		if err := r.Err(); err != nil && !redirected(err) && !hasPrefix(err, "WRONGTYPE") {
			return s.refusal(p.keys[i], err)
		}
		switch n := strconv.FormatInt(r.Int, 10); {
		case r.Kind == resp.KindError && redirected(r.Err()):
			deltas[i] = &delta{outcome: away}
		case r.Kind != resp.KindInt:
			deltas[i] = changedDelta()
		case s == p.c.from:
			lengths[i] = n
		case deltas[i] != nil || lengths[i] == n:
		case (n == "0" || lengths[i] == "0") && !p.patient: // gone, most likely; else it looks like that again
			deltas[i] = &delta{kind: Value, from: "length " + lengths[i], to: "length " + n, outcome: changed}
		default:
			deltas[i] = &delta{kind: Value, from: "length " + lengths[i], to: "length " + n}
		}
		return nil
	})
}

// lengthCommand tells the length of a value in one number; "" for a module's type.
func lengthCommand(typ string) string {
	switch typ {
	case "string":
		return "STRLEN"
	case "list":
		return "LLEN"
	case "set":
		return "SCARD"
	case "zset":
		return "ZCARD"
	case "hash":
		return "HLEN"
	case "stream":
		return "XLEN"
	}
	return ""
}

// digestScript answers, for each key of ARGV from the second on: memory, expiry, and the SHA-1 of its payload without
// version and checksum, which is empty for values of ARGV[1] bytes and more, and for types whose bytes mean one thing in
// Redis and another in Valkey, or hold expiry times: from 22 on. A key that is not there has a memory of -1.
const digestScript = `
local out = {}
for i = 2, #ARGV do
  local size = redis.call('MEMORY', 'USAGE', ARGV[i])
  if size then
    local sum = ''
    if size < tonumber(ARGV[1]) then
      local payload = redis.call('DUMP', ARGV[i])
      if payload and string.byte(payload) < 22 then sum = redis.sha1hex(string.sub(payload, 1, -11)) end
    end
    out[#out + 1] = size
    out[#out + 1] = redis.call('PEXPIRETIME', ARGV[i])
    out[#out + 1] = sum
  else
    out[#out + 1] = -1
    out[#out + 1] = -2
    out[#out + 1] = ''
  end
end
return out`

// digests tells whether a side can do that. Before 7.0, which brought PEXPIRETIME, a script could not read several slots
// of a cluster.
func (o *offer) digests() bool { return o.script && o.memory && o.dump && o.expireTime }

// digestKeys is how many keys one script looks at: it blocks its server meanwhile.
const digestKeys = 50

// readDigests reads meta and sum of all keys by scripts.
func (p *pageWork) readDigests(ctx context.Context) error {
	for _, s := range []*side{p.c.from, p.c.to} {
		v := s.now()
		byNode := map[*node][]int32{}
		for i, k := range p.keys {
			n := v.nodeOf(k)
			if n == nil {
				return &sideError{s.name, s.at.Addrs[0], "find key " + short(k), errNoOwner}
			}
			byNode[n] = append(byNode[n], int32(i))
		}
		for n, index := range byNode {
			for len(index) > 0 {
				some := index[:min(digestKeys, len(index))]
				index = index[len(some):]
				if err := p.digestSome(ctx, s, n, some); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *pageWork) digestSome(ctx context.Context, s *side, n *node, index []int32) error {
	cn, err := n.take(ctx, p.c.db(s, p.sp))
	if err != nil {
		return err
	}
	// The shebang lets one script read keys of several slots; all of them are this node's.
	cn.out = resp.AppendArrayHeader(cn.out, 4+len(index))
	for _, w := range []string{"EVAL", "#!lua flags=no-writes,allow-cross-slot-keys\n" + digestScript, "0", strconv.FormatInt(p.c.opt.LargeBytes, 10)} {
		cn.out = resp.AppendBulkString(cn.out, w)
	}
	for _, i := range index {
		cn.out = resp.AppendBulkString(cn.out, p.keys[i])
	}
	if err := cn.send(); err != nil {
		n.give(cn, false)
		return err
	}
	r, err := cn.read()
	if err != nil {
		n.give(cn, false)
		return err
	}
	defer n.give(cn, true)
	metas := p.of(s)
	if err := r.Err(); err != nil {
		// A slot moved: nobody knows which, so all of them are asked for again.
		if redirected(err) || strings.Contains(err.Error(), "non local key") {
			for _, i := range index {
				metas[i].away = true
			}
			return nil
		}
		return &sideError{s.name, n.addr, "run the script of mode digest", err}
	}
	if len(r.Elems) != 3*len(index) {
		return &sideError{s.name, n.addr, "run the script of mode digest", fmt.Errorf("%d answers for %d keys", len(r.Elems), len(index))}
	}
	for at, i := range index {
		size, expiry, sum := r.Elems[3*at], r.Elems[3*at+1], r.Elems[3*at+2]
		m := &metas[i]
		*m = meta{exists: size.Int >= 0, size: size.Int}
		m.setExpiry(s, expiry.Int, time.Time{}) // PEXPIRETIME needs no clock
		if len(sum.Str) == 2*len(m.sum) {
			_, err := hex.Decode(m.sum[:], sum.Str)
			m.summed = err == nil
		}
	}
	return nil
}
