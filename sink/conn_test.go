package sink

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

func TestClientNames(t *testing.T) {
	for _, c := range []struct {
		name string
		want bool
	}{
		{"redriver.a.1.7", true},
		{"redriver.a.1.", false},
		{"redriver.a.1.2.3", false}, // partition 2 of a sink called a.1
		{"redriver.a.11.7", false},
		{"redriver.b.1.7", false},
		{"", false},
	} {
		if got := isClientOf(c.name, "a", 1); got != c.want {
			t.Errorf("%q: %v", c.name, got)
		}
	}
	if !isClientOf(clientName("a.1", 2, 3), "a.1", 2) {
		t.Error("our own name is not known")
	}
}

// TestPiecesOfOneCommandKeepTheirOrder: what is given to a connection within a command goes out behind what was given before, however
// slowly that is read, and however short it is.
func TestPiecesOfOneCommandKeepTheirOrder(t *testing.T) {
	near, far := net.Pipe()
	c := &conn{nc: near, out: make(chan net.Buffers, 1), written: make(chan struct{}), silence: time.Minute}
	go c.write() // ends with close
	s := &Sink{}
	s.group = &group{s: s, lease: newLease(time.Hour)}
	s.group.lease.renew(time.Now())
	p := &playback{w: &worker{s: s}, conn: c}
	var want []byte
	given := make(chan error, 1)
	pieces := [][]byte{bytes.Repeat([]byte("a"), 300_000), bytes.Repeat([]byte("b"), 300_000), []byte("the end"), []byte("and more")}
	for _, piece := range pieces {
		want = append(want, piece...)
	}
	go func() { // ends when all is read
		for _, piece := range pieces {
			if err := p.give(context.Background(), net.Buffers{piece}); err != nil {
				given <- err
				return
			}
		}
		given <- nil
	}()
	time.Sleep(20 * time.Millisecond) // the writer stands within the first piece
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if err := <-given; err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("pieces came in another order")
	}
	c.close()
}

// TestPeerThatReadsNothing: what nobody takes within the time of an answer breaks the connection, also within a command, where no
// answer is waited for.
func TestPeerThatReadsNothing(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := &conn{nc: near, out: make(chan net.Buffers, 1), written: make(chan struct{}), silence: 50 * time.Millisecond}
	go c.write() // ends with close
	gave := make(chan struct{})
	go func() { // ends when the connection is given up
		for range 4 {
			c.sendMore(net.Buffers{make([]byte, 300_000)})
		}
		close(gave)
	}()
	select {
	case <-gave:
	case <-time.After(5 * time.Second):
		t.Fatal("it still waits")
	}
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	c.close()
}
