package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/source/spool"
)

// A master that is able to sends its snapshot by a connection of its own, the RDB channel, and the stream behind it by the
// link at the same time: it has to hold back nothing of what is written meanwhile. Redis does so from 8.0 on, Valkey from
// 8.0 on where dual-channel-replication-enabled is set:
//
//	link         PSYNC ? -1                                         +RDBCHANNELSYNC <client id>        Redis
//	                                                                +DUALCHANNELSYNC                   Valkey
//	RDB channel  REPLCONF capa eof rdb-only 1 rdb-channel 1 ...     +OK
//	  Redis      (main-ch-client-id <client id> is of the REPLCONF)
//	             PSYNC ? -1                                         +FULLRESYNC <replid> <offset>, and the RDB
//	  Valkey     SYNC                                               $ENDOFF:<offset> <replid> <db> <client id>, and the RDB
//	link         (Redis: the stream begins by itself)
//	  Valkey     REPLCONF set-rdb-client-id <client id>             +OK
//	             PSYNC <replid> <offset + 1>                        +CONTINUE, and the stream
//
// Seen of replicas of Redis 8.0 and 8.6, and of Valkey 8.1 and 9.1. Behind the RDB the replica closes the channel and
// acknowledges; before that the link is silent, because an acknowledgement says that the snapshot has arrived.
type channelKind byte

const (
	noChannel channelKind = iota
	redisChannel
	valkeyChannel
)

// followBeside is follow by the channel: the stream is spooled from the start, and published once the snapshot is.
func (l *link) followBeside(ctx context.Context, c *replConn, clk *clock, version string, asked syncReply, received func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ch, at, err := l.openChannel(ctx, c, version, asked)
	if err != nil {
		return err
	}
	defer ch.Close()
	stop := context.AfterFunc(ctx, func() { ch.Close(); c.Close() })
	defer stop()
	snapshot, err := l.beginSnapshot(c, at, true)
	if err != nil {
		return err
	}
	if _, err := l.spool.BeginBeside(spool.Header{Kind: spool.Stream, ReplID: at.ReplID, Offset: at.Offset}); err != nil {
		return err
	}
	streaming := make(chan struct{})
	go func() { // ends with ctx or the link's connection
		defer close(streaming)
		cancel(l.stream(ctx, c, clk, at.Offset))
	}()
	defer func() {
		cancel(nil)
		<-streaming
	}()
	err = l.receive(ctx, ch, func(p []byte) error { return l.spool.AppendTo(ctx, snapshot, p) })
	if err != nil {
		l.alone = ctx.Err() == nil
		cancel(err) // unless the link was lost first
		return errors.Join(context.Cause(ctx), l.spool.Break())
	}
	l.spool.Complete(snapshot)
	ch.Close()
	l.breaker.arrived()
	received()
	defer l.online(ctx, c, clk, at, true)()
	<-streaming
	return context.Cause(ctx)
}

// openChannel connects again, as a replica that wants the RDB alone, and returns where the stream begins. An error is never
// one to stop at: the next snapshot comes by the link, and all further ones if this is forbidden to us.
func (l *link) openChannel(ctx context.Context, c *replConn, version string, asked syncReply) (*replConn, event.Position, error) {
	conn, err := l.cfg.Dialer.DialContext(ctx, c.addr)
	if err != nil {
		l.alone = true
		return nil, event.Position{}, fmt.Errorf("connect to %s %s for its snapshot: %w", c.role, c.addr, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	ch := newReplConn(conn, c.role, c.addr)
	at, err := ch.askSnapshot(l.cfg, c, version, asked)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, event.Position{}, context.Cause(ctx)
		}
		refused, ok := errors.AsType[*ServerError](err)
		l.alone, l.barred = true, ok && refused.permanent()
		return nil, event.Position{}, errors.New("the next snapshot comes by the link, not by a channel of its own: " + err.Error())
	}
	return ch, at, nil
}

// askSnapshot asks for the RDB by this connection, and for the stream by the link if the master waits for that.
func (c *replConn) askSnapshot(cfg *Config, link *replConn, version string, asked syncReply) (event.Position, error) {
	if err := c.authenticate(cfg); err != nil {
		return event.Position{}, err
	}
	conf := []string{"REPLCONF", "capa", "eof", "rdb-only", "1", "rdb-channel", "1", "listening-port", "0"}
	if asked.channel == redisChannel {
		if _, err := c.ask(append(conf, "main-ch-client-id", asked.client)...); err != nil {
			return event.Position{}, err
		}
		reply, err := c.psync(nil, cfg.LinkTimeout)
		if err == nil && !reply.full {
			err = errors.New("PSYNC by the channel: the master sends no snapshot")
		}
		return event.Position{ReplID: reply.id, Offset: reply.offset}, err
	}
	if _, err := c.ask(append(conf, "version", version)...); err != nil {
		return event.Position{}, err
	}
	line, err := c.askPatiently(cfg.LinkTimeout, "SYNC")
	if err != nil {
		return event.Position{}, err
	}
	at, client, err := parseEndOffset(line)
	if err != nil {
		return event.Position{}, err
	}
	if _, err := link.ask("REPLCONF", "set-rdb-client-id", client); err != nil {
		return event.Position{}, err
	}
	reply, err := link.psync(&at, cfg.LinkTimeout)
	if err == nil && (reply.full || reply.channel != noChannel || !reply.id.IsZero() && reply.id != at.ReplID) {
		err = fmt.Errorf("PSYNC at %s: the master has let go of the stream behind its snapshot", at)
	}
	return at, err
}

// parseEndOffset reads $ENDOFF:<offset> <replid> <db> <client id>.
func parseEndOffset(line string) (at event.Position, client string, err error) {
	bad := func() (event.Position, string, error) {
		return event.Position{}, "", fmt.Errorf("SYNC by the channel: answered %q", line)
	}
	rest, ok := strings.CutPrefix(line, "$ENDOFF:")
	fields := strings.Fields(rest)
	if !ok || len(fields) != 4 {
		return bad()
	}
	offset, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || offset < 0 {
		return bad()
	}
	id, err := event.ParseReplID(fields[1])
	if err != nil {
		return bad()
	}
	return event.Position{ReplID: id, Offset: event.Offset(offset)}, fields[3], nil
}

// beginSnapshot opens a section for the snapshot that stands for at.
func (l *link) beginSnapshot(c *replConn, at event.Position, channel bool) (section uint64, err error) {
	l.status.stage(StageReceiving)
	l.log.Info("full resynchronisation", slog.String(c.role, c.addr), slog.String("replid", at.ReplID.String()), slog.Int64("offset", int64(at.Offset)),
		slog.Bool("channel", channel))
	l.breaker.begin(at)
	section, err = l.spool.Begin(spool.Header{Kind: spool.Snapshot, ReplID: at.ReplID, Offset: at.Offset})
	if err != nil {
		return 0, err
	}
	l.replID.Store(&at.ReplID)
	// What is left of the old history may be published: the snapshot supersedes it.
	l.gate.set(true)
	return section, nil
}

// receive spools the RDB that c sends.
func (l *link) receive(ctx context.Context, c *replConn, take func([]byte) error) error {
	l.arrivals.count(1)
	defer l.arrivals.count(-1)
	return c.receiveSnapshot(ctx, l.cfg.LinkTimeout, l.status.snapshotSize, func(p []byte) error {
		l.arrivals.came()
		l.status.snapshotReceived(int64(len(p)))
		return take(p)
	})
}
