package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
//
// While the queues are full nothing is polled. A partition is paused only so that others do not wait for it: a fetch that is
// under way does not learn of a partition that goes on, and waits for as long as fetchMaxWait where the others have nothing.
type feed struct {
	cl     *kgo.Client
	topic  string
	budget int64 // bytes for all queues
	// fetchBytes is how much one fetch may bring; of one partition no more than its part, or half of it.
	fetchBytes int32
	// observe reads the ends of the log; lookAtEnds, bound 1, asks for it.
	observe    func(context.Context)
	lookAtEnds chan struct{}

	mu    sync.Mutex
	seeks []seek
	wake  context.CancelFunc // ends the poll that is under way; nil if none is

	held   atomic.Int64  // bytes in queues that are not paused
	total  atomic.Int64  // bytes in all of them
	paused atomic.Int64  // queues that are
	room   chan struct{} // bound 1: held has fallen

	// Of the polling goroutine.
	queues map[int32]*queue
	full   time.Time // since when there has been no room; zero while there is
}

// seek asks for a partition to be read from an offset, or no more if queue is nil.
type seek struct {
	partition int32
	queue     *queue
	offset    int64
}

// queue holds records that are read and not yet taken. All queues together hold the budget, and what one fetch brings on top;
// twice the budget where partitions are paused.
type queue struct {
	feed      *feed
	partition int32
	logEnd    *atomic.Int64

	mu      sync.Mutex
	records []*kgo.Record
	bytes   int64
	next    int64 // offset behind the last record; written by the polling goroutine
	limit   int64
	paused  bool
	closed  bool // nobody takes from it any more
	err     error
	ready   chan struct{} // bound 1: something has changed
}

func newFeed(cl *kgo.Client, topic string, budget int, fetchBytes int32, observe func(context.Context)) *feed {
	return &feed{
		cl: cl, topic: topic, budget: int64(budget), fetchBytes: fetchBytes, observe: observe,
		lookAtEnds: make(chan struct{}, 1), queues: map[int32]*queue{}, room: make(chan struct{}, 1),
	}
}

// open starts reading a partition at an offset, in place of where it was read before.
func (f *feed) open(partition int32, offset int64, logEnd *atomic.Int64) *queue {
	q := &queue{feed: f, partition: partition, logEnd: logEnd, next: offset, ready: make(chan struct{}, 1)}
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
	var ends sync.WaitGroup
	ends.Go(func() { f.watchEnds(ctx) })
	defer ends.Wait()
	for ctx.Err() == nil {
		f.poll(ctx)
	}
	return context.Cause(ctx)
}

const (
	pollWait = time.Second
	roomWait = 20 * time.Millisecond
	// fetchEndsEvery is how often the ends of the log are asked for while nothing is fetched, which tells of them too.
	fetchEndsEvery = 100 * time.Millisecond
)

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
	if !f.hasRoom(pollCtx) {
		return
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
		if p.LastStableOffset > 0 {
			q.logEnd.Store(max(q.logEnd.Load(), p.LastStableOffset))
		}
		q.push(p.Records, f.limit())
		if p.Err != nil && !errors.Is(p.Err, context.Canceled) && !errors.Is(p.Err, context.DeadlineExceeded) {
			// Its worker opens it again. Nothing may come behind the error.
			f.cl.RemoveConsumePartitions(map[string][]int32{f.topic: {p.Partition}})
			q.fail(fmt.Errorf("fetch from partition %d: %w", p.Partition, p.Err))
		}
	})
}

// hasRoom tells whether more may be fetched, and waits for it a little.
func (f *feed) hasRoom(ctx context.Context) bool {
	has := func() bool {
		if f.held.Load() < f.limit()*max(int64(len(f.queues))-f.paused.Load(), 1) {
			f.full = time.Time{}
			return true
		}
		return false
	}
	if has() {
		return true
	}
	if f.full.IsZero() {
		f.full = time.Now()
	}
	select {
	case <-ctx.Done():
	case <-f.room:
	case <-time.After(roomWait):
	}
	if !has() && time.Since(f.full) >= roomWait {
		f.letPass()
	}
	return has()
}

// letPass pauses the partitions with full queues if there is one that has nothing in its queue, and more in the log.
func (f *feed) letPass() {
	var full, empty []*queue
	limit := f.limit()
	for _, q := range f.queues {
		q.mu.Lock()
		switch {
		case q.bytes == 0:
			empty = append(empty, q)
		case q.bytes >= limit && !q.paused:
			full = append(full, q)
		}
		q.mu.Unlock()
	}
	if len(full) == 0 || len(empty) == 0 {
		return
	}
	hungry := func(q *queue) bool { return q.next < q.logEnd.Load() }
	if !slices.ContainsFunc(empty, hungry) {
		select {
		case f.lookAtEnds <- struct{}{}:
		default:
		}
		return
	}
	for _, q := range full {
		q.mu.Lock()
		q.pause(limit)
		q.mu.Unlock()
	}
}

// watchEnds asks for the ends of the log while nothing is fetched, which tells of them too, until ctx ends.
func (f *feed) watchEnds(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-f.lookAtEnds:
			f.observe(ctx)
		}
		select {
		case <-ctx.Done():
		case <-time.After(fetchEndsEvery):
		}
	}
}

// pause stops the fetching of a partition with a full queue until half of that is taken. Called with the lock held.
func (q *queue) pause(limit int64) {
	if q.paused || q.closed || q.bytes < limit {
		return
	}
	q.paused = true
	q.feed.held.Add(-q.bytes)
	q.feed.paused.Add(1)
	q.feed.cl.PauseFetchPartitions(map[string][]int32{q.feed.topic: {q.partition}})
}

// goOn ends pause. Called with the lock held.
func (q *queue) goOn() {
	q.paused = false
	q.feed.held.Add(q.bytes)
	q.feed.paused.Add(-1)
	q.feed.cl.ResumeFetchPartitions(map[string][]int32{q.feed.topic: {q.partition}})
}

// close lets go of what is left.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.paused {
		q.goOn()
	}
	q.feed.held.Add(-q.bytes)
	q.feed.total.Add(-q.bytes)
	q.records, q.bytes, q.closed = nil, 0, true
}

// move is called between two polls only. f.queues belongs to the polling goroutine.
func (f *feed) move(s seek) {
	if old := f.queues[s.partition]; old != nil {
		old.close()
		f.cl.RemoveConsumePartitions(map[string][]int32{f.topic: {s.partition}})
		delete(f.queues, s.partition)
	}
	if s.queue != nil {
		f.queues[s.partition] = s.queue
	}
	f.cl.UpdateFetchMaxBytes(f.fetchBytes, int32(min(max(f.limit(), minFetchBytes), int64(f.fetchBytes)/2)))
	if s.queue == nil {
		return
	}
	f.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{f.topic: {s.partition: kgo.NewOffset().At(s.offset)}})
}

// limit is a queue's part of the budget.
func (f *feed) limit() int64 { return max(f.budget/max(int64(len(f.queues)), 1), 1) }

const recordOverhead = 200 // of a kgo.Record in memory

func recordBytes(r *kgo.Record) int { return len(r.Key) + len(r.Value) + recordOverhead }

func (q *queue) push(records []*kgo.Record, limit int64) {
	if len(records) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.records = append(q.records, records...)
	added := int64(0)
	for _, r := range records {
		added += int64(recordBytes(r))
	}
	q.bytes += added
	total := q.feed.total.Add(added)
	if !q.paused {
		q.feed.held.Add(added)
	}
	q.limit, q.next = limit, records[len(records)-1].Offset+1
	if q.feed.paused.Load() > 0 && total > 2*q.feed.budget {
		q.pause(limit)
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
	n := int64(recordBytes(r))
	q.bytes -= n
	q.feed.total.Add(-n)
	switch {
	case !q.paused:
		q.feed.took(n)
	case q.bytes < q.limit/2:
		q.goOn()
	}
	return r, nil
}

// took tells of bytes that have left a queue. Every record comes by here, so the poll is not told of each.
func (f *feed) took(n int64) {
	after := f.held.Add(-n)
	if after/roomStep == (after+n)/roomStep {
		return
	}
	select {
	case f.room <- struct{}{}:
	default:
	}
}

const roomStep = 64 << 10
