package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
)

// history is a master's replication stream: all of it, since base. What lies before kept is no longer in the backlog.
type history struct {
	id, old string
	second  int64 // the first offset that old does not have
	base    int64
	bytes   []byte
	kept    int64
	changed chan struct{}
	// selected: the stream has selected a database since it got its id.
	selected bool
}

// end is master_repl_offset.
func (h *history) end() int64 { return h.base + int64(len(h.bytes)) }

func (h *history) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// propagate appends a command to the stream. Before the first one of a history a database is selected.
func (s *server) propagate(args [][]byte) {
	if !s.hist.selected {
		s.hist.selected = true
		s.hist.bytes = resp.AppendCommand(s.hist.bytes, "SELECT", "0")
	}
	s.hist.bytes = resp.AppendCommandBytes(s.hist.bytes, args...)
	s.d.follow(s, args)
	s.hist.notify()
}

// keepAlive is what a master sends of its own: PING, or a question for the offset.
func (s *server) keepAlive(ask bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	if ask {
		s.hist.bytes = resp.AppendCommand(s.hist.bytes, "REPLCONF", "GETACK", "*")
	} else {
		s.hist.bytes = resp.AppendCommand(s.hist.bytes, "PING")
	}
	s.hist.notify()
}

// forget empties the backlog.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hist.kept = s.hist.end()
}

// canContinue decides as masterTryPartialResync in redis src/replication.c does. offset is the one asked for.
func (h *history) canContinue(id string, offset int64) bool {
	if id != h.id && (id != h.old || offset > h.second) {
		return false
	}
	return offset > h.kept && offset <= h.end()+1
}

// transfer is how a server sends a snapshot: by the deployment's seed.
type transfer struct {
	diskless bool
	// pause before it begins, with newlines meanwhile.
	pause time.Duration
}

// replicate serves one replica until its connection breaks.
func (c *client) replicate(args [][]byte) {
	s := c.s
	defer c.nc.Close()
	offset, _ := parseInt(args[2])
	s.mu.Lock()
	if s.hist.canContinue(string(args[1]), offset) {
		id := s.hist.id
		s.mu.Unlock()
		if _, err := c.nc.Write([]byte("+CONTINUE " + id + "\r\n")); err == nil {
			c.stream(offset - 1)
		}
		return
	}
	how := s.d.transfer(s.rng)
	s.hist.selected = false // the stream behind a snapshot begins with SELECT
	at, id := s.hist.end(), s.hist.id
	snapshot := s.data.snapshot()
	mark := fmt.Sprintf("%040x", s.rng.Uint64())
	s.mu.Unlock()

	if _, err := fmt.Fprintf(c.nc, "+FULLRESYNC %s %d\r\n", id, at); err != nil {
		return
	}
	for waited := time.Duration(0); waited < how.pause; waited += keepAliveEach {
		time.Sleep(keepAliveEach)
		if _, err := c.nc.Write([]byte("\n")); err != nil {
			return
		}
	}
	if !how.diskless {
		if _, err := fmt.Fprintf(c.nc, "$%d\r\n", len(snapshot)); err != nil {
			return
		}
		if _, err := c.nc.Write(snapshot); err == nil {
			c.stream(at)
		}
		return
	}
	if _, err := c.nc.Write(bytes.Join([][]byte{[]byte("$EOF:" + mark + "\r\n"), snapshot, []byte(mark)}, nil)); err != nil {
		return
	}
	// It goes on when the replica has said that it is ready.
	select {
	case <-c.acked:
		c.stream(at)
	case <-s.down:
	case <-time.After(replTimeout):
	}
}

const (
	keepAliveEach = 200 * time.Millisecond
	replTimeout   = 60 * time.Second
)

// stream sends the history behind an offset as it grows.
func (c *client) stream(at int64) {
	s := c.s
	for {
		s.mu.Lock()
		if s.stopped || c.killed {
			s.mu.Unlock()
			return
		}
		more := s.hist.bytes[at-s.hist.base:]
		changed := s.hist.changed
		s.mu.Unlock()
		if len(more) > 0 {
			if _, err := c.nc.Write(more); err != nil {
				return
			}
			at += int64(len(more))
			continue
		}
		// A connection that breaks is met at the next write: the deployment sends keep-alives.
		<-changed
	}
}

// snapshot writes an RDB.
func (e *engine) snapshot() []byte {
	const (
		opAux, opSelect, opExpire, opEOF = 250, 254, 252, 255
	)
	b := fmt.Appendf(nil, "REDIS%04d", rdbVersion)
	aux := func(k, v string) {
		b = append(b, opAux)
		b = rdb.AppendText(rdb.AppendText(b, []byte(k)), []byte(v))
	}
	aux("redis-ver", "7.0.15")
	aux("ctime", strconv.FormatInt(nowMs()/1000, 10))
	aux("repl-stream-db", "0")
	b = append(b, opSelect, 0)
	var enc rdb.Encoder
	for _, k := range slices.Sorted(maps.Keys(e.keys)) {
		v := e.keys[k]
		if v.expireAt != 0 {
			b = binary.LittleEndian.AppendUint64(append(b, opExpire), uint64(v.expireAt))
		}
		typ, value := v.encode(&enc)
		b = rdb.AppendText(append(b, typ), []byte(k))
		b = append(b, value...)
	}
	b = append(b, opEOF)
	return binary.LittleEndian.AppendUint64(b, rdb.CRC64(0, b))
}
