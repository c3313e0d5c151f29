package proxy

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	pieceBytes = 16 << 10
	// pieceN bounds what is on its way in one direction, as the buffers of a network do.
	pieceN = 64
)

// Wire listens on a port and passes bytes on to one server of any kind, slowly if it is told to. Its methods may be called
// from any goroutine.
type Wire struct {
	door
	latency        time.Duration // under mu, as all below
	bytesPerSecond int
	passing        chan struct{} // closed unless everything is held
}

// Stretch opens a wire on 127.0.0.1:port to the server at target. It connects to it until ctx ends.
func Stretch(ctx context.Context, port int, target string) (*Wire, error) {
	w := &Wire{passing: make(chan struct{})}
	close(w.passing)
	if err := w.open(ctx, port, target, w.carry); err != nil {
		return nil, err
	}
	return w, nil
}

// Slow delays every byte, and lets only so many pass in a second, in each direction of each connection; 0: no such limit.
func (w *Wire) Slow(latency time.Duration, bytesPerSecond int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latency, w.bytesPerSecond = latency, bytesPerSecond
}

// Hold lets nothing pass, and ends nothing: both sides believe that the other is there. What was held passes when it is
// called with false, also behind the end of the side that sent it.
func (w *Wire) Hold(hold bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.passing:
		if hold {
			w.passing = make(chan struct{})
		}
	default:
		if !hold {
			close(w.passing)
		}
	}
}

// Close cuts everything and waits for all goroutines.
func (w *Wire) Close() error {
	w.Slow(0, 0)
	w.Hold(false)
	return w.door.Close()
}

func (w *Wire) carry(client, server net.Conn) {
	var back sync.WaitGroup
	back.Go(func() { w.pass(client, server) }) // ends with either connection
	w.pass(server, client)
	back.Wait()
}

type piece struct {
	bytes []byte
	sent  time.Time
}

// pass carries one direction.
func (w *Wire) pass(to, from net.Conn) {
	defer to.Close()
	way := make(chan piece, pieceN)
	var sender sync.WaitGroup
	sender.Go(func() { // ends with the connection it reads from
		defer close(way)
		for {
			b := make([]byte, pieceBytes)
			n, err := from.Read(b)
			if n > 0 {
				way <- piece{b[:n], time.Now()}
			}
			if err != nil {
				return
			}
		}
	})
	for p := range way {
		w.wait(p)
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	from.Close() // the sender has nobody left
	for range way {
	}
	sender.Wait()
}

func (w *Wire) wait(p piece) {
	w.mu.Lock()
	latency, rate, passing := w.latency, w.bytesPerSecond, w.passing
	w.mu.Unlock()
	time.Sleep(time.Until(p.sent.Add(latency))) //nolint:forbidigo // it is the delay that was asked for
	if rate > 0 {
		time.Sleep(time.Duration(len(p.bytes)) * time.Second / time.Duration(rate)) //nolint:forbidigo // as above
	}
	<-passing
}
