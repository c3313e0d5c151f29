package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// Latency is the time from the sending of a mark, a SET at the source, to the moment a GET at the copy sees it. So it
// has the source's own answer time in it, and what the poller comes too late: pollPause and one round trip at most.
const (
	markInterval  = 10 * time.Millisecond
	latencyWarmup = 3 * time.Second
	markTimeout   = 30 * time.Second
	pollPause     = 200 * time.Microsecond
	// maxPendingN bounds the marks of one server that are on their way: more than the timeout allows.
	maxPendingN = int(2 * markTimeout / markInterval)
)

// newHistogram counts microseconds up to ten minutes, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 600_000_000, 3) }

// pendingMark is on its way to the copy.
type pendingMark struct {
	key    string
	number int
	sent   time.Time
	warmup bool
}

// measureLatency sends marks for a time beside a load of sets at a fixed rate.
func measureLatency(ctx context.Context, source *redistest.Cluster, sys system, load setter, rate int, span time.Duration) (*hdrhistogram.Histogram, error) {
	g, ctx := errgroup.WithContext(ctx)
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	g.Go(func() error { return load.paced(loading, rate) }) // ends when all marks are seen

	var pollers errgroup.Group
	var queues []chan pendingMark
	var histograms []*hdrhistogram.Histogram
	for _, n := range sys.copies() {
		q, h := make(chan pendingMark, maxPendingN), newHistogram()
		queues, histograms = append(queues, q), append(histograms, h)
		p := &poller{client: n.Client(), queue: q, histogram: h}
		pollers.Go(func() error { return p.run(ctx) }) // ends when sendMarks closes the queue and its marks are seen
	}
	g.Go(func() error { return sendMarks(ctx, source, queues, span) })
	g.Go(func() error {
		defer stopLoad()
		return pollers.Wait()
	})
	if err := g.Wait(); err != nil {
		return nil, errors.Join(fmt.Errorf("measure latency: %w", err), sys.check())
	}
	sum := newHistogram()
	for _, h := range histograms {
		sum.Merge(h)
	}
	return sum, nil
}

// sendMarks writes a mark every markInterval, each in another slot, and closes the queues at the end.
func sendMarks(ctx context.Context, source *redistest.Cluster, queues []chan pendingMark, span time.Duration) error {
	defer func() {
		for _, q := range queues {
			close(q)
		}
	}()
	masters := nodes(source.Masters())
	ticker := time.NewTicker(markInterval)
	defer ticker.Stop()
	start := time.Now()
	for n := 1; time.Since(start) < latencyWarmup+span; n++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		s := slot.Slot(n * stride % slot.Count)
		m := pendingMark{key: "latency:{" + slot.Tag(s) + "}", number: n, sent: time.Now()}
		m.warmup = m.sent.Sub(start) < latencyWarmup
		if err := masters.of(s).Set(ctx, m.key, n, 0).Err(); err != nil {
			return fmt.Errorf("write mark: %w", err)
		}
		queues[indexOf(s)] <- m
	}
	return nil
}

// poller asks one server of the copy for the marks that are on their way to it. One goroutine.
type poller struct {
	client    *redis.Client
	queue     <-chan pendingMark
	histogram *hdrhistogram.Histogram

	pending []pendingMark
	closed  bool
}

func (p *poller) run(ctx context.Context) error {
	for {
		p.take(ctx)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if len(p.pending) == 0 {
			if p.closed {
				return nil
			}
			continue
		}
		if err := p.look(ctx); err != nil {
			return err
		}
		if oldest := p.pending; len(oldest) > 0 && time.Since(oldest[0].sent) > markTimeout {
			return fmt.Errorf("mark %d (%s) is not visible after %v", oldest[0].number, oldest[0].key, markTimeout)
		}
		shortPause(pollPause)
	}
}

// take adds the marks that were sent, and waits for one if none is on its way.
func (p *poller) take(ctx context.Context) {
	for !p.closed {
		if len(p.pending) == 0 {
			select {
			case m, ok := <-p.queue:
				p.add(m, ok)
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case m, ok := <-p.queue:
			p.add(m, ok)
		default:
			return
		}
	}
}

func (p *poller) add(m pendingMark, ok bool) {
	if !ok {
		p.closed = true
		return
	}
	p.pending = append(p.pending, m)
}

// look asks for all pending marks and counts those that are visible. Each was visible when its answer was made, which is
// before the time that is taken.
func (p *poller) look(ctx context.Context) error {
	pipe := p.client.Pipeline()
	replies := make([]*redis.StringCmd, len(p.pending))
	for i, m := range p.pending {
		replies[i] = pipe.Get(ctx, m.key)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("look for marks: %w", err)
	}
	now := time.Now()
	kept := p.pending[:0]
	for i, m := range p.pending {
		if seen, _ := strconv.Atoi(replies[i].Val()); seen < m.number {
			kept = append(kept, m)
			continue
		}
		if !m.warmup {
			if err := p.histogram.RecordValue(now.Sub(m.sent).Microseconds()); err != nil {
				return fmt.Errorf("count latency: %w", err)
			}
		}
	}
	p.pending = kept
	return nil
}
