package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/source/spool"
)

const (
	// clockFirstLooks at the master's clock are taken before the stream: the quickest answer says most.
	clockFirstLooks = 3
	// clockEach is how often it is looked at while the master may send times to live, clockSeldom for all others.
	clockEach   = time.Second
	clockSeldom = time.Minute
	// clockAge is how long a close look stands against wider ones.
	clockAge = time.Minute
	// maxLooks bounds those that are kept; beyond, every other one goes.
	maxLooks = 4096
	// stampStep is how long bytes that come one after the other share a stamp.
	stampStep = 10 * time.Millisecond
	// absoluteSince is the first version that replicates points in time alone. Forks began later.
	absoluteSince = 7
)

// clock tells when a master carried out what its stream says, by the master's clock. A master before Redis 7 replicates
// times to live, which count from then: not from when the lane publishes them, which may be hours later, and not by our
// clock, which may be another.
//
// Two things bound that moment. The link has read the bytes, at a time that skew makes one of the master's clock. And at
// each look the master says how far its stream has come: what lies before that offset was carried out by then, however
// long it waited in the master's buffer behind a snapshot, or for us. The earlier one is taken. So what comes while the
// link keeps up is off by what it took to arrive, and what waited by no more than the time between two looks; both make
// an expiry later, never earlier. What the master did while nobody looked (the link was away) is known by the first
// bound alone, as it is to a replica.
//
// Any goroutine may call its methods.
type clock struct {
	ask func(ctx context.Context) (look, error)
	now func() time.Time

	mu     sync.Mutex
	skew   time.Duration // of the master's clock against ours
	within time.Duration // how far off it may be
	taken  time.Time
	looks  []look // oldest first, of which the link has not read all yet
	last   spool.Stamp
}

// look is what a master says of itself: at that time of its clock its stream had come to that offset, or further.
type look struct {
	offset event.Offset
	at     time.Time
}

// lookAt asks a master. The offset comes first, so that it is not ahead of the time.
func lookAt(ctx context.Context, client *redis.Client) (look, error) {
	pipe := client.Pipeline()
	info, now := pipe.Info(ctx, "replication"), pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		asked := "TIME"
		if info.Err() != nil {
			asked = "INFO"
		}
		return look{}, fmt.Errorf("ask for the master's clock: %w", answerOf(client.Options().Addr, asked, err))
	}
	return look{offset: event.Offset(atoi(topology.ParseInfo(info.Val())["master_repl_offset"])), at: now.Val()}, nil
}

// measure takes one look.
func (c *clock) measure(ctx context.Context) error {
	asked := c.now()
	l, err := c.ask(ctx)
	if err != nil {
		return err
	}
	answered := c.now()
	// The master looked at its clock between the two.
	within := answered.Sub(asked) / 2
	skew := l.at.Sub(asked.Add(within))
	c.mu.Lock()
	defer c.mu.Unlock()
	moved := (skew - c.skew).Abs() > within+c.within // somebody set one of the clocks
	if c.taken.IsZero() || within <= c.within || moved || answered.Sub(c.taken) >= clockAge {
		c.skew, c.within, c.taken = skew, within, answered
	}
	if n := len(c.looks); n == 0 || l.offset > c.looks[n-1].offset {
		c.looks = append(c.looks, l)
	}
	if len(c.looks) > maxLooks {
		kept := c.looks[:0]
		for i := (len(c.looks) - 1) % 2; i < len(c.looks); i += 2 { // the newest stays
			kept = append(kept, c.looks[i])
		}
		c.looks = kept
	}
	return nil
}

// reading is how far the master's clock is ahead of ours, and how far off that may be.
func (c *clock) reading() (skew, within time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.within
}

// stamp of bytes that were read at that time of our clock and begin behind offset at. It holds up to offset until.
func (c *clock) stamp(read time.Time, at event.Offset) (s spool.Stamp, until event.Offset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.looks) > 0 && c.looks[0].offset <= at {
		c.looks = c.looks[1:]
	}
	s = spool.Stamp{CapturedMs: read.UnixMilli(), SourceMs: read.Add(c.skew).UnixMilli()}
	until = math.MaxInt64
	if len(c.looks) > 0 {
		until = c.looks[0].offset
		s.SourceMs = min(s.SourceMs, c.looks[0].at.UnixMilli())
	}
	if d := s.CapturedMs - c.last.CapturedMs; 0 <= d && d < stampStep.Milliseconds() && near(s.SourceMs, c.last.SourceMs) {
		return c.last, until
	}
	c.last = s
	return s, until
}

func near(a, b int64) bool {
	return a-b < stampStep.Milliseconds() && b-a < stampStep.Milliseconds()
}

// run looks again and again until ctx is done.
func (c *clock) run(ctx context.Context, every time.Duration, log *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	silent := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, handshakeTimeout)
		err := c.measure(asking)
		cancel()
		if err != nil && ctx.Err() == nil && !silent {
			log.Warn("the master does not tell its time: what was measured last stands", slog.Any("error", err))
		}
		silent = err != nil
	}
}

// watchClock begins to follow a master's clock, which ends with stop. A master that does not tell its time is an error
// if it may send times to live; of any other our own clock has to do.
func (l *link) watchClock(ctx context.Context, addr string, m master) (c *clock, stop func(), err error) {
	client := l.cfg.Dialer.Client(addr)
	ask := l.cfg.lookAt
	if ask == nil {
		ask = lookAt
	}
	c = &clock{now: time.Now, ask: func(ctx context.Context) (look, error) { return ask(ctx, client) }}
	for range clockFirstLooks {
		asking, cancel := context.WithTimeout(ctx, handshakeTimeout)
		err = c.measure(asking)
		cancel()
		if err != nil {
			break
		}
	}
	every := clockSeldom
	if m.sendsTTLs() {
		every = clockEach
	}
	if err != nil && m.sendsTTLs() {
		return nil, nil, errors.Join(err, client.Close())
	}
	if err != nil {
		l.log.Info("the master does not tell its time: its clock is taken to be ours", slog.Any("error", err))
		return c, func() { _ = client.Close() }, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx, every, l.log) }) // ends with stop
	return c, func() {
		cancel()
		wg.Wait()
		_ = client.Close()
	}, nil
}

// reportAway says how much later times to live may end that a master set while the link was away: that nobody was there
// to look at its clock.
func (l *link) reportAway(m master, from *event.Position) {
	if !m.sendsTTLs() || m.offset <= from.Offset {
		return
	}
	away := time.Duration(0) // not known
	if !l.lastRead.IsZero() {
		away = time.Since(l.lastRead)
	}
	if l.lastRead.IsZero() || away > clockEach {
		l.log.Info("the master went on without the link: times to live that it set meanwhile may end later, by as long as that was",
			slog.Int64("bytes", int64(m.offset-from.Offset)), slog.Duration("away", away))
	}
}
