package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
)

// conn is a connection of one partition to one node of the target. It belongs to the partition's goroutine; its own
// goroutine does nothing but write what is large, so that a batch larger than both socket buffers cannot stand still: we
// would wait for the server to read, and the server for us to read its answers.
type conn struct {
	addr string
	nc   net.Conn
	rd   *resp.ReplyReader
	// out hands the writer the bytes of one batch; bound 1, because the next batch waits for all answers of the last.
	out     chan net.Buffers
	written chan struct{} // closed when the writer has ended
	used    time.Time
	broken  bool
	silence time.Duration // how long the server may take
	parcel  *parcel       // gathered for the next round
	// tried are the databases that were selected here without an error.
	tried map[uint32]bool
}

// dialConn connects, authenticates, proves that transactions are allowed, and names the connection.
func (s *Sink) dialConn(ctx context.Context, addr, name string) (*conn, error) {
	nc, err := s.dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("connect to target: %w", err)
	}
	c := &conn{
		addr: addr, nc: nc, out: make(chan net.Buffers, 1), written: make(chan struct{}), used: time.Now(),
		rd: resp.NewReplyReader(&patientReader{nc, s.cfg.ReplyTimeout}, resp.Config{}), silence: s.cfg.ReplyTimeout,
	}
	go c.write() // ends when out is closed, by close
	if err := c.handshake(s.cfg.Dialer, name, s.cfg.Databases.home()); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// patientReader gives each read of the socket its own deadline: an answer may be large and slow, silence may not.
type patientReader struct {
	nc      net.Conn
	silence time.Duration
}

func (r *patientReader) Read(b []byte) (int, error) {
	if err := r.nc.SetReadDeadline(time.Now().Add(r.silence)); err != nil {
		return 0, err
	}
	return r.nc.Read(b)
}

func (c *conn) write() {
	defer close(c.written)
	for bufs := range c.out {
		err := c.nc.SetWriteDeadline(time.Now().Add(c.silence))
		if err == nil {
			_, err = bufs.WriteTo(c.nc)
		}
		if err != nil {
			c.nc.Close() // wakes the reader
			for range c.out {
			}
			return
		}
	}
}

// close drops the connection and waits for its writer.
func (c *conn) close() {
	c.broken = true
	c.nc.Close()
	close(c.out)
	<-c.written
}

func (c *conn) handshake(d *topology.Dialer, name string, home uint32) error {
	var req request
	switch {
	case d.Username != "":
		req.add("AUTH", d.Username, d.Password)
	case d.Password != "":
		req.add("AUTH", d.Password)
	}
	req.add("CLIENT", "SETNAME", name)
	// Without the right to MULTI the commands behind it would be executed one by one, without their checkpoint.
	req.add("MULTI")
	req.add("EXEC")
	if home != 0 {
		req.add("SELECT", itoa(int64(home)))
	}
	err := c.do(&req, func(i int, r resp.Reply) error { return r.Err() })
	if reply, ok := errors.AsType[*resp.ServerError](err); ok && judge(reply.Text) == refused {
		return classed(Stop, "open connection to target %s: %w (%s)", c.addr, err, refusedHint(reply.Text))
	}
	return err
}

// request is a run of commands and the number of their answers.
type request struct {
	buf []byte
	n   int
}

func (q *request) add(args ...string) {
	q.buf = resp.AppendCommand(q.buf, args...)
	q.n++
}

func (q *request) addBytes(args ...[]byte) {
	q.buf = resp.AppendCommandBytes(q.buf, args...)
	q.n++
}

// info asks for INFO, or a section of it; nothing where that may not be asked.
func (c *conn) info(section ...string) (info topology.Info, err error) {
	var q request
	q.add(append([]string{"INFO"}, section...)...)
	err = c.do(&q, func(_ int, r resp.Reply) error {
		if r.Kind != resp.KindError {
			info = topology.ParseInfo(string(r.Str))
		}
		return nil
	})
	return info, err
}

// do sends a request and hands every answer to fn. The first error of fn is returned after all answers have been read.
func (c *conn) do(q *request, fn func(i int, r resp.Reply) error) error {
	if q.n == 0 {
		return nil
	}
	c.send(net.Buffers{q.buf})
	var first error
	for i := range q.n {
		r, err := c.read()
		if err != nil {
			return err
		}
		if err := fn(i, r); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// atOnceBytes fit into the socket's buffer, since the answers to all that was sent before are here.
const atOnceBytes = 64 << 10

// send writes commands. The answers to all that was sent before are here: what is small does not wait for the writer.
func (c *conn) send(bufs net.Buffers) {
	if len(bufs) == 1 && len(bufs[0]) <= atOnceBytes {
		c.used = time.Now()
		if err := c.writeNow(bufs[0]); err != nil {
			c.nc.Close() // the reader meets it
		}
		return
	}
	c.sendMore(bufs)
}

// sendMore writes what may stand within a command, behind all that was sent before.
func (c *conn) sendMore(bufs net.Buffers) {
	c.used = time.Now()
	c.out <- slices.Clone(bufs) // the writer takes from it
}

// writeNow writes within the time that an answer may take: nobody else would notice that nothing goes out.
func (c *conn) writeNow(b []byte) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.silence)); err != nil {
		return err
	}
	_, err := c.nc.Write(b)
	return err
}

func (c *conn) read() (resp.Reply, error) {
	r, err := c.rd.Read()
	if err != nil {
		c.broken = true
		return r, fmt.Errorf("%w: read reply of %s: %w", errLostConn, c.addr, err)
	}
	return r, nil
}

// readEach is read, for an array of any length.
func (c *conn) readEach(fn func(i int, r resp.Reply)) (resp.Reply, error) {
	r, err := c.rd.ReadEach(fn)
	if err != nil {
		c.broken = true
		return r, fmt.Errorf("%w: read reply of %s: %w", errLostConn, c.addr, err)
	}
	return r, nil
}

// clientName is what a connection calls itself.
func clientName(sink string, partition int32, epoch int64) string {
	return clientPrefix(sink, partition) + strconv.FormatInt(epoch, 10)
}

func clientPrefix(sink string, partition int32) string {
	return "redriver." + sink + "." + strconv.Itoa(int(partition)) + "."
}

// isClientOf tells whether a connection's name is of that sink and partition: the prefix, then digits and nothing else, so
// that a sink called "a" never takes the connections of one called "a.1" for its own.
func isClientOf(name, sink string, partition int32) bool {
	prefix := clientPrefix(sink, partition)
	if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
		return false
	}
	for _, c := range name[len(prefix):] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
