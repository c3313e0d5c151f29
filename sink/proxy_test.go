package sink

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy is a network between a sink and one server of its target: it can hold back what the sink sends, and call somebody when
// certain bytes come by.
type proxy struct {
	ln net.Listener
	to string

	mu      sync.Mutex
	open    chan struct{} // closed unless bytes are held back
	from    string        // and then those from this word on
	waiting map[net.Conn][]byte
	ended   map[net.Conn]bool // by the server
	refused int               // pieces that were held back until the server had ended the connection
	trap    *trap
	// expected is what a trap waits for, answers what came back since, arrived is closed when it has.
	expected string
	answers  []byte
	arrived  chan struct{}
}

// trap springs when a word has come by so many times; of the piece that has it a part is passed on, and then the connection
// is cut.
type trap struct {
	word  string
	count int
	part  float64
	fn    func()
	// after is called before the cut, when this has come back behind the part.
	answer string
	after  func()
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	w := &proxy{ln: ln, to: to, open: make(chan struct{}), waiting: map[net.Conn][]byte{}, ended: map[net.Conn]bool{}}
	close(w.open)
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
	return w
}

// proxies puts one before each master of the target, and returns the map of addresses that leads through them.
func (r *rig) proxies() (all []*proxy, addresses map[string]string) {
	r.Helper()
	addresses = map[string]string{}
	for _, n := range r.target.Masters() {
		w := newProxy(r.TB, n.Addr())
		all = append(all, w)
		addresses[n.Addr()] = w.ln.Addr().String()
	}
	return all, addresses
}

// carry serves one connection until either side ends it.
func (w *proxy) carry(client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() { // ends with the server's side
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ended[server] = true
			client.Close()
		}()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if n > 0 {
				if _, err := client.Write(buf[:n]); err != nil {
					return
				}
				w.answered(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if n > 0 && !w.pass(server, buf[:n]) {
			return
		}
		if err != nil {
			return
		}
	}
}

// pass delivers a piece to the server, when it may.
func (w *proxy) pass(server net.Conn, piece []byte) bool {
	w.mu.Lock()
	open := w.open
	held := false
	select {
	case <-open:
	default:
		if held = bytes.Contains(piece, []byte(w.from)); held {
			w.waiting[server] = bytes.Clone(piece)
		}
	}
	part := len(piece)
	var spring, after func()
	var arrived chan struct{}
	if t := w.trap; t != nil {
		if t.count -= bytes.Count(piece, []byte(t.word)); t.count <= 0 {
			w.trap, spring, after, part = nil, t.fn, t.after, int(t.part*float64(len(piece)))
			if after != nil {
				arrived = make(chan struct{})
				w.expected, w.answers, w.arrived = t.answer, nil, arrived
			}
		}
	}
	w.mu.Unlock()
	if held {
		<-open
	}
	if spring != nil {
		spring()
	}
	_, err := server.Write(piece[:part])
	if after != nil {
		<-arrived
		after()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, server)
	if held && w.ended[server] {
		w.refused++
	}
	return err == nil && part == len(piece)
}

// answered looks for what a trap waits for in what has come back.
func (w *proxy) answered(piece []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.arrived == nil {
		return
	}
	if w.answers = append(w.answers, piece...); bytes.Contains(w.answers, []byte(w.expected)) {
		close(w.arrived)
		w.arrived = nil
	}
}

// hold holds back what is sent from now on, on each connection from the first piece with a word on.
func (w *proxy) hold(word string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open, w.from = make(chan struct{}), word
}

// release delivers what was held back.
func (w *proxy) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.open)
}

// holds tells whether a word is in what is held back.
func (w *proxy) holds(word string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.waiting {
		if strings.Contains(string(b), word) {
			return true
		}
	}
	return false
}

// set sets a trap.
func (w *proxy) set(t *trap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trap = t
}
