package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/source/spool"
)

const (
	receiveBytes = 256 << 10
	ackInterval  = time.Second
	firstAcks    = 100 * time.Millisecond
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 10 * time.Second
	// settled is how long a session has to last for the next one to start at once.
	settled = 30 * time.Second
	// flowed is the same for a session that has brought some of the stream.
	flowed = time.Second
	// The link looks so often for more while its lane waits for a transaction, within these bounds.
	pausesPerWait      = 8
	minPause, maxPause = time.Millisecond, 50 * time.Millisecond
	// waitedLong: a read that took less met bytes that were there already. More may be: TLS gives one record at a time.
	waitedLong = 50 * time.Microsecond
)

// link follows one shard: it connects to whichever node is its master, or to a replica of that one, and fills the spool.
//
// It knows nothing of Kafka. The lane tells it how far it is (committed, wake), it tells the lane by the gate when the
// stream may be published. run is its one goroutine, beside the one that acknowledges during a session, and the one
// that reads the stream where a snapshot came by a channel of its own.
type link struct {
	cfg    *Config
	locate func(context.Context) (place, error)
	limit  *hostLimit
	// arrivals are those of all links of the source.
	arrivals *arrivals
	spool    *spool.Spool
	gate     *gate
	status   *ShardStatus
	log      *slog.Logger

	committed atomic.Pointer[event.Position] // of the lane
	replID    atomic.Pointer[event.ReplID]   // of the present session
	wake      chan struct{}                  // asks for an acknowledgement now; capacity 1
	// wanted counts the times that a new generation was asked for, served is how many of them a snapshot has answered.
	wanted, served atomic.Uint64
	isOnline       atomic.Bool // this session has all that lies before its stream
	flowing        atomic.Bool // and has received some of the stream since
	lastRead       time.Time   // of the stream, in any session; of the goroutine that reads it
	cancel         atomic.Pointer[context.CancelCauseFunc]
	pause          atomic.Int64 // behind a read that waited; a time.Duration
	buffer         int          // bytes of the stream that are read in one go
	// behind: not all that was received may be acknowledged, see single.go.
	behind  atomic.Bool
	breaker breaker
	// The next snapshot has to come by the link, because a channel was in vain, or all; run's goroutine alone.
	alone, barred bool
}

// errResync ends a session because the lane asked for a new generation.
var errResync = errors.New("new generation asked for")

// run keeps a session up until ctx is done.
func (l *link) run(ctx context.Context) error {
	delay := backoffFirst
	for {
		start := time.Now()
		err := l.session(ctx)
		l.gate.set(false)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, spool.ErrClosed) {
			return err
		}
		l.breaker.ended(err, l.committed.Load())
		if lasted := time.Since(start); lasted > settled || l.flowing.Load() && lasted > flowed || errors.Is(err, errResync) {
			delay = backoffFirst
		}
		l.status.linkLost(err)
		var refused *ServerError
		if errors.As(err, &refused) && refused.permanent() {
			return stop(err)
		}
		if refused == nil || !refused.transient() {
			l.log.Warn("link lost, connecting again", slog.Any("error", err), slog.Any("in", delay))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(delay + rand.N(delay)):
		}
		delay = min(2*delay, backoffMax)
	}
}

// resync makes the link take a new snapshot, at once.
func (l *link) resync() {
	l.wanted.Add(1)
	if cancel := l.cancel.Load(); cancel != nil {
		(*cancel)(errResync)
	}
}

// commit tells the link how far the lane has committed, and whether the master waits to hear of it.
func (l *link) commit(at event.Position, now bool) {
	l.committed.Store(&at)
	if now {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// pace tells the link how long the lane had to wait for its last transaction. Where it waits, it is no use to read each
// command by itself: a read costs more than all else that is done for a small one.
func (l *link) pace(waited time.Duration) {
	pause := min(waited/pausesPerWait, maxPause)
	if pause < minPause {
		pause = 0
	}
	l.pause.Store(int64(pause))
}

// session is one connection: handshake, perhaps a snapshot, then the stream until something breaks.
func (l *link) session(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.cancel.Store(&cancel)
	l.flowing.Store(false)
	l.isOnline.Store(false)
	l.status.stage(StageConnecting)
	at, err := l.locate(ctx)
	if err != nil {
		return err
	}
	addr, master, err := l.choose(ctx, at)
	if err != nil {
		return err
	}
	l.behind.Store(!master.cluster)
	from, err := l.resumeAt(master)
	if err != nil {
		return err
	}
	wanted := l.wanted.Load() // what the snapshot that is asked for from here on answers; resumeAt may add to it
	if from == nil {
		if err := l.breaker.wait(ctx, l.status, l.log); err != nil {
			return err
		}
		if err := l.awaitRoom(ctx); err != nil {
			return err
		}
	}
	conn, err := l.cfg.Dialer.DialContext(ctx, addr)
	if err != nil {
		return fmt.Errorf("connect to %s %s: %w", master.role, addr, err)
	}
	defer conn.Close()
	// Before the stream is asked for: it tells how long what comes first has waited.
	clk, stopClock, err := l.watchClock(ctx, at.master, master)
	if err != nil {
		return err
	}
	defer stopClock()
	// A cancelled context ends every read and write.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := newReplConn(conn, master.role, addr)
	channel := !l.alone && !l.barred
	l.alone = false
	if err := c.greet(l.cfg, master.version, channel); err != nil {
		return err
	}
	if from == nil {
		l.status.stage(StageWaiting)
		release, err := l.limit.acquire(ctx, addr)
		if err != nil {
			return err
		}
		defer release()
		return l.follow(ctx, c, clk, nil, master.version, wanted, release)
	}
	l.reportAway(master, from)
	err = l.follow(ctx, c, clk, from, master.version, wanted, nil)
	if l.breaker.stopped(*from, master, l.flowing.Load()) && ctx.Err() == nil {
		l.log.Warn("the master closes the link each time before it has sent anything: a new generation gets past that place",
			slog.String("replid", from.ReplID.String()), slog.Int64("offset", int64(from.Offset)), slog.Int64("master_offset", int64(master.offset)),
			slog.String("hint", "a command larger than its client-output-buffer-limit replica stands there: raise it"))
		l.wanted.Add(1)
	}
	return err
}

// awaitRoom waits until the spool can take a good part of a snapshot: asked for now, it would only be cut off.
func (l *link) awaitRoom(ctx context.Context) error {
	for l.spool.Bytes() > l.spool.Capacity()/2 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(ackInterval):
		}
	}
	return nil
}

// follow asks for the stream behind from and reads it until the connection breaks.
func (l *link) follow(ctx context.Context, c *replConn, clk *clock, from *event.Position, version string, wanted uint64, release func()) error {
	reply, err := c.psync(from, l.cfg.LinkTimeout)
	if err != nil {
		return err
	}
	snapshot := reply.full || reply.channel != noChannel
	if !snapshot {
		l.breaker.continued = true
		if err := l.goOn(from, reply); err != nil {
			return err
		}
		defer l.online(ctx, c, clk, *from, false)()
		return l.stream(ctx, c, clk, from.Offset)
	}
	if from != nil {
		// The master could not go on, and others of its host may be in the same case.
		var ok bool
		if release, ok = l.limit.try(c.addr); !ok || l.spool.Bytes() > l.spool.Capacity()/2 || l.breaker.isOpen() {
			release()
			l.wanted.Add(1)
			return fmt.Errorf("go on at %s: master %s has let go of that place", from, c.addr)
		}
		defer release()
	}
	received := func() {
		release()
		l.served.Store(wanted)
	}
	if reply.channel != noChannel {
		return l.followBeside(ctx, c, clk, version, reply, received)
	}
	at := event.Position{ReplID: reply.id, Offset: reply.offset}
	if err := l.takeSnapshot(ctx, c, at); err != nil {
		return err
	}
	received()
	defer l.online(ctx, c, clk, at, true)()
	return l.stream(ctx, c, clk, at.Offset)
}

// online begins to acknowledge and lets the stream behind from be published. ended waits for the last acknowledgement.
func (l *link) online(ctx context.Context, c *replConn, clk *clock, from event.Position, full bool) (ended func()) {
	l.isOnline.Store(true)
	ctx, stop := context.WithCancel(ctx)
	acks := make(chan struct{})
	go func() { // ends with ctx or a broken connection
		defer close(acks)
		l.acknowledge(ctx, c)
	}()
	l.gate.set(true)
	skew, within := clk.reading()
	l.status.linked(c.addr, skew, within)
	l.log.Info("link streams", slog.String(c.role, c.addr), slog.String("replid", from.ReplID.String()), slog.Int64("offset", int64(from.Offset)), slog.Any("full", full),
		slog.Duration("clock", skew), slog.Duration("clock.within", within))
	return func() {
		stop()
		<-acks
	}
}

// stream spools what comes behind offset at.
func (l *link) stream(ctx context.Context, c *replConn, clk *clock, at event.Offset) error {
	buf := make([]byte, cmp.Or(l.buffer, receiveBytes))
	for {
		begun := time.Now()
		n, err := c.receive(l.cfg.LinkTimeout, buf)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("read stream of %s: %w", c.addr, err)
		}
		if l.isOnline.Load() {
			l.flowing.Store(true)
		}
		read := time.Now()
		l.lastRead = read
		l.breaker.flows()
		for rest := buf[:n]; len(rest) > 0; {
			stamp, until := clk.stamp(read, at)
			piece := rest[:min(int64(len(rest)), int64(until-at))]
			if err := l.spool.AppendAt(ctx, piece, stamp); err != nil {
				return err
			}
			at, rest = at+event.Offset(len(piece)), rest[len(piece):]
		}
		l.status.received(int64(n))
		if pause := time.Duration(l.pause.Load()); pause > 0 && read.Sub(begun) > waitedLong {
			select {
			case <-ctx.Done(): // the next read says so
			case <-time.After(pause):
			}
		}
	}
}

// takeSnapshot spools the RDB and opens the stream behind it.
func (l *link) takeSnapshot(ctx context.Context, c *replConn, at event.Position) error {
	if _, err := l.beginSnapshot(c, at, false); err != nil {
		return err
	}
	if err := l.receive(ctx, c, func(p []byte) error { return l.spool.Append(ctx, p) }); err != nil {
		return errors.Join(err, l.spool.Break())
	}
	l.spool.Done()
	l.breaker.arrived()
	_, err := l.spool.Begin(spool.Header{Kind: spool.Stream, ReplID: at.ReplID, Offset: at.Offset})
	return err
}

// goOn opens a new section where the history has another name now, or where the old section was closed.
func (l *link) goOn(from *event.Position, reply syncReply) error {
	id := from.ReplID
	if !reply.id.IsZero() {
		id = reply.id
	}
	l.replID.Store(&id)
	if last, ok := l.spool.Last(); ok && !last.Done && last.Kind == spool.Stream && last.ReplID == id && last.End() == from.Offset {
		return nil
	}
	_, err := l.spool.Begin(spool.Header{Kind: spool.Stream, ReplID: id, Offset: from.Offset})
	return err
}

// resumeAt decides from where to ask for the stream: nil asks for a snapshot.
//
// Where the shard has left our history (a failover), the part of it that the new master does not have is cut off before
// anything is asked. Had some of that been committed already, the log holds writes that the shard has lost: a new
// generation repairs it. What is on its way to Kafka is revoked.
func (l *link) resumeAt(m master) (*event.Position, error) {
	last, ok := l.spool.Last()
	if !ok || last.Kind != spool.Stream || last.Broken || l.wanted.Load() > l.served.Load() {
		return nil, nil
	}
	at := event.Position{ReplID: last.ReplID, Offset: last.End()}
	if m.replID == at.ReplID || m.replID2 != at.ReplID {
		// The same history; or an unknown one, and then the master answers PSYNC with a full resynchronisation.
		return &at, nil
	}
	// second_repl_offset is the first offset that the old history does not have.
	parted := m.secondReplOffset - 1
	if at.Offset <= parted {
		return &at, nil
	}
	diverged := false
	err := l.gate.cut(func(published event.Position) error {
		beyond := func(p *event.Position) bool { return p != nil && p.ReplID == at.ReplID && p.Offset > parted }
		if diverged = beyond(l.committed.Load()) || parted < last.Offset; diverged {
			return nil
		}
		if beyond(&published) {
			l.gate.revoke()
		}
		return l.spool.Cut(parted)
	})
	if err != nil {
		return nil, err
	}
	told := []any{slog.String("replid", at.ReplID.String()), slog.Int64("parted", int64(parted)), slog.Int64("read", int64(at.Offset))}
	if diverged {
		l.log.Warn("the new master lacks writes that are published: a new generation follows", told...)
		l.wanted.Add(1)
		return nil, nil
	}
	l.log.Info("the new master lacks writes that were read and are not published: they are discarded", told...)
	at.Offset = parted
	return &at, nil
}

// acknowledged is the offset that is in Kafka, in the history of this session; 0 while that is still to come.
func (l *link) acknowledged() event.Offset {
	at, id := l.committed.Load(), l.replID.Load()
	if at == nil || id == nil || at.ReplID != *id {
		return 0
	}
	if l.behind.Load() {
		return l.beforeEnd(at.Offset)
	}
	return at.Offset
}

// acknowledge sends our offset once a second and when the lane asks for it, until the connection breaks.
func (l *link) acknowledge(ctx context.Context, c *replConn) {
	// Behind a diskless snapshot the master sends nothing before it has an acknowledgement, and overlooks one that comes
	// before it is ready for it: ask often until the stream flows.
	tick := time.NewTicker(firstAcks)
	defer tick.Stop()
	flowing := false
	for {
		if err := c.acknowledge(l.acknowledged()); err != nil {
			// The reader meets the same broken connection and reports it.
			c.Close()
			return
		}
		if !flowing && l.flowing.Load() {
			flowing = true
			tick.Reset(ackInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.wake:
		}
	}
}
