package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
// While the queues are full nothing is polled. A partition is paused only so that others do not wait for it. A fetch that is
// under way does not learn of a partition that goes on, and waits for as long as fetchMaxWait where the others have nothing:
// then it is given up (again).
type feed struct {
	cl     *kgo.Client
	topic  string
	budget int64 // bytes for all queues
	// observe reads the ends of the log, of all partitions.
	observe func(context.Context)

	mu    sync.Mutex
	seeks []seek
	wake  context.CancelFunc // ends the poll that is under way; nil if none is
	gone  []goneOn           // since the last poll

	held   atomic.Int64  // bytes in queues that are not paused
	total  atomic.Int64  // bytes in all of them
	paused atomic.Int64  // queues that are
	room   chan struct{} // bound 1: held has fallen

	// Of the polling goroutine.
	queues   map[int32]*queue
	full     time.Time // since when there has been no room; zero while there is
	observed time.Time
}

// seek asks for a partition to be read from an offset, or no more if queue is nil.
type seek struct {
	partition int32
	queue     *queue
	offset    int64
}

// goneOn is a queue that is no longer paused, and may be missing from a fetch under way.
type goneOn struct {
	*queue

	at time.Time
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

func newFeed(cl *kgo.Client, topic string, budget int, observe func(context.Context)) *feed {
	return &feed{cl: cl, topic: topic, queues: map[int32]*queue{}, budget: int64(budget), observe: observe, room: make(chan struct{}, 1)}
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
	for ctx.Err() == nil {
		f.poll(ctx)
	}
	return context.Cause(ctx)
}

const (
	pollWait = time.Second
	roomWait = 20 * time.Millisecond
	// goneWait is how long a fetch may bring nothing while a partition that has gone on waits for the next one, goneLong the
	// same where it is others' fetches that bring something: each broker has its own.
	goneWait, goneLong = 5 * time.Millisecond, 50 * time.Millisecond
	// fetchEndsEvery is how often the ends of the log are asked for while nothing is fetched, which tells of them too.
	fetchEndsEvery = 100 * time.Millisecond
)

func (f *feed) poll(ctx context.Context) {
	pollCtx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	f.mu.Lock()
	seeks, gone := f.seeks, f.gone
	f.seeks, f.gone, f.wake = nil, nil, cancel
	f.mu.Unlock()
	defer func() { // those that are not dealt with
		f.mu.Lock()
		defer f.mu.Unlock()
		f.gone = append(f.gone, gone...)
	}()
	for _, s := range seeks {
		f.move(s)
	}
	if !f.hasRoom(pollCtx) {
		return
	}
	if len(gone) > 0 {
		time.AfterFunc(goneWait, cancel)
	}
	fetches := f.cl.PollFetches(pollCtx)
	fetched := fetches.NumRecords() > 0
	gone = slices.DeleteFunc(gone, func(g goneOn) bool { return f.queues[g.partition] != g.queue })
	f.mu.Lock()
	f.wake = nil
	f.mu.Unlock()
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		q := f.queues[p.Partition]
		if q == nil {
			return
		}
		gone = slices.DeleteFunc(gone, func(g goneOn) bool { return g.queue == q })
		if p.Err != nil && !errors.Is(p.Err, context.Canceled) && !errors.Is(p.Err, context.DeadlineExceeded) {
			q.fail(fmt.Errorf("fetch from partition %d: %w", p.Partition, p.Err))
			return
		}
		if p.LastStableOffset > 0 {
			q.logEnd.Store(max(q.logEnd.Load(), p.LastStableOffset))
		}
		q.push(p.Records, f.limit())
	})
	if len(gone) > 0 && (!fetched || time.Since(gone[0].at) > goneLong) {
		f.again(gone)
		gone = nil
	}
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
		f.letPass(ctx)
	}
	return has()
}

// letPass pauses the partitions with full queues if there is one that has nothing in its queue, and more in the log.
func (f *feed) letPass(ctx context.Context) {
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
	if !slices.ContainsFunc(empty, hungry) && time.Since(f.observed) > fetchEndsEvery {
		f.observe(ctx)
		f.observed = time.Now()
	}
	if slices.ContainsFunc(empty, hungry) {
		for _, q := range full {
			q.mu.Lock()
			q.pause()
			q.mu.Unlock()
		}
	}
}

// pause stops the partition's fetching until half of its part is taken. Called with the lock held.
func (q *queue) pause() {
	if q.paused || q.closed {
		return
	}
	q.paused = true
	q.feed.held.Add(-q.bytes)
	q.feed.paused.Add(1)
	q.feed.cl.PauseFetchPartitions(map[string][]int32{q.feed.topic: {q.partition}})
}

// goOn ends pause. Called with the lock held.
func (q *queue) goOn() {
	f := q.feed
	q.paused = false
	f.held.Add(q.bytes)
	f.paused.Add(-1)
	f.cl.ResumeFetchPartitions(map[string][]int32{f.topic: {q.partition}})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = append(f.gone, goneOn{q, time.Now()})
	if f.wake != nil {
		f.wake()
	}
}

// again has the queues' partitions fetched from where they are, and gives up a fetch without them that waits.
func (f *feed) again(gone []goneOn) {
	at := map[int32]kgo.Offset{}
	for _, g := range gone {
		at[g.partition] = kgo.NewOffset().At(g.next)
	}
	f.cl.RemoveConsumePartitions(map[string][]int32{f.topic: slices.Collect(maps.Keys(at))})
	f.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{f.topic: at})
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
	if s.queue == nil {
		return
	}
	f.queues[s.partition] = s.queue
	f.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{f.topic: {s.partition: kgo.NewOffset().At(s.offset)}})
}

// limit is a queue's part of the budget.
func (f *feed) limit() int64 { return f.budget / max(int64(len(f.queues)), 1) }

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
	if q.feed.paused.Load() > 0 && total > 2*q.feed.budget && q.bytes >= limit {
		q.pause()
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
