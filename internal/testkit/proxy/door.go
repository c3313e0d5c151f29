package proxy

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

const dialTimeout = 5 * time.Second

// door is what all proxies share: a port, the server behind it, and the connections between.
type door struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // both sides; nil after Close
	down  bool
}

// open listens on 127.0.0.1:port and has carry serve each connection until either side ends it. It connects to the target
// until ctx ends.
func (d *door) open(ctx context.Context, port int, target string, carry func(client, server net.Conn)) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("open proxy to %s: %w", target, err)
	}
	d.listener, d.target, d.conns = l, target, map[net.Conn]bool{}
	d.wg.Go(func() { d.accept(ctx, carry) }) // ends with the listener
	return nil
}

// Addr returns host:port.
func (d *door) Addr() string { return d.listener.Addr().String() }

// Close cuts everything and waits for all goroutines.
func (d *door) Close() error {
	err := d.listener.Close()
	d.Cut()
	d.mu.Lock()
	d.conns = nil
	d.mu.Unlock()
	d.wg.Wait()
	return err
}

// Cut ends all connections. New ones may come.
func (d *door) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.Close()
	}
}

// Down cuts all connections and lets no new one through, until it is called with false.
func (d *door) Down(down bool) {
	d.mu.Lock()
	d.down = down
	d.mu.Unlock()
	if down {
		d.Cut()
	}
}

func (d *door) accept(ctx context.Context, carry func(client, server net.Conn)) {
	for {
		c, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.wg.Go(func() { d.serve(ctx, c, carry) }) // ends with its connections
	}
}

func (d *door) serve(ctx context.Context, client net.Conn, carry func(client, server net.Conn)) {
	defer client.Close()
	if !d.keep(client) {
		return
	}
	defer d.forget(client)
	server, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", d.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !d.keep(server) {
		return
	}
	defer d.forget(server)
	carry(client, server)
}

// keep remembers a connection so that Cut finds it.
func (d *door) keep(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil || d.down {
		return false
	}
	d.conns[c] = true
	return true
}

func (d *door) forget(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}
