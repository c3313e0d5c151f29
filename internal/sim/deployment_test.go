package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redriver/redriver/redis/slot"
)

// deployment is a cluster, or a single server, of fake servers. Each shard has a master that runs and a replica that is
// a copy of its data some commands behind: it runs when it is promoted, under the shard's other address.
type deployment struct {
	net    *network
	name   string
	single bool
	seed   uint64
	// transfer decides how a snapshot is sent.
	transfer func(*rand.Rand) transfer
	// calm: nothing changes any more, not even by the clock.
	calm atomic.Bool

	mu     sync.Mutex
	rng    *rand.Rand
	shards []*simShard
	epoch  int
	stop   chan struct{}
	wg     sync.WaitGroup
}

type simShard struct {
	slots slot.Range
	// master serves, or did so last.
	master *server
	addrs  [2]string
	ids    [2]string
	at     int // which of both the master is

	// The replica's data, and what of the master's stream it has not carried out. Guarded by the master's lock.
	replica *engine
	queue   []queued
	done    int64 // the replica's offset
}

type queued struct {
	args [][]byte
	end  int64
	at   time.Time
}

const (
	// replicaKeeps is how many commands a replica may be behind, and replicaLag by how much.
	replicaKeeps = 64
	replicaLag   = time.Second
)

func newDeployment(n *network, name string, shards int, single bool, seed uint64) *deployment {
	d := &deployment{net: n, name: name, single: single, seed: seed, rng: rand.New(rand.NewPCG(seed, 0xdea1)), stop: make(chan struct{})}
	d.transfer = func(r *rand.Rand) transfer {
		return transfer{diskless: r.IntN(2) == 0, pause: time.Duration(r.IntN(3)) * keepAliveEach}
	}
	for i := range shards {
		sh := &simShard{
			slots: slot.Range{First: slot.Slot(i * slot.Count / shards), Last: slot.Slot((i+1)*slot.Count/shards - 1)},
			addrs: [2]string{fmt.Sprintf("%s%da:%d", name, i, 7000+i), fmt.Sprintf("%s%db:%d", name, i, 8000+i)},
			ids:   [2]string{d.newID(), d.newID()},
		}
		h := history{id: d.newID(), base: int64(d.rng.IntN(5000)), second: -1}
		h.kept = h.base
		sh.replica, sh.done = newEngine(), h.base
		sh.replica.passive = true
		d.shards = append(d.shards, sh)
		sh.master = newServer(d, sh.ids[0], sh.addrs[0], sh.slots, newEngine(), h)
		sh.master.start()
	}
	d.wg.Go(d.live) // ends with close
	return d
}

func (d *deployment) newID() string {
	return fmt.Sprintf("%016x%016x%08x", d.rng.Uint64(), d.rng.Uint64(), d.rng.Uint32())
}

// live does what servers do by themselves: they send keep-alives, and remove what has expired.
func (d *deployment) live() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-d.stop:
			return
		case <-tick.C:
		}
		for _, m := range d.masters() {
			m.mu.Lock()
			if !m.stopped && !d.calm.Load() {
				m.data.expire(5)
			}
			m.mu.Unlock()
			if n%10 == 0 {
				m.keepAlive(n%20 == 0)
			}
		}
	}
}

func (d *deployment) close() {
	close(d.stop)
	d.wg.Wait()
	for _, m := range d.masters() {
		m.stop()
	}
}

func (d *deployment) masters() (out []*server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, sh := range d.shards {
		out = append(out, sh.master)
	}
	return out
}

// seeds are all addresses.
func (d *deployment) seeds() (out []string) {
	for _, sh := range d.shards {
		out = append(out, sh.addrs[:]...)
	}
	return out
}

func (d *deployment) shardOf(s slot.Slot) *simShard {
	for _, sh := range d.shards {
		if s >= sh.slots.First && s <= sh.slots.Last {
			return sh
		}
	}
	panic("slot without a shard")
}

func (d *deployment) addrOf(s slot.Slot) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	sh := d.shardOf(s)
	return sh.addrs[sh.at]
}

func (d *deployment) masterOf(s slot.Slot) *server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shardOf(s).master
}

// nodes answers CLUSTER NODES as every node sees it: replicas that do not run are no part of it.
func (d *deployment) nodes(self *server) string {
	var b strings.Builder
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, sh := range d.shards {
		host, port, _ := strings.Cut(sh.addrs[sh.at], ":")
		flags := "master"
		if sh.master == self {
			flags = "myself,master"
		}
		fmt.Fprintf(&b, "%s %s:%s@1%s %s - 0 0 %d connected %d-%d\n", sh.ids[sh.at], host, port, port, flags, d.epoch+1, sh.slots.First, sh.slots.Last)
	}
	return b.String()
}

// follow hands a command of a master's stream to its replica. The master's lock is held.
func (d *deployment) follow(s *server, args [][]byte) {
	sh := d.shardOf(s.slots.First)
	sh.queue = append(sh.queue, queued{args, s.hist.end(), time.Now()})
	for len(sh.queue) > replicaKeeps {
		sh.advance()
	}
}

// advance carries out the oldest command at the replica.
func (sh *simShard) advance() {
	q := sh.queue[0]
	sh.queue = sh.queue[1:]
	sh.done = q.end
	switch name := strings.ToUpper(string(q.args[0])); name {
	case "MULTI", "EXEC":
	case "FLUSHALL":
		clear(sh.replica.keys)
	default:
		if _, _, ok := sh.replica.do(q.args); !ok {
			panic("replica: unknown command " + name)
		}
	}
}

// failOver promotes the replica of a shard: at once, or after a time in which nobody serves. behind is how many commands
// of the stream it lacks, or fewer where that would part a transaction.
func (d *deployment) failOver(n, behind int, away time.Duration) {
	sh := d.shards[n]
	old := sh.master
	old.stop()
	for len(sh.queue) > behind || sh.within() || len(sh.queue) > 0 && time.Since(sh.queue[0].at) > replicaLag {
		sh.advance()
	}
	h := history{id: d.newID(), old: old.hist.id, second: sh.done + 1, base: old.hist.base, kept: old.hist.kept}
	h.bytes = append([]byte(nil), old.hist.bytes[:sh.done-h.base]...)
	time.Sleep(away)
	d.promote(sh, 1-sh.at, sh.replica, h)
}

// within tells whether the replica stands inside a transaction.
func (sh *simShard) within() bool {
	for _, q := range sh.queue {
		switch string(q.args[0]) {
		case "MULTI":
			return false
		case "EXEC":
			return true
		}
	}
	return false
}

// restart is a master that comes back with its data, and another history.
func (d *deployment) restart(n int, away time.Duration) {
	sh := d.shards[n]
	old := sh.master
	old.stop()
	time.Sleep(away)
	h := history{id: d.newID(), second: -1, base: old.hist.end()}
	h.kept = h.base
	d.promote(sh, sh.at, old.data, h)
}

func (d *deployment) promote(sh *simShard, at int, data *engine, h history) {
	d.mu.Lock()
	d.epoch++
	sh.at = at
	sh.queue, sh.done = nil, h.end()
	sh.replica = data.clone()
	sh.replica.passive = true
	m := newServer(d, sh.ids[sh.at], sh.addrs[sh.at], sh.slots, data.clone(), h)
	sh.master = m
	d.mu.Unlock()
	m.start()
}

// contents are all keys, those too that have expired and were not removed yet.
func (d *deployment) contents() *engine {
	all := newEngine()
	for _, m := range d.masters() {
		m.mu.Lock()
		for k, v := range m.data.keys {
			all.keys[k] = v.clone()
		}
		m.mu.Unlock()
	}
	return all
}
