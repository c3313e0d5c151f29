package proxy_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit/proxy"
)

// broker answers every request with its correlation id, and counts them.
func broker(t *testing.T) (addr string, served *atomic.Int64) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	served = &atomic.Int64{}
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with its connection
				defer c.Close()
				request := make([]byte, 12)
				for {
					if _, err := io.ReadFull(c, request); err != nil {
						return
					}
					served.Add(1)
					if _, err := c.Write(append([]byte{0, 0, 0, 4}, request[8:]...)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), served
}

type client struct {
	t *testing.T
	net.Conn
}

func (c client) send(apiKey int16, correlation uint32) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, 8)
	b = binary.BigEndian.AppendUint16(b, uint16(apiKey))
	b = binary.BigEndian.AppendUint16(b, 0)
	if _, err := c.Write(binary.BigEndian.AppendUint32(b, correlation)); err != nil {
		c.t.Fatal(err)
	}
}

// answer returns the correlation id of the next answer, 0 if the connection is cut.
func (c client) answer() uint32 {
	c.t.Helper()
	b := make([]byte, 8)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		return 0
	}
	return binary.BigEndian.Uint32(b[4:])
}

func TestFates(t *testing.T) {
	t.Parallel()
	addr, served := broker(t)
	p, err := proxy.Listen(t.Context(), 0, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dial := func() client {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return client{t, c}
	}
	for _, c := range []struct {
		name   string
		fate   proxy.Fate
		served int64
	}{{"lose", proxy.Lose, 1}, {"lose the answer", proxy.LoseAnswer, 2}} {
		served.Store(0)
		met := p.Once(proxy.EndTxn, c.fate)
		conn := dial()
		conn.send(proxy.Produce, 7)
		if got := conn.answer(); got != 7 {
			t.Errorf("%s: an answer to another request: %d", c.name, got)
		}
		conn.send(proxy.EndTxn, 8)
		if got := conn.answer(); got != 0 {
			t.Errorf("%s: answer %d", c.name, got)
		}
		<-met
		if n := served.Load(); n != c.served {
			t.Errorf("%s: the broker served %d requests, want %d", c.name, n, c.served)
		}
	}

	met := p.Once(proxy.EndTxn, proxy.Hold)
	conn := dial()
	conn.send(proxy.EndTxn, 9)
	<-met
	p.Release()
	if got := conn.answer(); got != 9 {
		t.Errorf("held: answer %d", got)
	}
	p.Down(true)
	if got := conn.answer(); got != 0 {
		t.Errorf("down: answer %d", got)
	}
	if got := dial().answer(); got != 0 {
		t.Errorf("down: a new connection has answer %d", got)
	}
	p.Down(false)
	conn = dial()
	conn.send(proxy.Produce, 10)
	if got := conn.answer(); got != 10 {
		t.Errorf("up again: answer %d", got)
	}
}

// A wire passes bytes, late if it is told to; what it holds arrives when it is let go, also behind the end of who sent it.
func TestWire(t *testing.T) {
	t.Parallel()
	addr, served := broker(t)
	w, err := proxy.Stretch(t.Context(), 0, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	dial := func() client {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return client{t, conn}
	}

	c := dial()
	c.send(proxy.Produce, 1)
	if got := c.answer(); got != 1 {
		t.Fatalf("answer %d", got)
	}
	const latency = 20 * time.Millisecond
	w.Slow(latency, 0)
	begin := time.Now()
	c.send(proxy.Produce, 2)
	if got := c.answer(); got != 2 || time.Since(begin) < 2*latency {
		t.Errorf("answer %d after %v, want %v in each direction", got, time.Since(begin), latency)
	}
	w.Slow(0, 0)

	w.Hold(true)
	before := served.Load()
	c.send(proxy.Produce, 3)
	c.Close()
	time.Sleep(latency) // in which it could go wrong
	if n := served.Load(); n != before {
		t.Errorf("%d requests passed that were held", n-before)
	}
	w.Hold(false)
	for deadline := time.Now().Add(10 * time.Second); served.Load() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was held does not arrive")
		}
	}

	c = dial()
	c.send(proxy.Produce, 4)
	if got := c.answer(); got != 4 {
		t.Fatalf("answer %d", got)
	}
	w.Cut()
	if c.answer() != 0 {
		t.Error("a connection that was cut is open")
	}
	w.Down(true)
	if dial().answer() != 0 {
		t.Error("a connection is let through")
	}
}
