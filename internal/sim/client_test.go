package sim

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// serve reads commands until the connection ends.
func (c *client) serve() {
	defer func() {
		_ = c.nc.Close()
		c.s.mu.Lock()
		delete(c.s.clients, c.id)
		c.s.mu.Unlock()
	}()
	rd := resp.NewReader(c.nc, resp.Config{})
	var out []byte
	for {
		cmd, err := rd.ReadCommand()
		if err != nil {
			if !errors.Is(err, io.EOF) && len(out) > 0 {
				_, _ = c.nc.Write(out)
			}
			return
		}
		args := make([][]byte, len(cmd.Args))
		for i, a := range cmd.Args {
			args[i] = slices.Clone(a)
		}
		if isWord(args[0], "PSYNC") {
			c.s.wg.Go(func() { c.replicate(args) })
			continue
		}
		c.s.mu.Lock() // never held while anything is waited for
		if c.s.stopped || c.killed {
			c.s.mu.Unlock()
			return
		}
		out = append(out, c.handle(args)...)
		c.s.mu.Unlock()
		if rd.Buffered() == 0 && len(out) > 0 {
			if _, err := c.nc.Write(out); err != nil {
				return
			}
			out = nil
		}
	}
}

// handle answers one command. The server's lock is held.
func (c *client) handle(args [][]byte) []byte {
	if len(args) == 2 && string(args[0]) == "GET" && !c.multi && c.s.refuse == "" && c.s.data.keys[string(args[1])] == nil && c.elsewhere(args) == "" {
		return nullReply // a sink asks for its own key of every slot, and has few
	}
	name := strings.ToUpper(string(args[0]))
	if name == "REPLCONF" {
		if isWord(args[1], "ACK") {
			c.once.Do(func() { close(c.acked) })
			return nil
		}
		return resp.AppendSimple(nil, "OK")
	}
	if c.s.refuse != "" {
		return resp.AppendError(nil, c.s.refuse)
	}
	switch name {
	case "MULTI":
		c.multi, c.dirty, c.queued = true, false, nil
		return resp.AppendSimple(nil, "OK")
	case "DISCARD":
		c.multi = false
		return resp.AppendSimple(nil, "OK")
	case "EXEC":
		return c.exec()
	case "ASKING":
		c.asking = true
		return resp.AppendSimple(nil, "OK")
	}
	line := c.elsewhere(args)
	if line == "" && keyCommands[name].write {
		line = c.s.refuseWrites
	}
	if line != "" {
		c.dirty = true
		return resp.AppendError(nil, line)
	}
	if c.multi {
		c.queued = append(c.queued, args)
		return resp.AppendSimple(nil, "QUEUED")
	}
	if reply := c.administer(name, args); reply != nil {
		return reply
	}
	return c.s.transact([][][]byte{args})[0]
}

// elsewhere is the redirection for a key of a slot that is served by another.
func (c *client) elsewhere(args [][]byte) string {
	if c.s.d.single {
		return ""
	}
	if c.s.slots.Len() == slot.Count {
		return ""
	}
	for _, k := range keysOf(args) {
		s := slot.Of(k)
		if s < c.s.slots.First || s > c.s.slots.Last {
			return fmt.Sprintf("MOVED %d %s", s, c.s.d.addrOf(s))
		}
	}
	return ""
}

var nullReply = resp.AppendNull(nil)

func (c *client) exec() []byte {
	if !c.multi {
		return resp.AppendError(nil, "ERR EXEC without MULTI")
	}
	c.multi = false
	if c.dirty {
		return resp.AppendError(nil, "EXECABORT Transaction discarded because of previous errors.")
	}
	out := resp.AppendArrayHeader(nil, len(c.queued))
	for _, r := range c.s.transact(c.queued) {
		out = append(out, r...)
	}
	return out
}

// administer answers what is about the server or the connection; nil for anything else.
func (c *client) administer(name string, args [][]byte) []byte {
	sub := ""
	if len(args) > 1 {
		sub = strings.ToUpper(string(args[1]))
	}
	switch name {
	case "PING":
		return resp.AppendSimple(nil, "PONG")
	case "SELECT", "AUTH", "READONLY", "WAIT":
		return resp.AppendSimple(nil, "OK")
	case "TIME":
		now := time.Now()
		out := resp.AppendArrayHeader(nil, 2)
		out = resp.AppendBulkInt(out, now.Unix())
		return resp.AppendBulkInt(out, int64(now.Nanosecond()/1000))
	case "INFO":
		return resp.AppendBulkString(nil, c.s.info())
	case "CLIENT":
		return c.client(sub, args)
	case "CLUSTER":
		return c.cluster(sub, args)
	}
	return nil
}

func (c *client) client(sub string, args [][]byte) []byte {
	s := c.s
	switch sub {
	case "SETNAME":
		c.name = string(args[2])
		return resp.AppendSimple(nil, "OK")
	case "ID":
		return resp.AppendInt(nil, c.id)
	case "LIST":
		var b strings.Builder
		for _, id := range slices.Sorted(maps.Keys(s.clients)) {
			fmt.Fprintf(&b, "id=%d addr=sim name=%s db=0\n", id, s.clients[id].name)
		}
		return resp.AppendBulkString(nil, b.String())
	case "KILL":
		id, _ := strconv.ParseInt(string(args[3]), 10, 64)
		victim := s.clients[id]
		if victim == nil {
			return resp.AppendInt(nil, 0)
		}
		victim.killed = true
		go victim.nc.Close() // ends at once
		return resp.AppendInt(nil, 1)
	}
	return resp.AppendSimple(nil, "OK")
}

func (c *client) cluster(sub string, args [][]byte) []byte {
	if c.s.d.single {
		return resp.AppendError(nil, "ERR This instance has cluster support disabled")
	}
	switch sub {
	case "NODES":
		return resp.AppendBulkString(nil, c.s.d.nodes(c.s))
	case "MYID":
		return resp.AppendBulkString(nil, c.s.id)
	case "COUNTKEYSINSLOT":
		return resp.AppendInt(nil, int64(len(c.s.keysIn(args[2]))))
	case "GETKEYSINSLOT":
		keys := c.s.keysIn(args[2])
		out := resp.AppendArrayHeader(nil, len(keys))
		for _, k := range keys {
			out = resp.AppendBulkString(out, k)
		}
		return out
	}
	return resp.AppendError(nil, "ERR unknown subcommand '"+sub+"'")
}

// keysIn are the keys of a slot.
func (s *server) keysIn(number []byte) (keys []string) {
	n, _ := parseInt(number)
	if s.bySlot == nil || s.bySlotAt != s.hist.end() {
		s.bySlot, s.bySlotAt = map[slot.Slot][]string{}, s.hist.end()
		for _, k := range slices.Sorted(maps.Keys(s.data.keys)) {
			at := slot.Of([]byte(k))
			s.bySlot[at] = append(s.bySlot[at], k)
		}
	}
	return s.bySlot[slot.Slot(n)]
}

func (s *server) info() string {
	var b strings.Builder
	mode := "cluster"
	if s.d.single {
		mode = "standalone"
	}
	fmt.Fprintf(&b, "# Server\r\nredis_version:7.0.15\r\nredis_mode:%s\r\nrun_id:%s\r\n", mode, s.id)
	fmt.Fprintf(&b, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n")
	old := s.hist.old
	if old == "" {
		old = strings.Repeat("0", 40)
	}
	fmt.Fprintf(&b, "master_replid:%s\r\nmaster_replid2:%s\r\nmaster_repl_offset:%d\r\nsecond_repl_offset:%d\r\n",
		s.hist.id, old, s.hist.end(), s.hist.second)
	if n := len(s.data.keys); n > 0 {
		fmt.Fprintf(&b, "# Keyspace\r\ndb0:keys=%d,expires=0,avg_ttl=0\r\n", n)
	}
	return b.String()
}
