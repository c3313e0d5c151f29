package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// feed reads the partitions' records. The group (group.go) only says who owns a partition: where to read is decided by
// the partition's worker, again and again if need be, so the feed is a client without a group whose partitions are added
// and removed.
//
// One goroutine polls and does all adding and removing between two polls, so that no record of an old position can reach
// a queue that was set to another.
type feed struct {
	cl    *kgo.Client
	topic string

	mu     sync.Mutex
	queues map[int32]*queue
	seeks  []seek
	wake   context.CancelFunc // ends the poll that is under way; nil if none is
	budget int                // bytes for all queues
}

// seek asks for a partition to be read from an offset, or no more if queue is nil.
type seek struct {
	partition int32
	queue     *queue
	offset    int64
}

// queue holds records that are read and not yet taken. Bound: limit bytes, and what one fetch brings on top.
type queue struct {
	feed      *feed
	partition int32
	logEnd    *atomic.Int64

	mu      sync.Mutex
	records []*kgo.Record
	bytes   int
	limit   int
	paused  bool
	err     error
	ready   chan struct{} // bound 1: something has changed
}

func newFeed(cl *kgo.Client, topic string, budget int) *feed {
	return &feed{cl: cl, topic: topic, queues: map[int32]*queue{}, budget: budget}
}

// open starts reading a partition at an offset, in place of where it was read before.
func (f *feed) open(partition int32, offset int64, logEnd *atomic.Int64) *queue {
	q := &queue{feed: f, partition: partition, logEnd: logEnd, ready: make(chan struct{}, 1)}
	f.ask(seek{partition, q, offset})
	return q
}

func (f *feed) close(partition int32) { f.ask(seek{partition: partition}) }

func (f *feed) ask(s seek) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seeks = append(f.seeks, s)
	if f.wake != nil {
		f.wake()
	}
}

// run polls until ctx ends.
func (f *feed) run(ctx context.Context) error {
	for ctx.Err() == nil {
		f.poll(ctx)
	}
	return context.Cause(ctx)
}

const pollWait = time.Second

func (f *feed) poll(ctx context.Context) {
	pollCtx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	f.mu.Lock()
	seeks := f.seeks
	f.seeks, f.wake = nil, cancel
	f.mu.Unlock()
	for _, s := range seeks {
		f.move(s)
	}
	fetches := f.cl.PollFetches(pollCtx)
	f.mu.Lock()
	f.wake = nil
	f.mu.Unlock()
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		q := f.queues[p.Partition]
		if q == nil {
			return
		}
		if p.Err != nil && !errors.Is(p.Err, context.Canceled) && !errors.Is(p.Err, context.DeadlineExceeded) {
			q.fail(fmt.Errorf("fetch from partition %d: %w", p.Partition, p.Err))
			return
		}
		if p.LastStableOffset > 0 {
			q.logEnd.Store(max(q.logEnd.Load(), p.LastStableOffset))
		}
		q.push(p.Records, f.limit())
	})
}

// move is called between two polls only. f.queues belongs to the polling goroutine.
func (f *feed) move(s seek) {
	if f.queues[s.partition] != nil {
		f.cl.RemoveConsumePartitions(map[string][]int32{f.topic: {s.partition}})
		delete(f.queues, s.partition)
	}
	f.cl.ResumeFetchPartitions(map[string][]int32{f.topic: {s.partition}})
	if s.queue == nil {
		return
	}
	f.queues[s.partition] = s.queue
	f.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{f.topic: {s.partition: kgo.NewOffset().At(s.offset)}})
}

func (f *feed) limit() int { return max(f.budget/max(len(f.queues), 1), minQueueBytes) }

const (
	minQueueBytes  = 256 << 10
	recordOverhead = 200 // of a kgo.Record in memory
)

func recordBytes(r *kgo.Record) int { return len(r.Key) + len(r.Value) + recordOverhead }

func (q *queue) push(records []*kgo.Record, limit int) {
	if len(records) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.records = append(q.records, records...)
	for _, r := range records {
		q.bytes += recordBytes(r)
	}
	q.limit = limit
	if q.bytes > limit && !q.paused {
		q.paused = true
		q.feed.cl.PauseFetchPartitions(map[string][]int32{q.feed.topic: {q.partition}})
	}
	q.signal()
}

func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns the next record, or nil if none is there. The error of a fetch comes behind what was read before it.
func (q *queue) take() (*kgo.Record, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.records) == 0 {
		return nil, q.err
	}
	r := q.records[0]
	q.records[0] = nil
	q.records = q.records[1:]
	q.bytes -= recordBytes(r)
	if q.paused && q.bytes < q.limit/2 {
		q.paused = false
		q.feed.cl.ResumeFetchPartitions(map[string][]int32{q.feed.topic: {q.partition}})
	}
	return r, nil
}
