package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
)

// Sink replays a log into a target.
type Sink struct {
	cfg Config
	log *slog.Logger
	// dial reaches the target; tests put a bad network between.
	dial func(ctx context.Context, addr string) (net.Conn, error)
	// releaseInterval is shorter in tests.
	releaseInterval time.Duration
	// replicaBytes is from when on a string of the stream does not go in one command to a target with replicas; tests set it.
	replicaBytes int64

	// Set once in Run, before any worker.
	topic   kafka.Topic
	adm     *kadm.Client
	feed    *feed
	group   *group
	dead    *deadLetters // nil unless the policy says so
	workers *errgroup.Group

	mu     sync.Mutex
	stats  []*partitionStat // by partition; set once, read by Status at any time
	known  []string         // nodes of the target as last seen that may be its masters
	found  bool             // the target was seen; single tells that it is no cluster
	single bool
	warned time.Time
	// unsupported are the kinds of things that were left out and logged.
	unsupported map[string]bool

	skippedFunctions atomic.Int64

	evictions evictions
	// importMu guards importing: when a node was last known to be in import mode.
	importMu  sync.Mutex
	importing map[string]time.Time

	// offsetsLock, a channel that holds one, guards what was last read of the offsets topic: a new sink asks for it once per
	// partition. Who waits for another's reading can be stopped.
	offsetsLock chan struct{}
	offsets     *offsets.State
	offsetsTime time.Time
}

// New checks the configuration. It dials nothing.
func New(cfg Config, log *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Sink{
		cfg: cfg, log: log.With(slog.String("sink", cfg.Name)), dial: cfg.Dialer.DialContext,
		releaseInterval: releaseInterval, replicaBytes: replicaBytes, offsetsLock: make(chan struct{}, 1),
	}, nil
}

// Run replays until ctx ends, which is no error, or until something happens that a person has to look at.
func (s *Sink) Run(ctx context.Context) error {
	err := s.runAll(ctx)
	if ctx.Err() != nil && classOf(err) != Stop {
		return nil
	}
	return err
}

func (s *Sink) runAll(ctx context.Context) error {
	adm, err := s.cfg.Kafka.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	s.adm = adm
	if err := s.awaitTopic(ctx); err != nil {
		return err
	}
	if err := s.awaitTarget(ctx); err != nil {
		return err
	}
	if s.cfg.Unsupported == UnsupportedDeadLetter {
		if s.dead, err = s.openDead(ctx); err != nil {
			return err
		}
		defer s.dead.cl.Close()
	}
	fetchBytes := int32(min(max(s.cfg.FetchBytes/4/maxConcurrentFetches, 2*minFetchBytes), maxFetchBytes))
	cl, err := s.cfg.Kafka.Client(
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(fetchMaxWait),
		// A quarter of the budget is for what is in the queues, one for what the client fetches ahead, one for what that
		// grows to when it is unpacked, and one for batches that are being applied.
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchBytes/2),
		kgo.MaxConcurrentFetches(maxConcurrentFetches),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	s.feed = newFeed(cl, s.topic.Name, s.cfg.FetchBytes/4, fetchBytes, s.observeEnds)

	// The workers' errors end everything; ctx ends all but the workers, which group.leave stops in good order.
	workers, workersCtx := errgroup.WithContext(context.WithoutCancel(ctx))
	s.workers = workers
	live, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(workersCtx, func() { cancel(context.Cause(workersCtx)) })()
	s.mu.Lock()
	s.group = &group{s: s, name: GroupName(s.cfg.Name), lease: newLease(s.cfg.SessionTimeout), joined: make(chan struct{}), running: map[int32]*tenure{}}
	s.mu.Unlock()
	if err := s.group.join(live); err != nil {
		return err
	}
	var loops errgroup.Group
	// Both end with live. The feed goes on until the workers have left: they may still open a queue.
	feedCtx, stopFeed := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFeed()
	loops.Go(func() error { return s.feed.run(feedCtx) })
	loops.Go(func() error { return s.group.keep(live) })
	for _, loop := range []func(context.Context) error{s.group.show, s.group.watch} {
		loops.Go(func() error {
			err := loop(live)
			cancel(err)
			return err
		})
	}
	<-live.Done()
	s.group.leave(ctx)
	err = workers.Wait()
	stopFeed()
	_ = loops.Wait() // they say no more than that live has ended
	if err == nil {
		err = context.Cause(live)
	}
	return err
}

// batchBytes is how much one partition may have under way: all partitions could be ours.
func (s *Sink) batchBytes() int {
	return min(s.cfg.BatchBytes, max(s.cfg.FetchBytes/4/int(s.topic.Partitions), minBatchBytes))
}

const (
	minBatchBytes        = 64 << 10
	fetchMaxWait         = 250 * time.Millisecond // see feed
	minFetchBytes        = 256 << 10
	maxFetchBytes        = 32 << 20
	maxConcurrentFetches = 4
	topicPoll            = 500 * time.Millisecond
)

// awaitTopic waits until the source has made the topic.
func (s *Sink) awaitTopic(ctx context.Context) error {
	for {
		topic, err := kafka.Describe(ctx, s.adm, offsets.ChangesTopic(s.cfg.Prefix))
		if err == nil && topic.Partitions > 0 {
			if topic.Partitions > slot.Count {
				return classed(Stop, "read topic %s: it has %d partitions, there are %d slots", topic.Name, topic.Partitions, slot.Count)
			}
			stats := make([]*partitionStat, topic.Partitions)
			for i := range stats {
				stats[i] = &partitionStat{}
			}
			s.topic = topic
			s.mu.Lock()
			s.stats = stats
			s.mu.Unlock()
			return nil
		}
		if err != nil {
			s.warnUnless(ctx, "waiting for the log", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(topicPoll):
		}
	}
}

// awaitTarget checks the target as a whole before the group is joined: that it can be written to, and that a new sink does not
// begin on keys that are not its own.
func (s *Sink) awaitTarget(ctx context.Context) error {
	for {
		err := s.checkTarget(ctx)
		if err == nil || classOf(err) == Stop {
			return err
		}
		s.warnUnless(ctx, "waiting for the target", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(topicPoll):
		}
	}
}

func (s *Sink) checkTarget(ctx context.Context) error {
	top, err := s.discover(ctx)
	if err != nil {
		return err
	}
	if s.cfg.ExistingKeys != ExistingRefuse {
		return nil
	}
	// A worker over all slots that takes over nothing: it only looks.
	w := &worker{s: s, slots: slot.Range{First: 0, Last: slot.Count - 1}, log: s.log, conns: map[string]*conn{}, hard: ctx, looks: true}
	defer w.disconnect()
	defer context.AfterFunc(ctx, w.abort)()
	w.shape = s.shapeOf(top, 0)
	if err := w.connectTo(ctx, top); err != nil {
		return err
	}
	found, err := w.hasAny(own.Watermark)
	if err != nil || found {
		return err
	}
	err = w.countForeign()
	if _, ok := errors.AsType[*ExistingKeysError](err); ok {
		// Another worker of this sink may have begun between the two looks.
		if found, again := w.hasAny(own.Watermark); again != nil || found {
			return again
		}
	}
	return err
}

// warnUnless is warn, but not for what only says that ctx has ended.
func (s *Sink) warnUnless(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		s.warn(what, err)
	}
}

// warn logs a passing trouble of the whole sink, not more often than one can read.
func (s *Sink) warn(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.warned) > warnInterval {
		s.warned = time.Now()
		s.log.Warn("sink waits", slog.String("because", what), slog.Any("error", err))
	}
}

// sameTopic checks that the topic is the one that the sink began with: offsets of one that was made again mean something else.
func (s *Sink) sameTopic(ctx context.Context, partition int32) error {
	t, err := kafka.Describe(ctx, s.adm, s.topic.Name)
	if err == nil && t.ID != s.topic.ID {
		err = otherLog(partition, "topic %s was deleted and made again", s.topic.Name)
	}
	return err
}

// logBounds are the first offset of a partition and the one behind its last.
func (s *Sink) logBounds(ctx context.Context, partition int32) (begin, end int64, err error) {
	starts, err := s.adm.ListStartOffsets(ctx, s.topic.Name)
	if err != nil {
		return 0, 0, fmt.Errorf("list start offsets of %s: %w", s.topic.Name, err)
	}
	ends, err := s.adm.ListEndOffsets(ctx, s.topic.Name)
	if err != nil {
		return 0, 0, fmt.Errorf("list end offsets of %s: %w", s.topic.Name, err)
	}
	from, ok1 := starts.Lookup(s.topic.Name, partition)
	to, ok2 := ends.Lookup(s.topic.Name, partition)
	if err := errors.Join(from.Err, to.Err); err != nil || !ok1 || !ok2 {
		return 0, 0, fmt.Errorf("find bounds of %s/%d: %w", s.topic.Name, partition, errors.Join(err, kafka.ErrNoTopic))
	}
	return from.Offset, to.Offset, nil
}

// observeEnds reads the ends of the log in the partitions that are ours.
func (s *Sink) observeEnds(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitInterval)
	defer cancel()
	ends, err := s.adm.ListCommittedOffsets(ctx, s.topic.Name)
	if err != nil {
		return
	}
	for _, p := range s.group.partitions() {
		if o, ok := ends.Lookup(s.topic.Name, p); ok && o.Err == nil {
			s.statOf(p).end.Store(o.Offset)
		}
	}
}

// boundaries are the newest complete snapshots that reach into the partition. unready tells that a shard there has none.
func (s *Sink) boundaries(ctx context.Context, partition int32) (out []offsets.Boundary, unready bool, err error) {
	state, err := s.readOffsets(ctx, offsetsFresh)
	if err != nil {
		return nil, false, err
	}
	complete := map[uint32]bool{}
	for shard, b := range state.Newest() {
		if b.TopicID != s.topic.ID {
			continue
		}
		complete[shard] = true
		if _, ok := b.Begin[partition]; ok {
			out = append(out, b)
		}
	}
	if state.Registry == nil {
		return out, false, nil
	}
	var mine slot.Set
	mine.AddRange(slot.PartitionRange(partition, int(s.topic.Partitions)))
	for _, k := range state.Registry.Shards {
		slots, err := slot.ParseSet(k.Slots)
		if err != nil {
			return nil, false, classed(Stop, "read registry of the source: %w", err)
		}
		if both := slots.Intersect(&mine); !k.Gone && !both.IsEmpty() && !complete[uint32(k.Shard)] {
			unready = true
		}
	}
	return out, unready, nil
}

// offsetsFresh is how old the offsets topic's state may be: that of a new sink decides only which snapshot it begins with.
const offsetsFresh = time.Second

// readOffsets reads the offsets topic, or returns what was read in the time given.
func (s *Sink) readOffsets(ctx context.Context, fresh time.Duration) (*offsets.State, error) {
	select {
	case s.offsetsLock <- struct{}{}:
		defer func() { <-s.offsetsLock }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s.offsets != nil && time.Since(s.offsetsTime) < fresh {
		return s.offsets, nil
	}
	state := &offsets.State{}
	topic := offsets.Topic(s.cfg.Prefix)
	if _, err := kafka.Describe(ctx, s.adm, topic); errors.Is(err, kafka.ErrNoTopic) {
		return state, nil
	}
	spans, err := kafka.Spans(ctx, s.adm, topic)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Kafka.ReadCommitted(ctx, topic, spans, func(r *kgo.Record) error {
		return state.Apply("", r.Key, r.Value)
	}); err != nil {
		return nil, err
	}
	s.offsets, s.offsetsTime = state, time.Now()
	return state, nil
}
