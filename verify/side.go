package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// side is one of the two deployments.
type side struct {
	name       string // source or target
	at         Deployment
	meter      *meter
	largeBytes int64
	unwatch    func() bool // ends the watch of the context

	cluster bool
	offer   offer
	// ahead is of its clock before ours, and may be off by so much.
	ahead, aheadOff time.Duration

	mu    sync.Mutex
	view  *view
	known map[string]*node              // by address
	slow  map[int]redis.UniversalClient // by database
	ended bool                          // nobody will ask any more
}

// offer is what all masters understand and allow; a command that is renamed or forbidden is not offered.
type offer struct {
	expireTime  bool // PEXPIRETIME, from 7.0
	memory      bool // MEMORY USAGE
	dump        bool
	multiMember bool // SMISMEMBER and ZMSCORE, from 6.2
	fieldExpiry bool // HPEXPIRETIME, from 7.4 and Valkey 9
	slotKeys    bool // CLUSTER GETKEYSINSLOT
	script      bool // EVAL
	functions   bool // FUNCTION LIST, from 7.0
	denied      bool // FUNCTION LIST is there, and forbidden
}

// view is one look at who the masters are.
type view struct {
	nodes    []*node
	owner    *[slot.Count]*node // nil for a single server
	inFlight map[slot.Slot][]*node
	stamps   map[*node]string // identity and epoch, as they were then
}

// nodeOf returns the master that has a key, nil if nobody has.
func (v *view) nodeOf(key string) *node {
	if v.owner == nil {
		return v.nodes[0]
	}
	return v.owner[slot.Of([]byte(key))]
}

// newSide connects and asks the masters what they offer.
func newSide(ctx context.Context, name string, at Deployment, m *meter, largeBytes int64) (*side, error) {
	if len(at.Addrs) == 0 {
		return nil, fmt.Errorf("compare: the %s has no address", name)
	}
	s := &side{name: name, at: at, meter: m, largeBytes: largeBytes, known: map[string]*node{}, slow: map[int]redis.UniversalClient{}}
	// The client library waits for an answer however its context ends: closed connections do end it.
	s.unwatch = context.AfterFunc(ctx, s.closeClients)
	if err := s.look(ctx); err != nil {
		s.close()
		return nil, err
	}
	if err := s.probe(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *side) close() {
	s.unwatch()
	s.closeClients()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.known {
		n.close()
	}
}

func (s *side) closeClients() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, c := range s.slow {
		_ = c.Close()
	}
}

func (s *side) dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := s.at.Dialer.DialContext(ctx, addr)
	if err != nil {
		return nil, err
	}
	return meteredConn{c, s.meter}, nil
}

func (s *side) now() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// look finds the masters, at the start and again when something has changed.
func (s *side) look(ctx context.Context) error {
	top, err := topology.Discover(ctx, &s.at.Dialer, s.seeds())
	if errors.Is(err, topology.ErrNotCluster) && !s.cluster {
		return s.lookSingle(ctx)
	}
	if err != nil {
		return fmt.Errorf("look at the %s: %w", s.name, err)
	}
	if !top.Uncovered.IsEmpty() {
		return &sideError{s.name, s.at.Addrs[0], "look at the cluster", fmt.Errorf("CLUSTERDOWN no master serves the slots %v", &top.Uncovered)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cluster = true
	v := &view{owner: new([slot.Count]*node), inFlight: map[slot.Slot][]*node{}, stamps: map[*node]string{}}
	byID := map[string]*node{}
	for i := range top.Shards {
		sh := &top.Shards[i]
		n := s.node(sh.Master.Addr)
		v.stamps[n] = fmt.Sprint(sh.Master.ID, " ", sh.Master.ConfigEpoch)
		byID[sh.Master.ID] = n
		if sh.Slots.IsEmpty() {
			continue
		}
		v.nodes = append(v.nodes, n)
		for sl := range sh.Slots.All() {
			v.owner[sl] = n
		}
	}
	for _, m := range top.InFlight { // both ends may tell of it
		if len(v.inFlight[m.Slot]) > 0 {
			continue
		}
		for _, id := range []string{m.From, m.To} {
			if n := byID[id]; n != nil {
				v.inFlight[m.Slot] = append(v.inFlight[m.Slot], n)
			}
		}
	}
	s.view = v
	return nil
}

// seeds are the addresses to ask, those of masters known to be there last.
func (s *side) seeds() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seeds := slices.Clone(s.at.Addrs)
	if s.view != nil && s.cluster {
		for _, n := range s.view.nodes {
			if !slices.Contains(seeds, n.addr) {
				seeds = append(seeds, n.addr)
			}
		}
	}
	return seeds
}

func (s *side) node(addr string) *node {
	n := s.known[addr]
	if n == nil {
		n = &node{side: s, addr: addr, idle: map[int][]*conn{}}
		s.known[addr] = n
	}
	return n
}

func (s *side) lookSingle(ctx context.Context) error {
	if len(s.at.Addrs) > 1 {
		return fmt.Errorf("look at the %s: %s is not part of a cluster, and more than one address was given", s.name, s.at.Addrs[0])
	}
	s.mu.Lock()
	n := s.node(s.at.Addrs[0])
	s.mu.Unlock()
	if _, err := n.runID(ctx); err != nil { // it answers
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = &view{nodes: []*node{n}}
	return nil
}

// info reads a section of INFO; nothing where it is forbidden.
func (n *node) info(ctx context.Context, section string) (topology.Info, error) {
	c, err := n.take(ctx, 0)
	if err != nil {
		return nil, err
	}
	fields, err := c.info(section)
	n.give(c, err == nil)
	return fields, err
}

func (c *conn) info(section string) (topology.Info, error) {
	r, err := c.one("INFO", section)
	if refused(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return topology.ParseInfo(string(r.Str)), nil
}

// databases lists those with keys.
func (s *side) databases(ctx context.Context) ([]int, error) {
	var dbs []int
	for _, n := range s.now().nodes {
		info, err := n.info(ctx, "keyspace")
		if err != nil {
			return nil, err
		}
		if info == nil && !s.cluster {
			return nil, &rightError{sideError{s.name, n.addr, "find the databases that hold keys", errors.New("INFO is refused: name them by --databases, or allow it")}}
		}
		dbs = append(dbs, info.Databases()...)
	}
	slices.Sort(dbs)
	return slices.Compact(dbs), nil
}

// stable describes who serves a slot, so that two descriptions are equal when nothing moved.
func (v *view) stable(sl slot.Slot) string {
	n := v.owner[sl]
	if n == nil {
		return ""
	}
	stamps := []string{v.stamps[n]}
	for _, n := range v.inFlight[sl] {
		stamps = append(stamps, v.stamps[n])
	}
	return strings.Join(stamps, " ")
}
