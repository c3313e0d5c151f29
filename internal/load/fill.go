package load

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// Mix is the share of each type among the keys, as weights. The zero Mix is DefaultMix.
type Mix struct {
	String, Int, Hash, LargeHash, List, Set, IntSet, ZSet, Stream int
}

// DefaultMix is a keyspace of mostly small things, as most are.
var DefaultMix = Mix{String: 350, Int: 150, Hash: 150, LargeHash: 2, List: 100, Set: 80, IntSet: 40, ZSet: 100, Stream: 28}

func (m Mix) weights() []int {
	return []int{m.String, m.Int, m.Hash, m.LargeHash, m.List, m.Set, m.IntSet, m.ZSet, m.Stream}
}

var fillers = []func(*filler, string){
	(*filler).str, (*filler).integer, (*filler).hash, (*filler).largeHash, (*filler).list, (*filler).set,
	(*filler).intSet, (*filler).zset, (*filler).stream,
}

// FillConfig says what Fill writes. Key i is the same for the same Seed, Mix and Prefix, whatever Keys is.
type FillConfig struct {
	Keys   int
	Seed   uint64
	Mix    Mix
	Prefix string // of every key; binary keys have it too

	TTLShare      float64       // of keys with an expiry one hour to one day away, 0 to 1
	ShortTTLShare float64       // of keys with an expiry up to ShortTTL away, 0 to 1
	ShortTTL      time.Duration // 0: 10 seconds
	LargeN        int           // fields of a large hash; 0: 600, a hash table for every version of Redis

	Workers  int // pipelines in flight; 0: 8
	Pipeline int // keys of a pipeline; 0: 200
}

func (c *FillConfig) validate() error {
	c.Workers = cmp.Or(c.Workers, 8)
	c.Pipeline = cmp.Or(c.Pipeline, 200)
	c.ShortTTL = cmp.Or(c.ShortTTL, 10*time.Second)
	c.LargeN = cmp.Or(c.LargeN, 600)
	c.Mix = cmp.Or(c.Mix, DefaultMix)
	var errs []error
	if c.Keys < 0 || c.Workers < 0 || c.Pipeline < 0 || c.LargeN < 0 || c.ShortTTL < 0 {
		errs = append(errs, errors.New("fill: a count or time is negative"))
	}
	if c.TTLShare < 0 || c.ShortTTLShare < 0 || c.TTLShare+c.ShortTTLShare > 1 {
		errs = append(errs, fmt.Errorf("fill: shares of keys with an expiry are %v and %v, want 0 to 1 together", c.TTLShare, c.ShortTTLShare))
	}
	sum := 0
	for _, w := range c.Mix.weights() {
		if w < 0 {
			errs = append(errs, fmt.Errorf("fill: weight %d in the mix", w))
		}
		sum += w
	}
	if sum <= 0 {
		errs = append(errs, errors.New("fill: the mix has no types"))
	}
	return errors.Join(errs...)
}

// Fill writes keys. It stops at the first error; keys that exist already are written over.
func Fill(ctx context.Context, client redis.UniversalClient, cfg FillConfig) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range cfg.Workers {
		// Ends when all keys are taken, or with ctx.
		g.Go(func() error {
			f := newFiller(cfg)
			f.ctx = ctx
			for {
				first := int(next.Add(int64(cfg.Pipeline))) - cfg.Pipeline
				if first >= cfg.Keys {
					return nil
				}
				f.p = client.Pipeline()
				for i := first; i < min(first+cfg.Pipeline, cfg.Keys); i++ {
					f.key(i)
				}
				if _, err := f.p.Exec(ctx); err != nil {
					return fmt.Errorf("fill keys from %d: %w", first, err)
				}
			}
		})
	}
	return g.Wait()
}

// filler writes keys into a pipeline. Only one goroutine uses it.
type filler struct {
	cfg     FillConfig
	weights []int
	sum     int
	pcg     *rand.PCG
	r       *rand.Rand
	ctx     context.Context //nolint:containedctx // of the one Fill that it works for
	p       redis.Pipeliner
}

func newFiller(cfg FillConfig) *filler {
	f := &filler{cfg: cfg, weights: cfg.Mix.weights(), pcg: rand.NewPCG(0, 0)}
	for _, w := range f.weights {
		f.sum += w
	}
	f.r = rand.New(f.pcg)
	return f
}

// key writes key i. Random numbers start anew for every key, so that it depends on its number only.
func (f *filler) key(i int) {
	f.pcg.Seed(f.cfg.Seed, uint64(i))
	k := f.name(i)
	n := f.r.IntN(f.sum)
	kind := 0
	for n >= f.weights[kind] {
		n -= f.weights[kind]
		kind++
	}
	// Collections would grow over a second Fill.
	if kind > 1 {
		f.p.Unlink(f.ctx, k)
	}
	fillers[kind](f, k)
	switch x := f.r.Float64(); {
	case x < f.cfg.TTLShare:
		f.p.PExpire(f.ctx, k, time.Hour+time.Duration(f.r.Int64N(int64(23*time.Hour/time.Millisecond)))*time.Millisecond)
	case x < f.cfg.TTLShare+f.cfg.ShortTTLShare:
		f.p.PExpire(f.ctx, k, time.Duration(1+f.r.Int64N(max(1, f.cfg.ShortTTL.Milliseconds())))*time.Millisecond)
	}
}

// name is plain, with a hash tag, or binary; the number makes it unique in each of the forms.
func (f *filler) name(i int) string {
	switch n := f.r.IntN(10); {
	case n < 6:
		return f.cfg.Prefix + "key:" + strconv.Itoa(i)
	case n < 9:
		return f.cfg.Prefix + "{user" + strconv.Itoa(f.r.IntN(1+f.cfg.Keys/10)) + "}:" + strconv.Itoa(i)
	default:
		b := append([]byte(f.cfg.Prefix), 0, '\r', '\n', 0xff)
		b = binary.BigEndian.AppendUint64(b, f.r.Uint64())
		return string(binary.BigEndian.AppendUint64(b, uint64(i)))
	}
}

func (f *filler) str(k string) { f.p.Set(f.ctx, k, value(f.r, 200), 0) }

func (f *filler) integer(k string) { f.p.Set(f.ctx, k, int64(f.r.Uint64()>>f.r.IntN(64)), 0) }

func (f *filler) hash(k string) { f.hashOf(k, 1+f.r.IntN(10)) }

func (f *filler) largeHash(k string) { f.hashOf(k, f.cfg.LargeN) }

func (f *filler) hashOf(k string, n int) {
	args := make([]any, 0, 2*n)
	for i := range n {
		args = append(args, "field:"+strconv.Itoa(i), value(f.r, 30))
	}
	f.p.HSet(f.ctx, k, args...)
}

func (f *filler) list(k string) { f.p.RPush(f.ctx, k, f.values(20)...) }

func (f *filler) set(k string) { f.p.SAdd(f.ctx, k, f.values(20)...) }

func (f *filler) values(n int) []any {
	args := make([]any, 1+f.r.IntN(n))
	for i := range args {
		args[i] = value(f.r, 30)
	}
	return args
}

func (f *filler) intSet(k string) {
	args := make([]any, 1+f.r.IntN(30))
	for i := range args {
		args[i] = int64(f.r.Uint64() >> f.r.IntN(64))
	}
	f.p.SAdd(f.ctx, k, args...)
}

func (f *filler) zset(k string) {
	zs := make([]redis.Z, 1+f.r.IntN(20))
	for i := range zs {
		zs[i] = redis.Z{Score: score(f.r), Member: value(f.r, 20)}
	}
	f.p.ZAdd(f.ctx, k, zs...)
}

// stream is one with a deleted entry, two groups, and entries pending or acknowledged.
func (f *filler) stream(k string) {
	n := 3 + f.r.IntN(10)
	ids := make([]string, n)
	for i := range n {
		ids[i] = fmt.Sprintf("%d-%d", 1_700_000_000_000+i, f.r.IntN(3))
		f.p.XAdd(f.ctx, &redis.XAddArgs{Stream: k, ID: ids[i], Values: []any{"n", i, "v", value(f.r, 30)}})
	}
	f.p.XGroupCreate(f.ctx, k, "idle", "$")
	f.p.XGroupCreate(f.ctx, k, "busy", "0")
	f.p.XReadGroup(f.ctx, &redis.XReadGroupArgs{Group: "busy", Consumer: "c" + strconv.Itoa(f.r.IntN(3)), Streams: []string{k, ">"}, Count: 2, Block: -1})
	f.p.XAck(f.ctx, k, "busy", ids[0])
	f.p.XDel(f.ctx, k, ids[n-1])
}

// value is up to n bytes: text that compresses, or any bytes.
func value(r *rand.Rand, n int) string {
	b := make([]byte, 1+r.IntN(n))
	switch r.IntN(3) {
	case 0:
		for i := range b {
			b[i] = byte('a' + i%7)
		}
		return strconv.Itoa(r.IntN(1_000_000)) + string(b)
	case 1:
		return strconv.FormatUint(r.Uint64(), 36)
	default:
		for i := 0; i < len(b); i += 8 {
			x := r.Uint64()
			for j := i; j < min(i+8, len(b)); j++ {
				b[j] = byte(x)
				x >>= 8
			}
		}
		return string(b)
	}
}

func score(r *rand.Rand) float64 {
	switch r.IntN(4) {
	case 0:
		return float64(r.IntN(1000))
	case 1:
		return -r.Float64()
	default:
		return r.NormFloat64() * 1e6
	}
}
