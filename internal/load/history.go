package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// Promise names what a copy is held to.
type Promise string

// The promises a History checks.
const (
	Ordered    Promise = "Ordered"    // writes of a key are in the source's order
	Complete   Promise = "Complete"   // no write of the source is missing
	Once       Promise = "Once"       // no write is there more often than at the source, which may be never
	AtomicUnit Promise = "AtomicUnit" // a transaction is there in whole or not at all
)

// Violation is a broken promise, at one key.
type Violation struct {
	Promise Promise
	Key     string
	Seen    string // at the target
	Want    string // what would have been right
}

func (v *Violation) String() string {
	return fmt.Sprintf("%s broken at %q: seen %s, want %s", v.Promise, v.Key, v.Seen, v.Want)
}

// HistoryConfig says how a History writes.
type HistoryConfig struct {
	Prefix  string
	Keys    int // 0: 64
	Workers int // goroutines, each with keys of its own; 0: 4
	Rate    int // numbers a second over all keys, each written four times over; 0: as fast as they are answered
}

// History writes numbers so that a copy shows by itself what went wrong. Number n of key k is
//
//	RPUSH  log:k n
//	INCR   inc:k
//	APPEND cnt:k "n,"
//	MULTI; SET a:{k} n; SET b:{k} n; EXEC
//
// A number is written when the one before it was answered, or its outcome became unknown. Truth is what the source
// holds when all is over: the client retries, masters fail over, and a number may then be at the source twice, late,
// or, though acknowledged, not at all. None of that is the copy's fault, so it is counted in HistoryStats only.
type History struct {
	cfg    HistoryConfig
	client redis.UniversalClient
	keys   []*numbered

	unknown, acked, samples, sampleErrors atomic.Int64

	mu   sync.Mutex
	torn map[string]*Violation // by key, the first of each
}

// numbered is one key. Of one worker while Run runs.
type numbered struct {
	name  string
	last  int64 // the newest number written
	acked int64 // the newest number acknowledged for its log
}

// HistoryStats is what a History did and met.
type HistoryStats struct {
	Acked        int64 // numbers of which all four writes were acknowledged
	Unknown      int64 // numbers with a write whose outcome is unknown
	Samples      int64 // pairs the sampler read
	SampleErrors int64
}

// NewHistory checks the configuration. client is of the source.
func NewHistory(client redis.UniversalClient, cfg HistoryConfig) (*History, error) {
	cfg.Keys = cmp.Or(cfg.Keys, 64)
	cfg.Workers = cmp.Or(cfg.Workers, 4)
	if cfg.Keys < 0 || cfg.Workers < 0 || cfg.Rate < 0 {
		return nil, errors.New("history: a count or rate is negative")
	}
	if strings.ContainsAny(cfg.Prefix, "{}") {
		return nil, errors.New("history: the prefix has braces; keys bring their own")
	}
	h := &History{cfg: cfg, client: client, torn: map[string]*Violation{}}
	for i := range cfg.Keys {
		h.keys = append(h.keys, &numbered{name: strconv.Itoa(i)})
	}
	return h, nil
}

func (h *History) logKey(k *numbered) string     { return h.cfg.Prefix + "log:" + k.name }
func (h *History) counterKey(k *numbered) string { return h.cfg.Prefix + "inc:" + k.name }
func (h *History) textKey(k *numbered) string    { return h.cfg.Prefix + "cnt:" + k.name }
func (h *History) pairKeys(k *numbered) (string, string) {
	return h.cfg.Prefix + "a:{" + k.name + "}", h.cfg.Prefix + "b:{" + k.name + "}"
}

// Stats may be called at any time.
func (h *History) Stats() HistoryStats {
	return HistoryStats{h.acked.Load(), h.unknown.Load(), h.samples.Load(), h.sampleErrors.Load()}
}

// Run writes until ctx is done, waits for the last answers, and returns nil. It may run again later and goes on with
// the next numbers, but not twice at a time.
func (h *History) Run(ctx context.Context) error {
	var g errgroup.Group
	for i := range min(h.cfg.Workers, len(h.keys)) {
		// Ends with ctx.
		g.Go(func() error { h.work(ctx, i); return nil })
	}
	return g.Wait()
}

func (h *History) work(ctx context.Context, worker int) {
	workers := min(h.cfg.Workers, len(h.keys))
	var mine []*numbered
	for i := worker; i < len(h.keys); i += workers {
		mine = append(mine, h.keys[i])
	}
	// A write that was started is waited for: an unknown outcome is one that the server caused.
	writing := context.WithoutCancel(ctx)
	start := time.Now()
	for done := 0; ctx.Err() == nil; done++ {
		if h.cfg.Rate > 0 {
			due := start.Add(time.Duration(float64(done*workers) / float64(h.cfg.Rate) * float64(time.Second)))
			if !pause(ctx, time.Until(due)) {
				return
			}
		}
		if !h.write(writing, mine[done%len(mine)]) {
			pause(ctx, failPause) // the loop looks at ctx
		}
	}
}

// write writes the next number of k. It returns false when an outcome is unknown.
func (h *History) write(ctx context.Context, k *numbered) bool {
	k.last++
	n := k.last
	p := h.client.Pipeline()
	logged := p.RPush(ctx, h.logKey(k), n)
	p.Incr(ctx, h.counterKey(k))
	p.Append(ctx, h.textKey(k), strconv.FormatInt(n, 10)+",")
	_, err := p.Exec(ctx)
	if err == nil || logged.Err() == nil && logged.Val() > 0 {
		k.acked = n
	}
	a, b := h.pairKeys(k)
	_, txErr := h.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, a, n, 0)
		p.Set(ctx, b, n, 0)
		return nil
	})
	if err != nil || txErr != nil {
		h.unknown.Add(1)
		return false
	}
	h.acked.Add(1)
	return true
}

// Sample reads the pairs of transactions at the target, each with one MGET, until ctx is done; Check reports those
// seen torn. Run it only while the target follows commands: the entries of a snapshot come key by key, and a pair may
// rightly be seen torn then.
func (h *History) Sample(ctx context.Context, target redis.UniversalClient) error {
	reading := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		for page := range slices.Chunk(h.keys, 100) {
			if ctx.Err() != nil {
				break
			}
			h.samplePage(reading, target, page)
		}
		pause(ctx, time.Millisecond) // the loop looks at ctx
	}
	return nil
}

func (h *History) samplePage(ctx context.Context, target redis.UniversalClient, page []*numbered) {
	p := target.Pipeline()
	cmds := make([]*redis.SliceCmd, len(page))
	for i, k := range page {
		a, b := h.pairKeys(k)
		cmds[i] = p.MGet(ctx, a, b)
	}
	_, _ = p.Exec(ctx) // each command has its own error
	for i, cmd := range cmds {
		pair, err := cmd.Result()
		if err != nil || len(pair) != 2 {
			h.sampleErrors.Add(1)
			continue
		}
		h.samples.Add(1)
		if pair[0] == pair[1] {
			continue
		}
		a, b := h.pairKeys(page[i])
		h.mu.Lock()
		if h.torn[a] == nil {
			h.torn[a] = &Violation{AtomicUnit, a, fmt.Sprintf("%v, and %v in %s", pair[0], pair[1], b), "the same number in both"}
		}
		h.mu.Unlock()
	}
}

// state is what a side holds of one key.
type state struct {
	log, text []string
	counter   int64
	a, b      any
}

// WaitCaughtUp waits until the target holds for each key what the source holds. Writing must be over. The error says
// which key was behind when ctx was done; Check then says in what.
func (h *History) WaitCaughtUp(ctx context.Context, source, target redis.UniversalClient) error {
	for {
		behind, err := h.behind(ctx, source, target)
		if err == nil && behind == "" {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("wait for the target: %q is behind: %w", behind, errors.Join(context.Cause(ctx), err))
		}
	}
}

func (h *History) behind(ctx context.Context, source, target redis.UniversalClient) (string, error) {
	for page := range slices.Chunk(h.keys, 32) {
		from, err := h.read(ctx, source, page)
		if err != nil {
			return "", err
		}
		to, err := h.read(ctx, target, page)
		if err != nil {
			return "", err
		}
		for i, k := range page {
			f, t := from[i], to[i]
			if !slices.Equal(f.log, t.log) || !slices.Equal(f.text, t.text) || f.counter != t.counter || f.a != t.a || f.b != t.b {
				return h.logKey(k), nil
			}
		}
	}
	return "", nil
}

// Check compares what source and target hold, and returns at most one violation of each promise for each key of
// Redis. Writing must be over and the target have caught up, as far as it will.
func (h *History) Check(ctx context.Context, source, target redis.UniversalClient) ([]*Violation, error) {
	var vs []*Violation
	h.mu.Lock()
	for _, v := range h.torn {
		vs = append(vs, v)
	}
	h.mu.Unlock()
	for page := range slices.Chunk(h.keys, 32) {
		from, err := h.read(ctx, source, page)
		if err != nil {
			return nil, fmt.Errorf("read history of source: %w", err)
		}
		to, err := h.read(ctx, target, page)
		if err != nil {
			return nil, fmt.Errorf("read history of target: %w", err)
		}
		for i, k := range page {
			vs = append(vs, h.checkKey(k, from[i], to[i])...)
		}
	}
	slices.SortFunc(vs, func(a, b *Violation) int {
		return cmp.Or(cmp.Compare(a.Promise, b.Promise), cmp.Compare(a.Key, b.Key))
	})
	return vs, nil
}

// SourceLost returns the keys whose last acknowledged number the source itself no longer holds: a failover lost it.
func (h *History) SourceLost(ctx context.Context, source redis.UniversalClient) ([]string, error) {
	var lost []string
	for page := range slices.Chunk(h.keys, 32) {
		states, err := h.read(ctx, source, page)
		if err != nil {
			return nil, fmt.Errorf("read history of source: %w", err)
		}
		for i, k := range page {
			if k.acked > 0 && !slices.Contains(states[i].log, strconv.FormatInt(k.acked, 10)) {
				lost = append(lost, h.logKey(k))
			}
		}
	}
	return lost, nil
}

func (h *History) read(ctx context.Context, c redis.UniversalClient, page []*numbered) ([]state, error) {
	p := c.Pipeline()
	logs := make([]*redis.StringSliceCmd, len(page))
	counters := make([]*redis.StringCmd, len(page))
	texts := make([]*redis.StringCmd, len(page))
	pairs := make([]*redis.SliceCmd, len(page))
	for i, k := range page {
		a, b := h.pairKeys(k)
		logs[i] = p.LRange(ctx, h.logKey(k), 0, -1)
		counters[i] = p.Get(ctx, h.counterKey(k))
		texts[i] = p.Get(ctx, h.textKey(k))
		pairs[i] = p.MGet(ctx, a, b)
	}
	cmds, _ := p.Exec(ctx) // nil replies are errors there; each command is looked at
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
	}
	states := make([]state, len(page))
	for i := range page {
		s := &states[i]
		s.log = logs[i].Val()
		if text := strings.TrimSuffix(texts[i].Val(), ","); text != "" {
			s.text = strings.Split(text, ",")
		}
		s.counter, _ = counters[i].Int64() // a missing counter is 0
		s.a, s.b = pairs[i].Val()[0], pairs[i].Val()[1]
	}
	return states, nil
}

func (h *History) checkKey(k *numbered, from, to state) []*Violation {
	vs := slices.Concat(checkNumbers(h.logKey(k), from.log, to.log), checkNumbers(h.textKey(k), from.text, to.text))
	seen, want := strconv.FormatInt(to.counter, 10), strconv.FormatInt(from.counter, 10)
	switch {
	case to.counter < from.counter:
		vs = append(vs, &Violation{Complete, h.counterKey(k), seen, want})
	case to.counter > from.counter:
		vs = append(vs, &Violation{Once, h.counterKey(k), seen, want})
	}
	a, b := h.pairKeys(k)
	if from.a == from.b && to.a != to.b {
		vs = append(vs, &Violation{AtomicUnit, a, fmt.Sprintf("%v, and %v in %s, at the end", to.a, to.b, b), fmt.Sprintf("%v in both", from.a)})
	} else if from.a != to.a {
		vs = append(vs, &Violation{Complete, a, fmt.Sprint(to.a), fmt.Sprint(from.a)})
	}
	return vs
}

// checkNumbers compares two lists of numbers.
func checkNumbers(key string, from, to []string) []*Violation {
	if slices.Equal(from, to) {
		return nil
	}
	there, here := countNumbers(from), countNumbers(to)
	var vs []*Violation
	times := func(n string) (string, string) {
		return fmt.Sprintf("number %s %d times", n, here[n]), fmt.Sprintf("%d times", there[n])
	}
	if i := slices.IndexFunc(from, func(n string) bool { return here[n] < there[n] }); i >= 0 {
		seen, want := times(from[i])
		vs = append(vs, &Violation{Complete, key, seen + ", last " + lastOf(to), want + ", last " + lastOf(from)})
	}
	if i := slices.IndexFunc(to, func(n string) bool { return here[n] > there[n] }); i >= 0 {
		seen, want := times(to[i])
		vs = append(vs, &Violation{Once, key, seen, want})
	}
	// Order is that of the first time each number of both sides is there.
	f, t := firstTimes(from, here), firstTimes(to, there)
	for i := range f {
		if f[i] != t[i] {
			after := "the start"
			if i > 0 {
				after = f[i-1]
			}
			vs = append(vs, &Violation{Ordered, key, fmt.Sprintf("%s after %s", t[i], after), fmt.Sprintf("%s after %s", f[i], after)})
			break
		}
	}
	if len(vs) == 0 {
		// The same numbers, as often, first in the same order: what is doubled at the source is elsewhere.
		vs = append(vs, &Violation{Ordered, key, "doubled numbers at other places", "the source's order"})
	}
	return vs
}

func countNumbers(ns []string) map[string]int {
	m := make(map[string]int, len(ns))
	for _, n := range ns {
		m[n]++
	}
	return m
}

// firstTimes returns those of ns that are in other too, without doubles.
func firstTimes(ns []string, other map[string]int) []string {
	seen := make(map[string]bool, len(ns))
	var first []string
	for _, n := range ns {
		if other[n] > 0 && !seen[n] {
			seen[n] = true
			first = append(first, n)
		}
	}
	return first
}

func lastOf(ns []string) string {
	if len(ns) == 0 {
		return "none"
	}
	return ns[len(ns)-1]
}
