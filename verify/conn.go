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
	timeout    time.Duration // of one reply to the client library
}

const (
	// silence is how long a server may send nothing while an answer is awaited.
	silence = 30 * time.Second
	// largestBurst and smallestBurst bound what a reader may take at once where there is a rate.
	largestBurst, smallestBurst = 64 << 10, 1 << 10
	// pieceReplyBytes is about what the answer to one piece of a large value holds.
	pieceReplyBytes = 8 << 20
	// bulkBytes is the least limit of one bulk reply.
	bulkBytes = 16 << 20
)

func newMeter(bytesPerSecond int) *meter {
	m := &meter{timeout: silence}
	if bytesPerSecond > 0 {
		m.limit = rate.NewLimiter(rate.Limit(bytesPerSecond), min(max(bytesPerSecond/20, smallestBurst), largestBurst))
		m.timeout += time.Duration(float64(pieceReplyBytes) / float64(bytesPerSecond) * float64(time.Second))
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
	if c.m.limit != nil && len(p) > c.m.limit.Burst() {
		p = p[:c.m.limit.Burst()]
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
	side *side
	addr string

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
	over atomic.Bool // the context has ended
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
	c.stop = context.AfterFunc(ctx, c.expire)
	return c, nil
}

// expire makes all that is done on the connection end at once.
func (c *conn) expire() {
	c.over.Store(true)
	_ = c.net.SetDeadline(time.Unix(1, 0))
}

// extend gives the server time again. It is called while expire may be:
//
//  1. extend sets a deadline in the future behind that of expire
//  2. it finds over set, which expire does first, and puts that right
func (c *conn) extend() error {
	err := c.net.SetDeadline(time.Now().Add(silence))
	if c.over.Load() {
		_ = c.net.SetDeadline(time.Unix(1, 0))
	}
	return err
}

// Read gives the server time for each read, not for a whole answer: how long that takes depends on the rate.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	return c.net.Read(p)
}

// give takes a connection back. Whoever has not read all answers, or met an error, must say so.
func (n *node) give(c *conn, clean bool) {
	if !c.stop() || !clean {
		_ = c.net.Close()
		if !c.over.Load() {
			n.close() // what is idle has most likely died of the same
		}
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
	c := &conn{node: n, db: db, net: raw}
	c.in = resp.NewReplyReader(c, resp.Config{MaxBulkBytes: int(max(2*n.side.largeBytes, bulkBytes))})
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
	c.stop = context.AfterFunc(ctx, c.expire)
	defer func() { c.stop() }()
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

// Commands of one key, up to the key: most of what is asked.
var (
	askDump       = upToKey("DUMP")
	askMemory     = upToKey("MEMORY", "USAGE")
	askType       = upToKey("TYPE")
	askExists     = upToKey("EXISTS")
	askExpireTime = upToKey("PEXPIRETIME")
	askTTL        = upToKey("PTTL")
)

func upToKey(words ...string) string {
	b := resp.AppendArrayHeader(nil, len(words)+1)
	for _, w := range words {
		b = resp.AppendBulkString(b, w)
	}
	return string(b)
}

// addKey puts a command of one key into the next batch.
func (c *conn) addKey(upToKey, key string) {
	c.out = append(c.out, upToKey...)
	c.out = resp.AppendBulkString(c.out, key)
}

// send writes the batch.
func (c *conn) send() error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.extend(); err != nil {
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
	if e := cause(err); fromServer(e) {
		return hasPrefix(e, "LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY", "NOREPLICAS", "ERR max number of clients")
	}
	if _, ok := errors.AsType[*resp.ProtocolError](err); ok {
		return false
	}
	_, ours := errors.AsType[*sideError](err)
	_, network := errors.AsType[net.Error](err)
	return ours || network || errors.Is(err, errNoOwner) || errors.Is(err, topology.ErrUnreachable)
}
