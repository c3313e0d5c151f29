package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/kafka"
)

// Settings of a lane's producer, as the source has them.
const (
	laneLinger         = 2 * time.Millisecond
	laneBufferBytes    = 48 << 20
	laneBufferN        = 200_000
	laneBatchBytes     = 1 << 20
	laneTimeout        = 30 * time.Second
	minCommitBytes     = 1 << 20
	maxCommitBytes     = 32 << 20
	minCommitInterval  = 20 * time.Millisecond
	maxCommitInterval  = 200 * time.Millisecond
	commitClockEveryN  = 64
	positionBytes      = 1 << 10 // about what a position takes in the offsets topic
	offsetsPartitionsN = 50
)

// laneClient opens the producer of a lane.
func laneClient(cfg kafka.Config, topic string, lane int) (*kgo.Client, error) {
	return cfg.Client(
		kgo.TransactionalID(laneID(topic, lane)),
		kgo.TransactionTimeout(laneTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(laneLinger),
		kgo.ProducerBatchMaxBytes(laneBatchBytes),
		kgo.MaxBufferedBytes(laneBufferBytes),
		kgo.MaxBufferedRecords(laneBufferN),
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
	)
}

func laneID(topic string, lane int) string { return fmt.Sprintf("%s-%d", topic, lane) }

// laneRange are the partitions of a lane.
func laneRange(lane, partitions int) (first, last int) {
	return lane * partitions / shards, (lane+1)*partitions/shards - 1
}

func childProduce(ctx context.Context, task childTask) (result childResult, err error) {
	cfg := kafka.Config{Brokers: task.Brokers}
	records, err := newSlab(task.Partitions)
	if err != nil {
		return result, err
	}
	total := int64(1)
	for _, s := range task.Spans {
		total += s.End - s.Start
	}
	for p, s := range task.Spans { // one by one: a fetch of all brings much that lies behind the spans
		share := float64(task.MaxN) * float64(s.End-s.Start) / float64(total)
		err := cfg.ReadCommitted(ctx, task.From, map[int32]kafka.Span{p: s}, func(r *kgo.Record) error {
			result.TotalN++
			if float64(len(records.index[p])) < share {
				records.add(r)
			}
			return nil
		})
		if err != nil {
			return result, err
		}
	}
	result.RecordsN = records.n
	orders := make([][]slabRecord, shards)
	for i := range orders {
		orders[i] = records.lane(laneRange(i, task.Partitions))
	}
	runtime.GC() // what reading left is not the producer's
	var commits atomic.Int64
	err = measured(&result, func() error {
		lanes, ctx := errgroup.WithContext(ctx)
		for i := range shards {
			lanes.Go(func() error { // ends with its records
				l := &aloneLane{task: task, number: i, commits: &commits}
				return l.run(ctx, cfg, records, orders[i])
			})
		}
		return lanes.Wait()
	})
	result.CommitsN = int(commits.Load())
	return result, err
}

// aloneLane produces the records of a lane, in transactions as large and as long as those of a source that is behind.
// One goroutine; promises of the client touch failed alone.
type aloneLane struct {
	task    childTask
	number  int
	commits *atomic.Int64

	cl       *kgo.Client
	failed   atomic.Pointer[error]
	open     bool
	since    time.Time
	bytes    int
	limit    int
	interval time.Duration
	position [positionBytes]byte
}

func (l *aloneLane) run(ctx context.Context, cfg kafka.Config, records *slab, order []slabRecord) error {
	cl, err := laneClient(cfg, l.task.To, l.number)
	if err != nil {
		return err
	}
	defer cl.Close()
	l.cl, l.limit, l.interval = cl, minCommitBytes, minCommitInterval
	for n, r := range order {
		if !l.open {
			if err := cl.BeginTransaction(); err != nil {
				return fmt.Errorf("begin transaction: %w", err)
			}
			l.open, l.since = true, time.Now()
		}
		record := &kgo.Record{Topic: l.task.To, Partition: r.partition, Key: records.key(r), Value: records.value(r)}
		cl.Produce(ctx, record, l.promise)
		l.bytes += len(record.Key) + len(record.Value)
		if l.bytes >= l.limit || n%commitClockEveryN == 0 && time.Since(l.since) >= l.interval {
			if err := l.commit(ctx); err != nil {
				return err
			}
		}
	}
	if l.open {
		return l.commit(ctx)
	}
	return nil
}

func (l *aloneLane) promise(_ *kgo.Record, err error) {
	if err != nil {
		l.failed.CompareAndSwap(nil, &err)
	}
}

func (l *aloneLane) commit(ctx context.Context) error {
	position := &kgo.Record{Topic: l.task.Offsets, Partition: int32(l.number), Key: []byte("position"), Value: l.position[:]}
	l.cl.Produce(ctx, position, l.promise)
	if err := l.cl.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if err := l.failed.Load(); err != nil {
		return fmt.Errorf("produce: %w", *err)
	}
	if err := l.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	l.commits.Add(1)
	l.open, l.bytes = false, 0
	l.limit, l.interval = min(2*l.limit, maxCommitBytes), min(2*l.interval, maxCommitInterval)
	return nil
}
