package sink

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crash ends a sink as kill -9 would: nothing is finished, nothing is written, bytes on their way stay on their way.
func (r *running) crash() {
	r.t.Helper()
	r.mu.Lock()
	g := r.group
	r.mu.Unlock()
	if g != nil {
		g.mu.Lock()
		for _, t := range g.running {
			t.stop()
			t.kill()
		}
		g.mu.Unlock()
	}
	r.cancel()
	<-r.ended
	if r.err != nil {
		r.t.Fatalf("sink ended: %v", r.err)
	}
}

// cut kills all connections of clients at one node of the target.
func (r *rig) cut(rng *rand.Rand) {
	nodes := r.target.Masters()
	n := nodes[rng.IntN(len(nodes))]
	n.Client().ClientKillByFilter(r.Context(), "TYPE", "normal", "SKIPME", "yes")
}

// TestOnce crashes sinks and cuts connections while writes come in; every INCR, APPEND and RPUSH of the source shows what
// was lost, repeated or out of order.
func TestOnce(t *testing.T) {
	t.Parallel()
	testOnce(t, newRig(t, 3, 0))
}

func TestOnceKafka(t *testing.T) {
	t.Parallel()
	testOnce(t, newKafkaRig(t))
}

func testOnce(t *testing.T, r *rig) {
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	faults := rand.New(rand.NewPCG(rng.Uint64(), 2))
	wait, written := r.writing(l, rng, 250, 80, 10*time.Millisecond)
	cfg := r.config()
	cfg.BatchUnits = 50
	s := r.start(cfg)
	crashes, cuts := 0, 0
	for running := true; running; {
		select {
		case <-written:
			running = false
		case <-time.After(time.Duration(faults.IntN(300)) * time.Millisecond):
		}
		if faults.IntN(3) == 0 {
			crashes++
			s.crash()
			s = r.start(cfg)
		} else {
			cuts++
			r.cut(faults)
		}
	}
	wait()
	r.same(s)
	t.Logf("%d crashes, %d cuts", crashes, cuts)
	s.stop()
}

// lateness is shared by the slow connections of a test.
type lateness struct {
	hold  atomic.Bool   // transactions wait from now on until their connection is closed
	held  chan struct{} // tells that one waits
	wrote atomic.Int64  // transactions that were delivered after their connection was closed
}

// slowConn delivers what is written after a while, and also when it is closed meanwhile: a network with buffers.
type slowConn struct {
	net.Conn
	late    *lateness
	mu      sync.Mutex
	pending [][]byte
	closed  chan struct{}
	wake    chan struct{}
}

func newSlowConn(c net.Conn, late *lateness) *slowConn {
	s := &slowConn{Conn: c, late: late, closed: make(chan struct{}), wake: make(chan struct{}, 1)}
	go s.deliver()
	return s
}

func (s *slowConn) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

func (s *slowConn) Write(b []byte) (int, error) {
	if s.isClosed() {
		return 0, net.ErrClosed
	}
	s.mu.Lock()
	s.pending = append(s.pending, append([]byte(nil), b...))
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (s *slowConn) deliver() {
	defer s.Conn.Close()
	for {
		s.mu.Lock()
		var next []byte
		if len(s.pending) > 0 {
			next, s.pending = s.pending[0], s.pending[1:]
		}
		s.mu.Unlock()
		if next == nil {
			select {
			case <-s.wake:
				continue
			case <-s.closed:
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
		writes := bytes.Contains(next, wireExec)
		if writes && s.late.hold.Load() {
			select {
			case s.late.held <- struct{}{}:
			default:
			}
			<-s.closed
		}
		if s.isClosed() {
			// Long enough for a successor to come and read.
			time.Sleep(700 * time.Millisecond)
			if writes {
				s.late.wrote.Add(1)
			}
		}
		if _, err := s.Conn.Write(next); err != nil {
			return
		}
	}
}

func (s *slowConn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isClosed() {
		close(s.closed)
		_ = s.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	return nil
}

func (s *slowConn) SetReadDeadline(t time.Time) error {
	if s.isClosed() {
		return net.ErrClosed
	}
	return s.Conn.SetReadDeadline(t)
}

// TestLateBytes (trap 77): what a dead connection still delivers must not be applied behind its successor's back.
func TestLateBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	late := lateness{held: make(chan struct{}, 1)}
	start := func() *running {
		s := r.prepare(r.config())
		dial := s.dial
		s.dial = func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			return newSlowConn(c, &late), nil
		}
		return r.run(s)
	}
	faults := rand.New(rand.NewPCG(rng.Uint64(), 2))
	wait, written := r.writing(l, rng, 400, 30, 20*time.Millisecond)
	s := start()
	for running := true; running; {
		select {
		case <-written:
			running = false
		case <-time.After(time.Second + time.Duration(faults.IntN(200))*time.Millisecond):
			late.hold.Store(true)
			select {
			case <-written:
			case <-late.held:
			}
		}
		s.crash()
		late.hold.Store(false)
		s = start()
	}
	wait()
	r.same(s)
	t.Logf("%d transactions were delivered late", late.wrote.Load())
	if late.wrote.Load() == 0 {
		t.Error("nothing was late: this test shows nothing")
	}
	s.stop()
}

// writing writes in the background: so many transactions of up to so many units. written is closed at the end.
func (r *rig) writing(l *lane, rng *rand.Rand, commits, units int, pause time.Duration) (wait func(), written chan struct{}) {
	written = make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { // ends after the last transaction
		defer close(written)
		for range commits {
			l.commit(func() {
				for range 1 + rng.IntN(units) {
					l.random(rng)
				}
			})
			time.Sleep(pause)
		}
	})
	return group.Wait, written
}

// deafConn now and then breaks when the answer is there: what was sent is applied, and nobody hears of it.
type deafConn struct {
	net.Conn
	broken func() bool
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.broken() {
		c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestLostReplies (trap 40): applied or not? The checkpoint knows.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	var lost atomic.Int64
	s := r.prepare(r.config())
	dial := s.dial
	var mu sync.Mutex
	faults := rand.New(rand.NewPCG(rng.Uint64(), 2))
	s.dial = func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &deafConn{c, func() bool {
			mu.Lock()
			defer mu.Unlock()
			if faults.IntN(60) > 0 {
				return false
			}
			lost.Add(1)
			return true
		}}, nil
	}
	sink := r.run(s)
	wait, _ := r.writing(l, rng, 200, 60, 10*time.Millisecond)
	wait()
	r.same(sink)
	t.Logf("%d answers were lost", lost.Load())
	sink.stop()
}
