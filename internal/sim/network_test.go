package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// network is all connections of a run. Addresses are names; nobody listens outside.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	conns     map[*wire]struct{}
	// plan, if set, says what happens to a connection of that host to that address.
	plan func(host, addr string) weather
	// judge, if set, sees the first bytes that are sent to whoever was dialled.
	judge func(w *wire, first []byte)
}

// weather is what a connection meets.
type weather struct {
	latency time.Duration
	// piece bounds what one read returns, of the first choppedBytes of each direction; 0 for all there is. perByte is how
	// long a byte takes.
	piece   int
	perByte time.Duration
	// up counts from whoever dialled, down to them.
	up, down trouble
}

// trouble is what happens behind so many bytes of one direction, if kind is set.
type trouble struct {
	kind  troubleKind
	after int
	// late is how long the bytes behind it are under way (delayed).
	late time.Duration
}

type troubleKind byte

const (
	fine    troubleKind = iota
	cut                 // both ends see it at once; what arrived before may still be read
	silent              // nothing passes any more in either direction, and nobody is told
	delayed             // the rest of this direction arrives later, even when the sender is gone
)

func newNetwork() *network {
	return &network{listeners: map[string]*listener{}, conns: map[*wire]struct{}{}}
}

var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset by peer")
)

// refusedError is a net.Error, as a refused connection is.
type refusedError struct{ addr string }

func (e *refusedError) Error() string   { return fmt.Sprintf("dial %s: %v", e.addr, errRefused) }
func (e *refusedError) Timeout() bool   { return false }
func (e *refusedError) Temporary() bool { return true }

type listener struct {
	n      *network
	addr   string
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

const backlogConns = 1024

func (n *network) listen(addr string) *listener {
	l := &listener{n: n, addr: addr, accept: make(chan net.Conn, backlogConns), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = l
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		if l.n.listeners[l.addr] == l {
			delete(l.n.listeners, l.addr)
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.addr) }

type addr string

func (addr) Network() string  { return "sim" }
func (a addr) String() string { return string(a) }

// host is one process on the network.
type host struct {
	n    *network
	name string
	dead bool // guarded by n.mu
}

func (n *network) host(name string) *host { return &host{n: n, name: name} }

func (h *host) dial(ctx context.Context, _, to string) (net.Conn, error) {
	n := h.n
	n.mu.Lock()
	l := n.listeners[to]
	if h.dead || l == nil {
		n.mu.Unlock()
		return nil, &refusedError{to}
	}
	var w weather
	if n.plan != nil {
		w = n.plan(h.name, to)
	}
	wi := newWire(n, h, to, w)
	n.conns[wi] = struct{}{}
	n.mu.Unlock()
	if w.latency > 0 {
		select {
		case <-time.After(2 * w.latency):
		case <-ctx.Done():
			wi.reset()
			return nil, ctx.Err()
		}
	}
	select {
	case l.accept <- wi.server:
		return wi.client, nil
	case <-l.closed:
		wi.reset()
		return nil, &refusedError{to}
	}
}

// die cuts all connections of the process and lets it open no others.
func (h *host) die() {
	h.n.mu.Lock()
	h.dead = true
	h.n.mu.Unlock()
	h.n.cut(func(w *wire) bool { return w.host == h })
}

// cut resets the connections that are chosen.
func (n *network) cut(which func(*wire) bool) { n.each(which, (*wire).reset) }

func (n *network) each(which func(*wire) bool, do func(*wire)) {
	var hit []*wire
	n.mu.Lock()
	for w := range n.conns {
		if which(w) {
			hit = append(hit, w)
		}
	}
	n.mu.Unlock()
	for _, w := range hit {
		do(w)
	}
}

func (n *network) setPlan(plan func(from, to string) weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.plan = plan
}

func (w *weather) slow() bool { return w.latency > time.Millisecond || w.piece > 0 }

func to(address string) func(*wire) bool { return func(w *wire) bool { return w.addr == address } }

func everyConn(*wire) bool { return true }

// wire is a connection: two pipes and their ends.
type wire struct {
	n              *network
	host           *host
	addr           string
	up, down       *pipe
	client, server net.Conn
	ends           atomic.Int32 // closed
}

func newWire(n *network, h *host, to string, weather weather) *wire {
	w := &wire{n: n, host: h, addr: to}
	w.up, w.down = newPipe(w, weather, weather.up), newPipe(w, weather, weather.down)
	w.client = &end{w: w, in: w.down, out: w.up, local: addr(h.name), remote: addr(to)}
	w.server = &end{w: w, in: w.up, out: w.down, local: addr(to), remote: addr(h.name)}
	return w
}

// reset breaks both directions: what has arrived can be read, all else is lost.
func (w *wire) reset() {
	w.up.fail(errReset)
	w.down.fail(errReset)
	w.forget()
}

func (w *wire) forget() {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	delete(w.n.conns, w)
}

// meet sets the trouble of a direction, from within judge: the lock of up is held.
func (w *wire) meet(up bool, t trouble) {
	if up {
		w.up.trouble = t
		return
	}
	w.down.mu.Lock()
	defer w.down.mu.Unlock()
	w.down.trouble = t
}

// loseAnswers cuts the connection in place of the next bytes that come back to whoever dialled.
func (w *wire) loseAnswers() {
	w.down.mu.Lock()
	defer w.down.mu.Unlock()
	w.down.trouble = trouble{kind: cut}
}

// end is one side's net.Conn.
type end struct {
	w             *wire
	in, out       *pipe
	local, remote net.Addr
	once          sync.Once
}

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }
func (e *end) LocalAddr() net.Addr         { return e.local }
func (e *end) RemoteAddr() net.Addr        { return e.remote }

func (e *end) Close() error {
	e.once.Do(func() {
		e.out.finish()
		e.in.abandon()
		if e.w.ends.Add(1) == 2 {
			e.w.forget()
		}
	})
	return nil
}

func (e *end) SetDeadline(t time.Time) error {
	e.in.deadline(t, true)
	e.out.deadline(t, false)
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.deadline(t, true)
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.deadline(t, false)
	return nil
}

const (
	// choppedBytes of a direction are read in pieces, slowBytes of a slow one arrive at a time.
	choppedBytes = 16 << 10
	slowBytes    = 1000
)

// socketBytes is how much a pipe holds before a writer waits.
const socketBytes = 256 << 10

// pipe is one direction.
type pipe struct {
	w *wire
	weather
	mu       sync.Mutex
	segments []segment
	held     int
	written  int
	taken    int
	trouble  trouble
	mute     bool
	last     time.Time     // when the newest segment arrives
	failed   error         // no more can be written; what has arrived can be read
	ended    bool          // the writer has closed
	gone     bool          // the reader has closed
	changed  chan struct{} // closed at a change, nil if nobody waits
	readBy   time.Time
	writeBy  time.Time
}

type segment struct {
	due  time.Time
	data []byte
}

func newPipe(w *wire, weather weather, t trouble) *pipe {
	return &pipe{w: w, weather: weather, trouble: t}
}

// wait lets go of the lock until something changes or the time has come (zero: never).
func (p *pipe) wait(until time.Time) {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	c := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	if until.IsZero() {
		<-c
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
}

func (p *pipe) notify() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func passed(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.gone:
			return 0, net.ErrClosed
		case passed(p.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		}
		until := p.readBy
		switch {
		case len(p.segments) > 0:
			due := p.segments[0].due
			if !due.After(time.Now()) {
				return p.take(b), nil
			}
			if until.IsZero() || due.Before(until) {
				until = due
			}
		case p.failed != nil:
			return 0, p.failed
		case p.ended:
			return 0, io.EOF
		}
		p.wait(until)
	}
}

// take reads from the first segment.
func (p *pipe) take(b []byte) int {
	s := &p.segments[0]
	if p.piece > 0 && p.taken < choppedBytes {
		b = b[:min(len(b), p.piece)]
	}
	n := copy(b, s.data)
	p.taken += n
	if s.data = s.data[n:]; len(s.data) == 0 {
		p.segments = p.segments[1:]
	}
	p.held -= n
	p.notify()
	return n
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	reset := false
	for n < len(b) || len(b) == 0 {
		switch {
		case p.ended:
			err = net.ErrClosed
		case p.failed != nil:
			err = p.failed
		case p.gone:
			err = errReset
		case passed(p.writeBy):
			err = os.ErrDeadlineExceeded
		}
		if err != nil || len(b) == 0 {
			break
		}
		if p.held >= socketBytes {
			p.wait(p.writeBy)
			continue
		}
		more := b[n:min(len(b), n+socketBytes-p.held)]
		sent, hit := p.send(more)
		n += sent
		if hit {
			reset, err = true, errReset
			break
		}
	}
	p.mu.Unlock()
	if reset {
		p.w.reset()
	}
	return n, err
}

// send puts bytes on their way. hit says that they met a cut.
func (p *pipe) send(b []byte) (n int, hit bool) {
	if judge := p.w.n.judge; judge != nil && p.written == 0 && p == p.w.up {
		judge(p.w, b)
	}
	if t := p.trouble; t.kind != fine && p.written+len(b) >= t.after {
		head := b[:max(0, min(len(b), t.after-p.written))]
		p.put(head)
		p.trouble = trouble{}
		switch t.kind {
		case cut:
			p.failed = errReset // and what is under way arrives
			p.notify()
			return len(head), true
		case silent:
			p.mute = true
			other := p.w.up
			if p == other {
				other = p.w.down
			}
			// The lock of the other direction is never held while one waits for this one: see fail.
			go func() { // ends at once
				other.mu.Lock()
				defer other.mu.Unlock()
				other.mute = true
			}()
		case delayed:
			p.last = time.Now().Add(t.late)
		case fine:
		}
		b = b[len(head):]
		n = len(head)
	}
	p.put(b)
	return n + len(b), false
}

func (p *pipe) put(b []byte) {
	p.written += len(b)
	if p.mute || len(b) == 0 {
		if p.mute {
			p.held += len(b)
		}
		return
	}
	due := time.Now().Add(p.latency)
	if due.Before(p.last) {
		due = p.last
	}
	p.held += len(b)
	b = slices.Clone(b)
	for len(b) > 0 {
		n := len(b)
		if p.perByte > 0 {
			n = min(n, slowBytes)
			due = due.Add(time.Duration(n) * p.perByte)
		}
		p.segments = append(p.segments, segment{due, b[:n]})
		b = b[n:]
	}
	p.last = due
	p.notify()
}

// fail ends the direction: what is still under way is lost.
func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return
	}
	p.failed = err
	for i, s := range p.segments {
		if s.due.After(time.Now()) {
			p.segments = p.segments[:i]
			break
		}
	}
	p.notify()
}

// finish is the writer's close: what is under way arrives.
func (p *pipe) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = !p.mute
	p.notify()
}

// abandon is the reader's close.
func (p *pipe) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.segments, p.held = nil, 0
	p.notify()
}

func (p *pipe) deadline(t time.Time, read bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if read {
		p.readBy = t
	} else {
		p.writeBy = t
	}
	p.notify()
}

// clear is a network in good order.
func clearWeather(string, string) weather { return weather{latency: 100 * time.Microsecond} }

// among returns one of the values.
func among[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }
