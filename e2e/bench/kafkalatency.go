package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/kafka"
)

// childLatency is Kafka's share of a latency: in one process, a transactional producer for each lane, which commits what
// is there, and a position, as soon as the commit before has ended, as a source does that is not behind; and one consumer of
// committed records. Every record has the time when it was made, and one in as many as the marks of measureLatency are is
// counted.
func childLatency(ctx context.Context, task childTask) (result childResult, err error) {
	cfg := kafka.Config{Brokers: task.Brokers}
	h := newHistogram()
	err = measured(&result, func() error { return measureKafka(ctx, cfg, task, h) })
	result.RecordsN = int(h.TotalCount())
	q := quantiles(h)
	result.P50, result.P90, result.P99, result.Max = q[0], q[1], q[2], q[3]
	return result, err
}

// quantiles are p50, p90, p99 and the maximum.
func quantiles(h *hdrhistogram.Histogram) (q [4]time.Duration) {
	for i, at := range []float64{50, 90, 99, 100} {
		q[i] = time.Duration(h.ValueAtQuantile(at)) * time.Microsecond
	}
	return q
}

func measureKafka(ctx context.Context, cfg kafka.Config, task childTask, h *hdrhistogram.Histogram) error {
	cl, err := consumer(cfg, task.To)
	if err != nil {
		return err
	}
	defer cl.Close()
	start := time.Now()
	var produced, producing atomic.Int64
	producing.Store(shards)
	g, ctx := errgroup.WithContext(ctx)
	for lane := range shards {
		g.Go(func() error { // ends after the time
			defer producing.Add(-1)
			p := &pacedLane{cfg: cfg, task: task, number: lane, start: start, produced: &produced}
			return p.run(ctx)
		})
	}
	g.Go(func() error { // ends when all that was produced is consumed
		every := max(1, task.Rate*int(markInterval)/int(time.Second))
		for consumed := int64(0); producing.Load() > 0 || consumed < produced.Load(); {
			poll, cancel := context.WithTimeout(ctx, time.Second)
			fetches := cl.PollFetches(poll)
			cancel()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("consume: %w", err)
			}
			now := time.Since(start)
			for it := fetches.RecordIter(); !it.Done(); {
				r := it.Next()
				if r.Attrs.IsControl() {
					continue
				}
				consumed++
				made := time.Duration(binary.BigEndian.Uint64(r.Value))
				if made < latencyWarmup || consumed%int64(every) != 0 {
					continue
				}
				if err := h.RecordValue((now - made).Microseconds()); err != nil {
					return fmt.Errorf("count latency: %w", err)
				}
			}
		}
		return nil
	})
	return g.Wait()
}

// pollPause is how long a lane without anything due waits.
const pollPause = 200 * time.Microsecond

// pacedLane produces records of a lane at a fixed rate. One goroutine.
type pacedLane struct {
	cfg      kafka.Config
	task     childTask
	number   int
	start    time.Time
	produced *atomic.Int64
}

func (p *pacedLane) run(ctx context.Context) error {
	cl, err := laneClient(p.cfg, p.task.To, p.number)
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}
	first, last := laneRange(p.number, p.task.Partitions)
	rate := float64(p.task.Rate) / shards
	var position [positionBytes]byte
	var ended time.Time
	var markers kafka.Markers
	for sent := 0; time.Since(p.start) < latencyWarmup+p.task.For; {
		due := int(time.Since(p.start).Seconds() * rate)
		if sent >= due {
			shortPause(pollPause)
			continue
		}
		markers.Await(ctx, cl, laneID(p.task.To, p.number), ended)
		if err := cl.BeginTransaction(); err != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
		for ; sent < due; sent++ {
			// made when it was due: what waited for the commit before has waited
			value := make([]byte, valueBytes)
			binary.BigEndian.PutUint64(value, uint64(float64(sent)/rate*float64(time.Second)))
			r := &kgo.Record{Topic: p.task.To, Partition: int32(first + sent%(last-first+1)), Value: value}
			cl.Produce(ctx, r, promise)
			p.produced.Add(1)
		}
		cl.Produce(ctx, &kgo.Record{Topic: p.task.Offsets, Partition: int32(p.number), Key: []byte("position"), Value: position[:]}, promise)
		if err := cl.Flush(ctx); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		if err := failed.Load(); err != nil {
			return fmt.Errorf("produce: %w", *err)
		}
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		ended = time.Now()
	}
	return nil
}
