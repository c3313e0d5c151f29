package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/resp"
)

const (
	handshakeTimeout = 10 * time.Second
	// eofMarkBytes is the length of the mark that ends a diskless transfer.
	eofMarkBytes = 40
	maxReplyLine = 64 << 10
)

// ServerError is what a master answered in place of what we asked for.
type ServerError struct {
	Addr, Asked, Answer string
}

func (e *ServerError) Error() string {
	s := fmt.Sprintf("%s at %s: %s", e.Asked, e.Addr, e.Answer)
	if hint := e.Hint(); hint != "" {
		s += ": " + hint
	}
	return s
}

const grantHint = "grant the user +psync +sync +replconf +ping +info +time +cluster with ACL SETUSER"

// Hint is what to do about it.
func (e *ServerError) Hint() string {
	switch code, _, _ := strings.Cut(e.Answer, " "); code {
	case "NOAUTH":
		return "set redis.password (and redis.username)"
	case "WRONGPASS":
		return "check redis.username and redis.password"
	case "NOPERM":
		return grantHint
	case "ERR":
		if strings.Contains(e.Answer, "unknown command") && e.Asked == "TIME" {
			return "before Redis 7 the master's clock has to be known: do not rename TIME"
		}
		if strings.Contains(e.Answer, "unknown command") {
			return "the server does not offer PSYNC: a proxy or a managed service cannot be a source"
		}
	}
	return ""
}

// answerOf is a ServerError for what a server has answered to a client of the library; other errors are told with what was
// asked.
func answerOf(addr, asked string, err error) error {
	if refused, ok := errors.AsType[redis.Error](err); ok {
		return &ServerError{Addr: addr, Asked: asked, Answer: refused.Error()}
	}
	return fmt.Errorf("%s at %s: %w", asked, addr, err)
}

// permanent reports whether an operator has to act before the master answers otherwise.
func (e *ServerError) permanent() bool {
	switch code, _, _ := strings.Cut(e.Answer, " "); code {
	case "NOAUTH", "WRONGPASS", "NOPERM":
		return true
	}
	return strings.Contains(e.Answer, "unknown command")
}

// transient reports whether the master will answer otherwise by itself.
func (e *ServerError) transient() bool {
	switch code, _, _ := strings.Cut(e.Answer, " "); code {
	case "LOADING", "NOMASTERLINK", "MISCONF", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN":
		return true
	}
	return false
}

// replConn speaks the replication protocol from the replica's side. One goroutine reads; after the handshake another
// one may write acknowledgements.
type replConn struct {
	net.Conn
	role string // of the node, as logs name it
	addr string
	r    *bufio.Reader
}

func newReplConn(c net.Conn, role, addr string) *replConn {
	if role == roleReplica {
		role = ReadFromReplica
	}
	return &replConn{Conn: c, role: role, addr: addr, r: bufio.NewReaderSize(c, maxReplyLine)}
}

// ask sends a command and returns the line that answers it. Keep-alive newlines before it are skipped.
func (c *replConn) ask(args ...string) (string, error) {
	return c.askPatiently(handshakeTimeout, args...)
}

func (c *replConn) askPatiently(silence time.Duration, args ...string) (string, error) {
	name := args[0]
	if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
		return "", fmt.Errorf("%s to %s: %w", name, c.addr, err)
	}
	if _, err := c.Write(resp.AppendCommand(nil, args...)); err != nil {
		return "", fmt.Errorf("%s to %s: %w", name, c.addr, err)
	}
	line, err := c.line(silence)
	if err != nil {
		return "", fmt.Errorf("%s to %s: %w", name, c.addr, err)
	}
	if strings.HasPrefix(line, "-") {
		return "", &ServerError{Addr: c.addr, Asked: name, Answer: line[1:]}
	}
	return line, nil
}

// line reads a line that is not empty. Each empty one gives the master its time anew.
func (c *replConn) line(silence time.Duration) (string, error) {
	for {
		if c.r.Buffered() == 0 {
			if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
				return "", fmt.Errorf("set deadline: %w", err)
			}
		}
		b, err := c.r.ReadSlice('\n')
		if err != nil {
			return "", fmt.Errorf("read reply: %w", err)
		}
		if b = bytes.TrimRight(b, "\r\n"); len(b) > 0 {
			return string(b), nil
		}
	}
}

func (c *replConn) authenticate(cfg *Config) error {
	if cfg.Dialer.Password == "" {
		return nil
	}
	auth := []string{"AUTH", cfg.Dialer.Password}
	if cfg.Dialer.Username != "" {
		auth = []string{"AUTH", cfg.Dialer.Username, cfg.Dialer.Password}
	}
	_, err := c.ask(auth...)
	return err
}

// greet does all of the handshake that comes before PSYNC. Of the REPLCONFs only capa matters to us, and only for what
// the master would do without it; a master that does not know one is as good a source. channel: a snapshot may come by a
// connection of its own.
func (c *replConn) greet(cfg *Config, version string, channel bool) error {
	if err := c.authenticate(cfg); err != nil {
		return err
	}
	if _, err := c.ask("PING"); err != nil {
		return err
	}
	capa := []string{"REPLCONF", "capa", "eof", "capa", "psync2"}
	if channel {
		capa = append(capa, "capa", "rdb-channel-repl", "capa", "dual-channel") // of Redis and of Valkey
	}
	// Port 0: nobody can mistake us for a node to promote.
	for _, conf := range [][]string{
		{"REPLCONF", "listening-port", "0"},
		capa,
		// A Valkey master cuts the transfer at the first hash with field expiries unless it knows us to be as new as itself.
		{"REPLCONF", "version", version},
	} {
		_, err := c.ask(conf...)
		var refused *ServerError
		if err != nil && (!errors.As(err, &refused) || strings.HasPrefix(refused.Answer, "NOPERM")) {
			return err
		}
	}
	return nil
}

// syncReply is the master's answer to PSYNC.
type syncReply struct {
	full bool
	// id and offset: the history that follows. For a partial one, id is zero where the server names none.
	id     event.ReplID
	offset event.Offset
	// channel: the snapshot has to be asked for by another connection, and client is the number of this one there.
	channel channelKind
	client  string
}

// psync asks to go on behind from, or for everything if from is nil. The master may take its time to begin a snapshot,
// and sends a newline now and then meanwhile: only that it is silent for longer says that it is gone.
func (c *replConn) psync(from *event.Position, silence time.Duration) (syncReply, error) {
	args := []string{"PSYNC", "?", "-1"}
	if from != nil {
		args = []string{"PSYNC", from.ReplID.String(), strconv.FormatInt(int64(from.Offset)+1, 10)}
	}
	line, err := c.askPatiently(silence, args...)
	if err != nil {
		return syncReply{}, err
	}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "+FULLRESYNC":
		id, off, ok := strings.Cut(rest, " ")
		offset, err := strconv.ParseInt(off, 10, 64)
		if !ok || err != nil {
			return syncReply{}, fmt.Errorf("PSYNC to %s: answered %q", c.addr, line)
		}
		replID, err := event.ParseReplID(id)
		if err != nil {
			return syncReply{}, fmt.Errorf("PSYNC to %s: %w", c.addr, err)
		}
		return syncReply{full: true, id: replID, offset: event.Offset(offset)}, nil
	case "+CONTINUE":
		if rest = strings.TrimSpace(rest); rest == "" {
			return syncReply{}, nil
		}
		id, err := event.ParseReplID(rest)
		if err != nil {
			return syncReply{}, fmt.Errorf("PSYNC to %s: %w", c.addr, err)
		}
		return syncReply{id: id}, nil
	case "+RDBCHANNELSYNC":
		return syncReply{channel: redisChannel, client: strings.TrimSpace(rest)}, nil
	case "+DUALCHANNELSYNC":
		return syncReply{channel: valkeyChannel}, nil
	}
	return syncReply{}, fmt.Errorf("PSYNC to %s: answered %q", c.addr, line)
}

// receiveSnapshot reads the RDB that follows +FULLRESYNC and hands its bytes to take, as they come. progress is told the
// size, or -1 where the master does not know it (a diskless transfer).
func (c *replConn) receiveSnapshot(ctx context.Context, silence time.Duration, progress func(size int64), take func([]byte) error) error {
	header, err := c.snapshotHeader(silence)
	if err != nil {
		return fmt.Errorf("wait for snapshot of %s: %w", c.addr, err)
	}
	buf := make([]byte, receiveBytes)
	if mark, ok := strings.CutPrefix(header, "$EOF:"); ok {
		if len(mark) != eofMarkBytes {
			return fmt.Errorf("wait for snapshot of %s: end mark %q", c.addr, mark)
		}
		progress(-1)
		return c.receiveMarked(ctx, []byte(mark), silence, buf, take)
	}
	size, err := strconv.ParseInt(strings.TrimPrefix(header, "$"), 10, 64)
	if err != nil || size < 0 {
		return fmt.Errorf("wait for snapshot of %s: answered %q", c.addr, header)
	}
	progress(size)
	for size > 0 {
		n, err := c.receive(silence, buf[:min(int64(len(buf)), size)])
		if err != nil {
			return fmt.Errorf("receive snapshot from %s, %d bytes missing: %w", c.addr, size, err)
		}
		size -= int64(n)
		if err := take(buf[:n]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// snapshotHeader waits for the line before the RDB. The master sends a newline now and then while it makes it; that it
// is silent for longer says that it is gone.
func (c *replConn) snapshotHeader(silence time.Duration) (string, error) {
	for {
		if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
			return "", fmt.Errorf("set deadline: %w", err)
		}
		b, err := c.r.ReadSlice('\n')
		if err != nil {
			return "", fmt.Errorf("read: %w", err)
		}
		b = bytes.TrimRight(b, "\r\n")
		switch {
		case len(b) == 0:
		case b[0] == '$':
			return string(b), nil
		default:
			return "", &ServerError{Addr: c.addr, Asked: "PSYNC", Answer: strings.TrimPrefix(string(b), "-")}
		}
	}
}

// receiveMarked hands on everything up to the mark. A mark may be split over reads, and the stream's first bytes may
// follow it in the same read: they stay in c.r.
func (c *replConn) receiveMarked(ctx context.Context, mark []byte, silence time.Duration, buf []byte, take func([]byte) error) error {
	held := 0 // bytes at the start of buf that may be the beginning of the mark
	for {
		if c.r.Buffered() == 0 {
			if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
				return fmt.Errorf("set deadline: %w", err)
			}
		}
		chunk, err := c.r.Peek(1)
		if err == nil {
			chunk, err = c.r.Peek(min(c.r.Buffered(), len(buf)-held))
		}
		if err != nil {
			return fmt.Errorf("receive snapshot from %s: %w", c.addr, err)
		}
		n := copy(buf[held:], chunk)
		have := buf[:held+n]
		if i := bytes.Index(have, mark); i >= 0 {
			if _, err := c.r.Discard(i + len(mark) - held); err != nil {
				return fmt.Errorf("receive snapshot from %s: %w", c.addr, err)
			}
			return take(have[:i])
		}
		if _, err := c.r.Discard(n); err != nil {
			return fmt.Errorf("receive snapshot from %s: %w", c.addr, err)
		}
		give := max(len(have)-len(mark)+1, 0)
		if err := take(have[:give]); err != nil {
			return err
		}
		held = copy(buf, have[give:])
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
}

// receive reads what is there, waiting at most silence for the first byte.
func (c *replConn) receive(silence time.Duration, p []byte) (int, error) {
	if c.r.Buffered() > 0 {
		return c.r.Read(p)
	}
	if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, fmt.Errorf("set deadline: %w", err)
	}
	n, err := c.Conn.Read(p) //nolint:staticcheck // the socket itself: r has nothing buffered
	if n > 0 {
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

// acknowledge tells the master how far we are.
func (c *replConn) acknowledge(offset event.Offset) error {
	if err := c.SetWriteDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	_, err := c.Write(resp.AppendCommand(nil, "REPLCONF", "ACK", strconv.FormatInt(int64(offset), 10)))
	if err != nil {
		return fmt.Errorf("acknowledge to %s: %w", c.addr, err)
	}
	return nil
}
