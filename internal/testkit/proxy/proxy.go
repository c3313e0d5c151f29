package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
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

const maxFrameBytes = 128 << 20

// Proxy listens on a port and passes on to one broker. Its methods may be called from any goroutine.
type Proxy struct {
	door
	judge    func(apiKey int16) Fate // under mu, as released is
	released chan struct{}
}

// Listen opens a proxy on 127.0.0.1:port to the broker at target. It connects to it until ctx ends.
func Listen(ctx context.Context, port int, target string) (*Proxy, error) {
	p := &Proxy{released: make(chan struct{})}
	if err := p.open(ctx, port, target, p.carry); err != nil {
		return nil, err
	}
	return p, nil
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

func (p *Proxy) carry(client, broker net.Conn) {
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
