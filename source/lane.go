package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/source/spool"
)

// lane publishes one shard: it reads the spool, makes events and commits them to Kafka together with its position.
//
// run is its one goroutine. Every trouble with Kafka ends a session; the next one begins from the position that Kafka
// has, never from memory, and publishes again out of the spool what an aborted transaction took with it.
type lane struct {
	cfg    *Config
	shard  event.Shard
	topic  kafka.Topic // the data topic
	adm    *kadm.Client
	spool  *spool.Spool
	link   *link
	gate   *gate
	status *ShardStatus
	log    *slog.Logger
	waits  *waits
	budget budget
	pieces *sync.Pool // of arenas, of all shards
	// arrivals are snapshots that come in, of all shards.
	arrivals *arrivals
	// owned tells the slots that the shard serves now, ask its keys of a command.
	owned func() slot.Set
	ask   func(context.Context, [][]byte) ([][]byte, error)
	// ready is closed when the spool stands where the link has to go on.
	ready   chan struct{}
	isReady bool
	// owner tells whether the registry still names this worker; not asked in a worker's first session, which fences.
	owner func(context.Context) error
	// single: the shard is a master outside a cluster.
	single bool
	// known: the shard was published before this process, so a missing position is a lost one.
	known bool

	// What outlives a session but not the process.

	// broken: the log is not continued; the next thing published is a snapshot from a section behind passed.
	broken bool
	passed uint64
	// untimed: Kafka has refused the time of a record, so they go without.
	untimed bool
	// droppedTold: that something of the stream is not carried was told of.
	droppedTold bool
	// scripts that the shard has loaded.
	scripts scripts
	// auxTold is the section whose data of modules was told of.
	auxTold uint64
	// resumable is the section whose snapshot the last generation is made of: its entries are counted by it alone. begin is
	// where it begins in each partition.
	resumable uint64
	begins    map[int32]int64
	sessions  int
}

// run keeps a session up until ctx is done or an error needs an operator.
func (l *lane) run(ctx context.Context) error {
	delay := backoffFirst
	for {
		start := time.Now()
		err := l.session(ctx)
		if ctx.Err() != nil {
			return err
		}
		switch ClassOf(err) {
		case Stop, Restart:
			l.status.laneFailed(err)
			return err
		case Resync:
			l.log.Warn("a new generation is needed", slog.Any("error", err))
			l.broken = true
		default:
			if errors.Is(err, kerr.InvalidTimestamp) && !l.untimed {
				l.untimed = true
				l.log.Warn("Kafka refuses the time of records: a broker's clock or ours is wrong; from here on they have none there")
			}
			l.log.Warn("publishing interrupted, going on from the committed position", slog.Any("error", err), slog.Duration("in", delay))
		}
		l.status.laneFailed(err)
		if time.Since(start) > settled {
			delay = backoffFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay + rand.N(delay)):
		}
		delay = min(2*delay, backoffMax)
	}
}

// session publishes under one producer epoch. A nil error means that ctx is done and everything read is committed.
func (l *lane) session(ctx context.Context) error {
	// What is under way when ctx ends gets DrainTimeout to be committed.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopDrain := context.AfterFunc(ctx, func() { time.AfterFunc(l.cfg.DrainTimeout, cancel) })
	defer stopDrain()

	l.waits = &waits{log: l.log, status: l.status}
	defer l.waits.end()
	l.waits.begin("Kafka's topics")
	if l.sessions++; l.sessions > 1 && l.owner != nil {
		// Fencing a successor would only make it fence us in its turn.
		if err := l.owner(ctx); err != nil {
			return err
		}
	}
	if err := l.refresh(ctx); err != nil {
		return err
	}
	cl, err := l.cfg.Kafka.Client(
		kgo.TransactionalID(offsets.TransactionalID(l.cfg.Connector, l.shard)),
		kgo.TransactionTimeout(l.cfg.TransactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(producerLinger),
		kgo.ProducerBatchMaxBytes(int32(l.topic.MaxMessageBytes)),
		kgo.BrokerMaxWriteBytes(int32(min(l.topic.MaxMessageBytes, math.MaxInt32-requestOverhead)+requestOverhead)),
		kgo.MaxBufferedBytes(max(int(l.budget.producer), l.topic.MaxMessageBytes)),
		kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
	)
	if err != nil {
		return stop(err)
	}
	defer cl.Close()
	producerID, epoch, err := l.fence(ctx, cl)
	if err != nil {
		return err
	}
	l.waits.begin(fmt.Sprintf("its position in %s/%d, or open transactions there", offsets.Topic(l.cfg.Prefix), offsets.LanePartition(l.shard)))
	pos, err := l.position(ctx)
	if err != nil {
		return err
	}
	p := newPublisher(work, l, cl, pos, uint64(producerID)<<16|uint64(uint16(epoch)))
	l.waits.begin("the end of the log in " + l.topic.Name + ", or open transactions there")
	found, err := l.checkLog(ctx, pos)
	p.stands(found)
	if err == nil && pos.Renew {
		err = resync(errAsked)
	}
	if err != nil {
		if ClassOf(err) != Resync {
			return err
		}
		l.log.Warn("the log is not continued: a new generation follows", slog.Any("error", err))
		p.damaged(found)
		if last, ok := l.spool.Last(); ok {
			l.passed = max(l.passed, last.Number)
		}
	}
	at, err := l.place(p)
	if err != nil {
		return err
	}
	if !l.isReady {
		l.isReady = true
		close(l.ready)
	}
	l.waits.end()
	return p.run(ctx, at)
}

// fence ends what whoever published for this shard before has left.
func (l *lane) fence(ctx context.Context, cl *kgo.Client) (producerID int64, epoch int16, err error) {
	l.waits.begin("Kafka's coordinator, which ends the transactions of whoever published before")
	// Returns only when the last transaction is decided.
	producerID, epoch, err = cl.ProducerID(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("fence shard %d: %w", l.shard, err)
	}
	topics := map[string]int32{l.topic.Name: l.topic.Partitions, offsets.Topic(l.cfg.Prefix): offsets.Partitions}
	if err := kafka.Seal(ctx, cl, producerID, epoch, topics); err != nil {
		return 0, 0, err
	}
	hanging, err := kafka.EndHanging(ctx, cl, producerID, slices.Sorted(maps.Keys(topics))...)
	for _, h := range hanging {
		l.log.Warn("Kafka had forgotten to end a transaction of this lane; it was aborted, and its records are published again",
			slog.String("topic", h.Topic), slog.Int("partition", int(h.Partition)), slog.Int64("offset", h.CurrentTxnStartOffset))
	}
	return producerID, epoch, err
}

// refresh looks at the data topic again. How large its records may be can change at any time; a topic that was deleted is
// made again by a new start of the source, which then finds that the position speaks of another one.
func (l *lane) refresh(ctx context.Context) error {
	t, err := kafka.Refresh(ctx, l.adm, l.topic.Name)
	if err != nil {
		return err
	}
	if t.ID != l.topic.ID {
		return &classified{fmt.Errorf("topic %s was deleted and made again (id %s, not %s)", t.Name, t.ID, l.topic.ID), Restart}
	}
	l.topic.MaxMessageBytes = t.MaxMessageBytes
	return nil
}

const (
	producerLinger     = 50 * time.Millisecond
	maxBufferedRecords = 200_000
	// requestOverhead is what a request to Kafka may have beside one full batch: smaller batches, and its own fields.
	requestOverhead = 64 << 10
	// positionTail is how many records of a lane's offsets partition are looked at first for its position.
	positionTail = 2048
)

// position reads the lane's last committed position; its zero value says that it has none.
func (l *lane) position(ctx context.Context) (offsets.Position, error) {
	topic, partition := offsets.Topic(l.cfg.Prefix), offsets.LanePartition(l.shard)
	spans, err := kafka.Spans(ctx, l.adm, topic)
	if err != nil {
		return offsets.Position{}, err
	}
	span := spans[partition]
	tail := kafka.Span{Start: max(span.Start, span.End-positionTail), End: span.End}
	for _, s := range []kafka.Span{tail, span} {
		var state offsets.State
		err := l.cfg.Kafka.ReadCommitted(ctx, topic, map[int32]kafka.Span{partition: s}, func(r *kgo.Record) error {
			return state.Apply(l.cfg.Connector, r.Key, r.Value)
		})
		if errors.Is(err, offsets.ErrForeign) || errors.Is(err, offsets.ErrNewer) {
			return offsets.Position{}, stop(fmt.Errorf("read position of shard %d from %s/%d: %w", l.shard, topic, partition, err))
		}
		if err != nil {
			return offsets.Position{}, fmt.Errorf("read position of shard %d: %w", l.shard, err)
		}
		if pos, ok := state.Position(l.cfg.Connector, uint32(l.shard)); ok {
			return pos, nil
		}
	}
	return offsets.Position{Shard: l.shard}, nil
}

// place finds the section in which publishing goes on, and prepares the spool for the link if it holds nothing of use.
func (l *lane) place(p *publisher) (section uint64, err error) {
	pos := &p.pos
	sections := l.spool.Sections()
	for i := len(sections) - 1; i >= 0 && pos.Generation > 0 && !l.broken; i-- {
		s := sections[i]
		switch {
		case pos.Snapshot != nil && s.Number == l.resumable && !s.Broken && s.Trimmed == 0:
			return s.Number, nil
		case pos.Snapshot == nil && s.Kind == spool.Stream && !s.Broken && s.ReplID == pos.ReplID && pos.Offset <= s.End() && holds(sections[:i+1], pos.Offset):
			return s.Number, nil
		}
	}
	if l.isReady {
		l.broken = true
		return l.nextSnapshot(sections), nil
	}
	if err := l.spool.Reset(); err != nil {
		return 0, fmt.Errorf("reset spool: %w", err)
	}
	if pos.Generation == 0 || l.broken || pos.Snapshot != nil {
		// Nothing is published, or what was being published is gone with the process: the link takes a snapshot.
		return 0, nil
	}
	return l.spool.Begin(spool.Header{Kind: spool.Stream, ReplID: pos.ReplID, Offset: pos.Offset})
}

// holds tells whether the last section, or those that it goes on from, hold the stream behind offset: a section may begin
// inside a unit, whose first half lies in the one before.
func holds(sections []spool.Section, offset event.Offset) bool {
	for i, s := range slices.Backward(sections) {
		if offset >= s.First() {
			return true
		}
		if s.Trimmed > 0 || i == 0 || sections[i-1].Kind != spool.Stream || sections[i-1].End() != s.Offset {
			return false
		}
	}
	return false
}

// nextSnapshot is the newest snapshot in the spool, arrived or arriving, that was not given up. If there is none the link
// is made to take one.
func (l *lane) nextSnapshot(sections []spool.Section) uint64 {
	behind := l.passed + 1
	for _, s := range slices.Backward(sections) {
		if s.Kind == spool.Snapshot && !s.Broken && s.Number > l.passed && s.Trimmed == 0 {
			return s.Number
		}
		behind = max(behind, s.Number+1)
	}
	l.link.resync()
	return behind
}
