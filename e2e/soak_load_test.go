package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/kafka"
)

const (
	soakWriters     = 4
	soakWriterRate  = 250
	soakHistoryRate = 120
	soakHistoryKeys = 32
	largeEvery      = 15 * time.Second
)

// soakLoad writes between two checkpoints.
type soakLoad struct {
	history *load.History
	prefix  string
	writers []*load.Writer
	large   int
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// begin writes under a new prefix of numbered keys, and deletes those of the load before.
func (s *soak) begin(ctx context.Context, round int, before *soakLoad) (*soakLoad, error) {
	l := &soakLoad{prefix: fmt.Sprintf("history%d:", round)}
	var err error
	l.history, err = load.NewHistory(s.source.Client(), load.HistoryConfig{Prefix: l.prefix, Keys: soakHistoryKeys, Workers: 4, Rate: soakHistoryRate})
	if err != nil {
		return nil, err
	}
	for i := range soakWriters {
		w, err := load.NewWriter(s.source.Client(), load.WriterConfig{
			Seed: s.seed + uint64(round*soakWriters+i), Prefix: fmt.Sprintf("writer-%d", i), Shared: "shared", Rate: soakWriterRate,
		})
		if err != nil {
			return nil, err
		}
		l.writers = append(l.writers, w)
	}
	if before != nil {
		before.forget(ctx, s.source.Client())
	}
	ctx, l.cancel = context.WithCancel(ctx)
	l.wg.Go(func() { _ = l.history.Run(ctx) })
	for _, w := range l.writers {
		l.wg.Go(func() { _ = w.Run(ctx) })
	}
	l.wg.Go(func() { l.writeLarge(ctx, s.source.Client(), rand.New(rand.NewPCG(s.seed, uint64(round)))) })
	l.wg.Go(func() { l.sample(ctx, s.target.Client()) })
	return l, nil
}

func (l *soakLoad) end() {
	l.cancel()
	l.wg.Wait()
}

func (l *soakLoad) commands() (n int64) {
	for _, w := range l.writers {
		n += w.Counts().Commands
	}
	return n + 5*l.history.Stats().Acked
}

func (l *soakLoad) forget(ctx context.Context, c redis.UniversalClient) {
	for i := range soakHistoryKeys {
		for _, key := range []string{"log:%d", "inc:%d", "cnt:%d", "a:{%d}", "b:{%d}"} {
			_ = c.Unlink(ctx, l.prefix+fmt.Sprintf(key, i)).Err() // what stays is compared all the same
		}
	}
}

// writeLarge writes values of some megabytes now and then. Its errors are those of a source in trouble.
func (l *soakLoad) writeLarge(ctx context.Context, c redis.UniversalClient, r *rand.Rand) {
	for {
		key := "large:" + strconv.Itoa(r.IntN(6))
		if r.IntN(3) == 0 {
			c.Del(ctx, key)
		}
		n := 2000 + r.IntN(10_000)
		fill := strings.Repeat("large", 20+r.IntN(30))
		p := c.TxPipeline()
		switch r.IntN(4) {
		case 0:
			p.Set(ctx, key, strings.Repeat(fill, 1+n/4), 0)
		case 1:
			p.Del(ctx, key)
			for i := 0; i < n; i += 500 {
				fields := make([]any, 0, 1000)
				for j := range 500 {
					fields = append(fields, strconv.Itoa(i+j), fill)
				}
				p.HSet(ctx, key, fields...)
			}
		case 2:
			p.Del(ctx, key)
			for i := 0; i < n; i += 500 {
				members := make([]redis.Z, 500)
				for j := range members {
					members[j] = redis.Z{Score: float64(i + j), Member: fill + strconv.Itoa(i+j)}
				}
				p.ZAdd(ctx, key, members...)
			}
		default:
			elements := make([]any, n)
			for i := range elements {
				elements[i] = fill
			}
			p.Del(ctx, key)
			p.RPush(ctx, key, elements...)
		}
		if _, err := p.Exec(ctx); err == nil {
			l.large++
		}
		if pauseFor(ctx, largeEvery/2+rand.N(largeEvery)) != nil {
			return
		}
	}
}

// sample looks for torn transactions, a moment in every second.
func (l *soakLoad) sample(ctx context.Context, target redis.UniversalClient) {
	for ctx.Err() == nil {
		looking, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		_ = l.history.Sample(looking, target)
		cancel()
		_ = pauseFor(ctx, time.Second)
	}
}

// violations is what the history finds. Pairs that a sampler saw torn count only if all of them travelled as commands.
func (l *soakLoad) violations(ctx context.Context, source, target redis.UniversalClient, snapshots bool) error {
	catching, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	errs := []error{l.history.WaitCaughtUp(catching, source, target)}
	found, err := l.history.Check(ctx, source, target)
	errs = append(errs, err)
	for _, v := range found {
		if v.Promise == load.AtomicUnit && snapshots && !strings.HasSuffix(v.Seen, "at the end") {
			continue
		}
		errs = append(errs, errors.New(v.String()))
	}
	return errors.Join(errs...)
}

// follower checks the chain of the log as it grows.
type follower struct {
	mu      sync.Mutex
	checker chain.Checker
	mark    string
	marked  map[int32]bool // partitions that have brought the mark
}

// run ends with ctx, or with a broken chain.
func (f *follower) run(ctx context.Context, cfg kafka.Config, topic string) error {
	if err := chain.Consume(ctx, cfg, topic, f.take); err != nil {
		return fmt.Errorf("a consumer of the log sees: %w", err)
	}
	return nil
}

func (f *follower) take(r *kgo.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mark != "" && bytes.HasPrefix(r.Key, []byte("mark:")) && bytes.Contains(r.Value, []byte(f.mark)) {
		f.marked[r.Partition] = true
	}
	return f.checker.Check(r)
}

// lookFor is called before the mark is written.
func (f *follower) lookFor(mark string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mark, f.marked = mark, map[int32]bool{}
}

func (f *follower) found() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.marked) < partitions {
		return fmt.Errorf("the consumer of the log has seen the mark in %d of %d partitions", len(f.marked), partitions)
	}
	return nil
}

func (f *follower) told() (records int, generations uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.checker.Generations {
		generations += uint64(g)
	}
	return f.checker.Records, generations
}
