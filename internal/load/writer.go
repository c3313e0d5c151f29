package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/redis/slot"
)

// WriterConfig says what a Writer writes.
type WriterConfig struct {
	Seed   uint64
	Prefix string // of the keys that this writer has for itself
	Shared string // prefix of keys that it shares with others who name the same; empty: it shares none
	Keys   int    // names of each type in each of both key spaces; 0: 100

	Rate     int      // operations a second; 0: as fast as they are answered
	Pipeline int      // operations sent without waiting; 0: 16
	Without  []string // operations left out, by their names in Operations
}

// Counts is what a Writer has done.
type Counts struct {
	Commands int64            // answered, errors included
	Rejected int64            // answered by an error, such as WRONGTYPE; some are expected
	Failed   int64            // not answered: whether they took effect is unknown
	ByName   map[string]int64 // answered without an error, by command
	Errors   map[string]int64 // by the first word of a reply, "connection" for what failed
}

// Writer writes a mix of all kinds of commands. Its client may retry on its own: what it writes has no meaning.
// Values stay small: what grows is trimmed or deleted by other operations.
type Writer struct {
	cfg    WriterConfig
	client redis.UniversalClient
	r      *rand.Rand
	ops    []operation
	sum    int

	// Of the goroutine in Run only.
	ctx    context.Context //nolint:containedctx // of the batch that is being built
	p      redis.Pipeliner
	later  []func() (cmds []redis.Cmder, err error) // transactions of the batch
	recent []entryID                                // stream entries that were added, at most recentN
	owners map[slot.Slot]string                     // nil: not a cluster
	asked  time.Time                                // when owners was read

	mu     sync.Mutex
	counts Counts
}

type entryID struct{ key, id string }

const (
	recentN    = 64
	ownersLast = 2 * time.Second // how old owners may be
	failPause  = 20 * time.Millisecond
)

// NewWriter checks the configuration.
func NewWriter(client redis.UniversalClient, cfg WriterConfig) (*Writer, error) {
	cfg.Keys = cmp.Or(cfg.Keys, 100)
	cfg.Pipeline = cmp.Or(cfg.Pipeline, 16)
	w := &Writer{cfg: cfg, client: client, r: rand.New(rand.NewPCG(cfg.Seed, 0x10ad))}
	w.counts = Counts{ByName: map[string]int64{}, Errors: map[string]int64{}}
	var errs []error
	if cfg.Keys < 0 || cfg.Pipeline < 0 || cfg.Rate < 0 {
		errs = append(errs, errors.New("writer: a count or rate is negative"))
	}
	if cfg.Prefix == "" && cfg.Shared == "" {
		errs = append(errs, errors.New("writer: neither a prefix nor a shared one"))
	}
	for _, n := range cfg.Without {
		if !slices.Contains(Operations(), n) {
			errs = append(errs, fmt.Errorf("writer: no operation %q to leave out", n))
		}
	}
	for _, o := range operations {
		if !slices.Contains(cfg.Without, o.name) {
			w.ops = append(w.ops, o)
			w.sum += o.weight
		}
	}
	if w.sum == 0 {
		errs = append(errs, errors.New("writer: all operations are left out"))
	}
	return w, errors.Join(errs...)
}

// Operations lists the names of all operations.
func Operations() []string {
	names := make([]string, len(operations))
	for i, o := range operations {
		names[i] = o.name
	}
	return names
}

// Counts tells what was done so far. It may be called at any time.
func (w *Writer) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.counts
	c.ByName, c.Errors = maps.Clone(c.ByName), maps.Clone(c.Errors)
	return c
}

// Run writes until ctx is done, waits for the last answers, and returns nil. Errors of the server and of connections
// are counted and passed over.
func (w *Writer) Run(ctx context.Context) error {
	batch := w.cfg.Pipeline
	if w.cfg.Rate > 0 {
		batch = max(1, min(batch, w.cfg.Rate/50)) // evenly, not in bursts
	}
	// A batch that was started is waited for, so that its outcome is known.
	w.ctx = context.WithoutCancel(ctx)
	start := time.Now()
	for done := 0; ctx.Err() == nil; done += batch {
		if w.cfg.Rate > 0 {
			due := start.Add(time.Duration(float64(done) / float64(w.cfg.Rate) * float64(time.Second)))
			if !pause(ctx, time.Until(due)) {
				break
			}
		}
		if !w.batch(batch) {
			pause(ctx, failPause) // the loop looks at ctx
		}
	}
	return nil
}

// pause waits for d. It returns false when ctx was done before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// batch does n operations. It returns false when the server could not be reached for some of them.
func (w *Writer) batch(n int) bool {
	w.p = w.client.Pipeline()
	w.later = w.later[:0]
	for range n {
		x := w.r.IntN(w.sum)
		i := 0
		for x >= w.ops[i].weight {
			x -= w.ops[i].weight
			i++
		}
		w.ops[i].do(w)
	}
	var ok bool
	if w.p.Len() == 0 {
		ok = true
	} else {
		cmds, err := w.p.Exec(w.ctx)
		ok = w.count(cmds, err)
	}
	for _, tx := range w.later {
		cmds, err := tx()
		ok = w.count(cmds, err) && ok
	}
	return ok
}

// count counts replies and remembers stream entries.
func (w *Writer) count(cmds []redis.Cmder, err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	ok := true
	if err != nil && len(cmds) == 0 {
		w.counts.Failed++
		w.counts.Errors["connection"]++
		return false
	}
	for _, c := range cmds {
		err := c.Err()
		var reply redis.Error
		switch {
		case err == nil, errors.Is(err, redis.Nil):
			w.counts.Commands++
			w.counts.ByName[c.Name()]++
			if x, is := c.(*redis.StringCmd); is && c.Name() == "xadd" && err == nil {
				w.remember(entryID{fmt.Sprint(c.Args()[1]), x.Val()})
			}
		case errors.As(err, &reply):
			w.counts.Commands++
			w.counts.Rejected++
			word, _, _ := strings.Cut(err.Error(), " ")
			w.counts.Errors[word]++
		default:
			w.counts.Failed++
			w.counts.Errors["connection"]++
			ok = false
		}
	}
	return ok
}

func (w *Writer) remember(e entryID) {
	if len(w.recent) < recentN {
		w.recent = append(w.recent, e)
		return
	}
	w.recent[w.r.IntN(recentN)] = e
}

// neighbours returns up to n keys of several slots whose first key's node has all of them.
func (w *Writer) neighbours(n int) []string {
	w.readOwners()
	space := w.space()
	var keys []string
	var owner string
	first := w.r.IntN(w.cfg.Keys)
	for i := 0; i < w.cfg.Keys && len(keys) < n; i++ {
		k := fmt.Sprintf("%snear:%d", space, (first+i)%w.cfg.Keys)
		o := w.owners[slot.Of([]byte(k))]
		if len(keys) == 0 {
			owner = o
		}
		if o == owner {
			keys = append(keys, k)
		}
	}
	return keys
}

// readOwners learns which node has which slots. Stale owners do no harm: the script's writes are refused one by one.
func (w *Writer) readOwners() {
	cc, ok := w.client.(*redis.ClusterClient)
	if !ok || time.Since(w.asked) < ownersLast {
		return
	}
	w.asked = time.Now()
	slots, err := cc.ClusterSlots(w.ctx).Result() //nolint:staticcheck // CLUSTER SHARDS is not there before Redis 7.0
	if err != nil {
		return
	}
	owners := map[slot.Slot]string{}
	for _, s := range slots {
		for i := s.Start; i <= s.End && len(s.Nodes) > 0; i++ {
			owners[slot.Slot(i)] = s.Nodes[0].ID
		}
	}
	w.owners = owners
}
