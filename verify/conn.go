package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
)

// meter counts the bytes that pass to and from both sides, and holds the readers to a rate.
type meter struct {
	read, sent atomic.Int64
	limit      *rate.Limiter // nil: none
	timeout    time.Duration // of one reply
}

const (
	replyTimeout = 30 * time.Second
	limitBurst   = 64 << 10
	// pageReplyBytes is about what one pipeline may answer.
	pageReplyBytes = 32 << 20
)

func newMeter(bytesPerSecond int) *meter {
	m := &meter{timeout: replyTimeout}
	if bytesPerSecond > 0 {
		m.limit = rate.NewLimiter(rate.Limit(bytesPerSecond), limitBurst)
		m.timeout += pageReplyBytes / time.Duration(bytesPerSecond) * time.Second
	}
	return m
}

// meteredConn is a connection whose bytes are counted.
type meteredConn struct {
	net.Conn
	m *meter
}

// Read waits after reading, so that the server sees a slow reader and no more.
func (c meteredConn) Read(p []byte) (int, error) {
	if c.m.limit != nil && len(p) > limitBurst {
		p = p[:limitBurst]
	}
	n, err := c.Conn.Read(p)
	c.m.read.Add(int64(n))
	if c.m.limit != nil && n > 0 {
		r := c.m.limit.ReserveN(time.Now(), n)
		time.Sleep(r.Delay()) //nolint:forbidigo // a reader that is held to a rate; at most the time of one burst for each waiting reader
	}
	return n, err
}

func (c meteredConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.m.sent.Add(int64(n))
	return n, err
}

// node is one master, or the single server, and the idle connections to it.
type node struct {
	side  *side
	addr  string
	id    string // of a cluster's node
	epoch uint64

	mu   sync.Mutex
	idle map[int][]*conn // by selected database
}

// conn is one connection. Commands are added, sent together, and answered in order.
type conn struct {
	node *node
	db   int
	net  net.Conn
	in   *resp.ReplyReader
	out  []byte
	stop func() bool // ends the watch of the context
}

// sideError is a failure to speak with a side.
type sideError struct {
	side, addr, op string
	err            error
}

func (e *sideError) Error() string {
	return fmt.Sprintf("%s %s: %s: %v", e.side, e.addr, e.op, e.err)
}

func (e *sideError) Unwrap() error { return e.err }

// take returns a connection for the sole use of the caller, until ctx ends or give is called.
func (n *node) take(ctx context.Context, db int) (*conn, error) {
	n.mu.Lock()
	var c *conn
	if free := n.idle[db]; len(free) > 0 {
		c = free[len(free)-1]
		n.idle[db] = free[:len(free)-1]
	}
	n.mu.Unlock()
	if c == nil {
		var err error
		if c, err = n.dial(ctx, db); err != nil {
			return nil, err
		}
	}
	c.stop = context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	return c, nil
}

// give takes a connection back. Whoever has not read all answers, or met an error, must say so.
func (n *node) give(c *conn, clean bool) {
	if !c.stop() || !clean {
		_ = c.net.Close()
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.idle[c.db] = append(n.idle[c.db], c)
}

func (n *node) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, cs := range n.idle {
		for _, c := range cs {
			_ = c.net.Close()
		}
	}
	n.idle = map[int][]*conn{}
}

func (n *node) dial(ctx context.Context, db int) (*conn, error) {
	raw, err := n.side.dial(ctx, n.addr)
	if err != nil {
		return nil, &sideError{n.side.name, n.addr, "connect", err}
	}
	c := &conn{node: n, db: db, net: raw, in: resp.NewReplyReader(raw, resp.Config{})}
	var words [][]string
	if d := n.side.at.Dialer; d.Password != "" {
		auth := []string{"AUTH", d.Password}
		if d.Username != "" {
			auth = []string{"AUTH", d.Username, d.Password}
		}
		words = append(words, auth)
	}
	if db != 0 {
		words = append(words, []string{"SELECT", strconv.Itoa(db)})
	}
	for _, w := range words {
		c.out = resp.AppendCommand(c.out, w...)
	}
	c.stop = context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	defer c.stop()
	if err := c.send(); err != nil {
		_ = raw.Close()
		return nil, err
	}
	for _, w := range words {
		r, err := c.read()
		if err == nil {
			if err = r.Err(); err != nil {
				err = c.fail(w[0], err)
			}
		}
		if err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *conn) fail(op string, err error) error {
	return &sideError{c.node.side.name, c.node.addr, op, err}
}

// add puts a command into the next batch.
func (c *conn) add(args ...string) { c.out = resp.AppendCommand(c.out, args...) }

// send writes the batch.
func (c *conn) send() error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.net.SetDeadline(time.Now().Add(c.node.side.meter.timeout)); err != nil {
		return c.fail("send", err)
	}
	_, err := c.net.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > 4<<20 {
		c.out = nil
	}
	if err != nil {
		return c.fail("send", err)
	}
	return nil
}

// read returns the next answer, which is valid until the next call. An error reply is an answer.
func (c *conn) read() (resp.Reply, error) {
	r, err := c.in.Read()
	if err != nil {
		return r, c.fail("read", err)
	}
	return r, nil
}

// one sends one command and returns its answer.
func (c *conn) one(args ...string) (resp.Reply, error) {
	c.add(args...)
	if err := c.send(); err != nil {
		return resp.Reply{}, err
	}
	r, err := c.read()
	if err != nil {
		return r, err
	}
	if err := r.Err(); err != nil {
		return r, c.fail(args[0], err)
	}
	return r, nil
}

// passing tells whether an error may be gone in a moment: the side is down, starting, or choosing a master.
func passing(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if e, ok := errors.AsType[*resp.ServerError](err); ok {
		return hasPrefix(e, "LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY", "NOREPLICAS")
	}
	if hasPrefix(err, "LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY") { // as the client library has them
		return true
	}
	if e, ok := errors.AsType[*sideError](err); ok {
		var perr *resp.ProtocolError
		return !errors.As(e.err, &perr) && !refused(e.err)
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, topology.ErrUnreachable)
}
