package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// server is a fake Redis of version 7.0, the master of a shard. A deployment has one per shard at a time: its replica
// is the promise of another one, see deployment.failOver.
type server struct {
	d    *deployment
	id   string // of the node
	addr string
	// Fixed for the life of the server.
	slots slot.Range
	ln    *listener
	wg    sync.WaitGroup

	mu      sync.Mutex
	data    *engine
	hist    history
	clients map[int64]*client
	lastID  int64
	stopped bool
	down    chan struct{} // closed when it stops
	// refuse, if set, answers every command in its place, or every write.
	refuse, refuseWrites string
	// unknown are commands that nobody has taught it.
	unknown map[string]bool
	rng     *rand.Rand
	// bySlot has the keys of each slot as of an offset.
	bySlot   map[slot.Slot][]string
	bySlotAt int64
}

// client is a connection as its server sees it.
type client struct {
	s      *server
	id     int64
	name   string
	nc     net.Conn
	multi  bool
	dirty  bool // the transaction holds a command that was refused
	queued [][][]byte
	asking bool
	acked  chan struct{} // of a replica: closed with its first acknowledgement
	once   sync.Once
	// killed: what it sends is discarded.
	killed bool
}

func newServer(d *deployment, id, addr string, slots slot.Range, data *engine, h history) *server {
	s := &server{d: d, id: id, addr: addr, slots: slots, data: data, hist: h, clients: map[int64]*client{}, unknown: map[string]bool{}, down: make(chan struct{})}
	s.rng = rand.New(rand.NewPCG(d.seed, uint64(len(addr))))
	s.hist.changed = make(chan struct{})
	data.passive = false
	data.gone = func(key string) { s.propagate([][]byte{[]byte("DEL"), []byte(key)}) }
	return s
}

// start listens. What is connected to ends with stop.
func (s *server) start() {
	s.ln = s.d.net.listen(s.addr)
	s.wg.Go(func() {
		for {
			nc, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.lastID++
			c := &client{s: s, id: s.lastID, nc: nc, acked: make(chan struct{})}
			s.clients[c.id] = c
			s.mu.Unlock()
			s.wg.Go(c.serve)
		}
	})
}

// stop is a kill: connections break, nothing more is answered.
func (s *server) stop() {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	s.stopped = true
	close(s.down)
	s.hist.notify()
	s.mu.Unlock()
	_ = s.ln.Close()
	s.d.net.cut(to(s.addr))
	s.mu.Lock()
	for _, c := range s.clients {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// write is what a local client does, unless the server is down.
func (s *server) write(commands ...[][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.transact(commands)
	}
}

// transact carries commands out, as one transaction if there are several, and propagates what changed something.
func (s *server) transact(commands [][][]byte) (replies [][]byte) {
	var effects [][][]byte
	gone := s.data.gone
	s.data.gone = func(key string) { effects = append(effects, [][]byte{[]byte("DEL"), []byte(key)}) }
	for _, args := range commands {
		reply, changed := s.command(args)
		if changed {
			effects = append(effects, args)
		}
		replies = append(replies, reply)
	}
	s.data.gone = gone
	if len(effects) > 1 {
		s.propagate([][]byte{[]byte("MULTI")})
	}
	for _, args := range effects {
		s.propagate(args)
	}
	if len(effects) > 1 {
		s.propagate([][]byte{[]byte("EXEC")})
	}
	return replies
}

func (s *server) command(args [][]byte) (reply []byte, changed bool) {
	switch strings.ToUpper(string(args[0])) {
	case "FLUSHALL", "FLUSHDB":
		clear(s.data.keys)
		return resp.AppendSimple(nil, "OK"), true
	case "SCAN":
		return s.scan(args), false
	case "DBSIZE":
		return resp.AppendInt(nil, int64(len(s.data.keys))), false
	case "SELECT":
		return resp.AppendSimple(nil, "OK"), false
	}
	reply, changed, ok := s.data.do(args)
	if !ok {
		s.unknown[strings.ToUpper(string(bytes.Join(args[:min(2, len(args))], []byte(" "))))] = true
		return resp.AppendError(nil, fmt.Sprintf("ERR unknown command '%s'", args[0])), false
	}
	return reply, changed
}

// scan answers all keys at once.
func (s *server) scan(args [][]byte) []byte {
	out := resp.AppendArrayHeader(nil, 2)
	out = resp.AppendBulkString(out, "0")
	var keys []string
	for k := range s.data.keys {
		if s.data.get(k) != nil {
			keys = append(keys, k)
		}
	}
	_ = args
	slices.Sort(keys)
	out = resp.AppendArrayHeader(out, len(keys))
	for _, k := range keys {
		out = resp.AppendBulkString(out, k)
	}
	return out
}
