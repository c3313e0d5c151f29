package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// Keys of Kafka's requests (https://kafka.apache.org/protocol#protocol_api_keys).
const (
	Produce int16 = 0
	EndTxn  int16 = 26
)

// Fate is what becomes of a request.
type Fate int

const (
	// Pass it on, and its answer back.
	Pass Fate = iota
	// Lose it: the connection is cut and the broker never hears of it.
	Lose
	// LoseAnswer has the broker carry it out, and cuts the connection in place of the answer.
	LoseAnswer
	// Hold it back until Release or the end of its connection.
	Hold
)

const (
	maxFrameBytes = 128 << 20
	dialTimeout   = 5 * time.Second
)

// Proxy listens on a port and passes on to one broker. Its methods may be called from any goroutine.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]bool // both sides; nil after Close
	down     bool
	judge    func(apiKey int16) Fate
	released chan struct{}
}

// Listen opens a proxy on 127.0.0.1:port to the broker at target. It connects to it until ctx ends.
func Listen(ctx context.Context, port int, target string) (*Proxy, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("open proxy to %s: %w", target, err)
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]bool{}, released: make(chan struct{})}
	p.wg.Go(func() { p.accept(ctx) }) // ends with the listener
	return p, nil
}

// Addr returns host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts everything and waits for all goroutines.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.Cut()
	p.mu.Lock()
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

// Judge sets who decides about requests; nil passes all. It is called from one goroutine per connection.
func (p *Proxy) Judge(judge func(apiKey int16) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge = judge
}

// Once decides about the next request of a kind, and passes all others. The channel is closed when it was met.
func (p *Proxy) Once(apiKey int16, fate Fate) (met <-chan struct{}) {
	done := make(chan struct{})
	var once sync.Once
	p.Judge(func(k int16) Fate {
		if k == apiKey {
			decided := Pass
			once.Do(func() {
				decided = fate
				close(done)
			})
			return decided
		}
		return Pass
	})
	return done
}

// Release passes on what is held.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.released)
	p.released = make(chan struct{})
}

// Cut ends all connections. New ones may come.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Down cuts all connections and lets no new one through, until it is called with false.
func (p *Proxy) Down(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.Cut()
	}
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(ctx, c) }) // ends with its connections
	}
}

// keep remembers a connection so that Cut finds it.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil || p.down {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	if !p.keep(client) {
		return
	}
	defer p.forget(client)
	broker, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer broker.Close()
	if !p.keep(broker) {
		return
	}
	defer p.forget(broker)

	s := &stream{p: p, client: client, broker: broker, lost: map[uint32]bool{}, ended: make(chan struct{})}
	var answers sync.WaitGroup
	answers.Go(func() { // ends with either connection
		s.answers()
		close(s.ended)
		client.Close()
		broker.Close()
	})
	s.requests()
	client.Close()
	broker.Close()
	answers.Wait()
}

// stream is one connection of a client and its other half.
type stream struct {
	p              *Proxy
	client, broker net.Conn
	ended          chan struct{}

	mu   sync.Mutex
	lost map[uint32]bool // correlation ids whose answer is not to arrive
}

// Offsets of a request: length, API key, API version, correlation id; of an answer: length, correlation id.
const (
	lengthBytes   = 4
	requestHead   = 8
	correlationAt = 4
	answerHead    = 4
)

var errFrame = errors.New("not a frame of Kafka")

// frame reads one with its length in front.
func frame(r io.Reader, least int) ([]byte, error) {
	var length [lengthBytes]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrameBytes || n < uint32(least) {
		return nil, errFrame
	}
	b := make([]byte, lengthBytes+n)
	copy(b, length[:])
	_, err := io.ReadFull(r, b[lengthBytes:])
	return b, err
}

func (s *stream) requests() {
	for {
		b, err := frame(s.client, requestHead)
		if err != nil {
			return
		}
		head := b[lengthBytes:]
		s.p.mu.Lock()
		judge, released := s.p.judge, s.p.released
		s.p.mu.Unlock()
		fate := Pass
		if judge != nil {
			fate = judge(int16(binary.BigEndian.Uint16(head)))
		}
		switch fate {
		case Lose:
			return
		case LoseAnswer:
			s.mu.Lock()
			s.lost[binary.BigEndian.Uint32(head[correlationAt:])] = true
			s.mu.Unlock()
		case Hold:
			select {
			case <-released:
			case <-s.ended:
				return
			}
		case Pass:
		}
		if _, err := s.broker.Write(b); err != nil {
			return
		}
	}
}

func (s *stream) answers() {
	for {
		b, err := frame(s.broker, answerHead)
		if err != nil {
			return
		}
		s.mu.Lock()
		lost := s.lost[binary.BigEndian.Uint32(b[lengthBytes:])]
		s.mu.Unlock()
		if lost {
			return
		}
		if _, err := s.client.Write(b); err != nil {
			return
		}
	}
}
