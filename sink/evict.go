package sink

import (
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redriver/redriver/redis/topology"
)

// EvictionPolicy says what happens where a node of the target may remove keys when its memory is full.
type EvictionPolicy string

// The policies for a target that evicts.
const (
	// EvictionRefuse stops before anything is written, or as soon as a node is told to evict. It is the default.
	EvictionRefuse EvictionPolicy = "refuse"
	// EvictionAccept goes on, with a warning when keys were evicted.
	EvictionAccept EvictionPolicy = "accept"
)

// A key that a node evicts is lost without a word in the log, and later writes make a part of it again: HSET k f 1; the node
// evicts k; HSET k g 2 leaves {g}. It may be one of ours, too, a checkpoint or what a value is built under. A node that is full and
// evicts nothing says OOM, and the sink waits. So each node's policy is asked for before anything is written, and every
// evictionCheck from then on, together with how many keys it has evicted.
const (
	evictionCheck = 5 * time.Second
	evictionTold  = time.Minute
	evictsNothing = "noeviction"
)

// EvictionError tells that a node of the target removes keys when its memory is full.
type EvictionError struct {
	Node, Policy string
	MaxBytes     int64
	// Evicted keys since the sink looked first.
	Evicted int64
}

func (e *EvictionError) Error() string {
	const hint = "give it maxmemory-policy " + evictsNothing + ", or set target.eviction: accept if the target is a cache that may lose keys"
	if e.Evicted > 0 {
		return fmt.Sprintf("target node %s has evicted %d keys since the sink began: they are lost there, and later writes make parts of them again "+
			"(have redriver verify repair them; %s)", e.Node, e.Evicted, hint)
	}
	return fmt.Sprintf("target node %s evicts keys when %d bytes are in use (maxmemory-policy %s): they would be lost there, and later writes would make "+
		"parts of them again (%s)", e.Node, e.MaxBytes, e.Policy, hint)
}

// Class is Stop.
func (e *EvictionError) Class() Class { return Stop }

// evictions is what the nodes have said, for all partitions.
type evictions struct {
	mu    sync.Mutex
	nodes map[string]*evictedNode
}

type evictedNode struct {
	asked, told       time.Time
	first, last, said int64 // of what it has evicted: when it was asked first and last, when it was told
}

// due tells whether a node has to be asked.
func (e *evictions) due(addr string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[addr]
	return n == nil || time.Since(n.asked) >= evictionCheck
}

// note takes what a node says, and returns how many keys it has evicted since it was asked first, and whether that is to be
// told.
func (e *evictions) note(addr string, evicted int64) (since int64, tell bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[addr]
	if n == nil {
		n = &evictedNode{first: evicted, said: evicted}
		if e.nodes == nil {
			e.nodes = map[string]*evictedNode{}
		}
		e.nodes[addr] = n
	}
	if evicted < n.last { // it was started again
		n.first, n.said = 0, 0
	}
	if tell = evicted != n.said && time.Since(n.told) > evictionTold; tell {
		n.told, n.said = time.Now(), evicted
	}
	n.asked, n.last = time.Now(), evicted
	return evicted - n.first, tell
}

// checkEviction asks those of the partition's nodes whose time it is; all of them if new connections are to be judged. A node that
// does not tell, as behind some proxies, is taken to evict nothing.
func (w *worker) checkEviction(all bool) error {
	for _, c := range w.conns {
		if !all && !w.s.evictions.due(c.addr) {
			continue
		}
		info, err := c.info()
		if err != nil {
			return err
		}
		if err := w.judgeEviction(c.addr, info); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) judgeEviction(addr string, info topology.Info) error {
	number := func(field string) int64 {
		n, _ := strconv.ParseInt(info[field], 10, 64) // 0 where it is not told
		return n
	}
	policy, maxBytes := info["maxmemory_policy"], number("maxmemory")
	evicted, tell := w.s.evictions.note(addr, number("evicted_keys"))
	if w.s.cfg.Eviction == EvictionAccept {
		if tell {
			w.log.Warn("the target evicts keys: they are missing there", slog.String("node", addr), slog.Int64("evicted", evicted), slog.String("policy", policy))
		}
		return nil
	}
	may := maxBytes > 0 && policy != "" && policy != evictsNothing && w.s.cfg.ExpiryMode != ExpiryImport // which evicts nothing
	if !may && evicted == 0 {
		return nil
	}
	return &EvictionError{Node: addr, Policy: policy, MaxBytes: maxBytes, Evicted: evicted}
}
