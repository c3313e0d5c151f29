package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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

// ahead sets trouble behind so many bytes more.
func (w *wire) ahead(up bool, t trouble) {
	p := w.down
	if up {
		p = w.up
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.after += p.written
	p.trouble = t
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

// clearWeather is a network in good order.
func clearWeather(string, string) weather { return weather{latency: 100 * time.Microsecond} }

// among returns one of the values.
func among[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }
