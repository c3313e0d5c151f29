package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// side is one of the two deployments.
type side struct {
	name  string // source or target
	at    Deployment
	meter *meter

	cluster bool
	offer   offer
	ahead   time.Duration // of its clock before ours, where expiry times have to be reckoned

	mu    sync.Mutex
	view  *view
	known map[string]*node              // by address
	slow  map[int]redis.UniversalClient // by database
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
	crossSlot   bool // scripts may declare that they read keys of several slots, from 7.0
}

// view is one look at who the masters are.
type view struct {
	nodes    []*node
	owner    *[slot.Count]*node // nil for a single server
	inFlight map[slot.Slot][]*node
}

// nodeOf returns the master that has a key, nil if nobody has.
func (v *view) nodeOf(key string) *node {
	if v.owner == nil {
		return v.nodes[0]
	}
	return v.owner[slot.Of([]byte(key))]
}

// newSide connects and asks the masters what they offer.
func newSide(ctx context.Context, name string, at Deployment, m *meter) (*side, error) {
	if len(at.Addrs) == 0 {
		return nil, fmt.Errorf("compare: the %s has no address", name)
	}
	s := &side{name: name, at: at, meter: m, known: map[string]*node{}, slow: map[int]redis.UniversalClient{}}
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	if err := s.probe(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *side) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.known {
		n.close()
	}
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
	v := &view{owner: new([slot.Count]*node), inFlight: map[slot.Slot][]*node{}}
	byID := map[string]*node{}
	for i := range top.Shards {
		sh := &top.Shards[i]
		n := s.node(sh.Master.Addr)
		n.id, n.epoch = sh.Master.ID, sh.Master.ConfigEpoch
		byID[n.id] = n
		if sh.Slots.IsEmpty() {
			continue
		}
		v.nodes = append(v.nodes, n)
		for sl := range sh.Slots.All() {
			v.owner[sl] = n
		}
	}
	for _, m := range top.InFlight {
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
func (n *node) info(ctx context.Context, section string) (map[string]string, error) {
	c, err := n.take(ctx, 0)
	if err != nil {
		return nil, err
	}
	r, err := c.one("INFO", section)
	if err != nil {
		n.give(c, refused(err))
		if refused(err) {
			return nil, nil
		}
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(r.Str)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	n.give(c, true)
	return fields, nil
}

// probe asks all masters what they offer.
func (s *side) probe(ctx context.Context) error {
	const none = "redriver-verify-probe"
	s.offer.crossSlot = true
	probes := []struct {
		has  *bool
		need bool
		args []string
	}{
		{new(bool), true, []string{"SCAN", "0", "COUNT", "1"}},
		{new(bool), true, []string{"TYPE", none}},
		{new(bool), true, []string{"EXISTS", none}},
		{new(bool), true, []string{"PTTL", none}},
		{&s.offer.expireTime, false, []string{"PEXPIRETIME", none}},
		{&s.offer.memory, false, []string{"MEMORY", "USAGE", none}},
		{&s.offer.dump, false, []string{"DUMP", none}},
		{&s.offer.multiMember, false, []string{"ZMSCORE", none, "m"}},
		{&s.offer.fieldExpiry, false, []string{"HPEXPIRETIME", none, "FIELDS", "1", "f"}},
		{&s.offer.slotKeys, false, []string{"CLUSTER", "GETKEYSINSLOT", "0", "1"}},
		{&s.offer.script, false, []string{"EVAL", "return 1", "0"}},
		{&s.offer.functions, false, []string{"FUNCTION", "LIST"}},
	}
	for _, p := range probes {
		*p.has = true
	}
	for _, n := range s.now().nodes {
		c, err := n.take(ctx, 0)
		if err != nil {
			return err
		}
		for _, p := range probes {
			r, err := c.one(p.args...)
			switch {
			case err == nil && r.Kind != resp.KindError, redirected(err), aboutKeys(err):
			case refused(err) && !p.need:
				*p.has = false
			case refused(err):
				n.give(c, true)
				return &rightError{sideError{s.name, n.addr, p.args[0], err}}
			default:
				n.give(c, false)
				return err
			}
		}
		n.give(c, true)
	}
	if !s.offer.expireTime {
		if err := s.measureClock(ctx); err != nil {
			return err
		}
	}
	s.offer.crossSlot = s.offer.functions // both came with 7.0
	s.offer.slotKeys = s.offer.slotKeys && s.cluster
	return nil
}

// measureClock takes the clock of the first master for that of all, to half the time of a round trip.
func (s *side) measureClock(ctx context.Context) error {
	n := s.now().nodes[0]
	c, err := n.take(ctx, 0)
	if err != nil {
		return err
	}
	sent := time.Now()
	r, err := c.one("TIME")
	n.give(c, err == nil || refused(err))
	if refused(err) || err == nil && len(r.Elems) != 2 {
		return nil // our clock has to do
	}
	if err != nil {
		return err
	}
	seconds, err1 := strconv.ParseInt(string(r.Elems[0].Str), 10, 64)
	micros, err2 := strconv.ParseInt(string(r.Elems[1].Str), 10, 64)
	if err1 == nil && err2 == nil {
		s.ahead = time.Unix(seconds, micros*1000).Sub(sent.Add(time.Since(sent) / 2))
	}
	return nil
}

// rightError says that a side refuses what no comparison can do without.
type rightError struct{ sideError }

func (e *rightError) Error() string {
	return e.sideError.Error() + " (a comparison reads only; grant the user: +@read +@connection +scan +info +dump +memory|usage " +
		"+cluster|nodes +cluster|shards +cluster|slots +cluster|myshardid +cluster|countkeysinslot +cluster|getkeysinslot %R~*)"
}

// redirected: in a cluster the key may be anywhere; the command was understood.
func redirected(err error) bool {
	return err != nil && hasPrefix(cause(err), "MOVED ", "ASK ", "CLUSTERDOWN", "TRYAGAIN")
}

// refused: the server does not know the command, or the user may not run it.
func refused(err error) bool {
	if err == nil {
		return false
	}
	err = cause(err)
	_, ours := errors.AsType[*resp.ServerError](err)
	_, theirs := errors.AsType[redis.Error](err)
	return (ours || theirs) && hasPrefix(err, "ERR ", "NOPERM")
}

// aboutKeys: the user may run the command, but not on this key.
func aboutKeys(err error) bool {
	return err != nil && hasPrefix(cause(err), "NOPERM") && strings.Contains(err.Error(), "key")
}

// cause is what a server said, without what we said of it.
func cause(err error) error {
	if e, ok := errors.AsType[*resp.ServerError](err); ok {
		return e
	}
	return err
}

func hasPrefix(err error, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(err.Error(), p) })
}

// databases lists those with keys.
func (s *side) databases(ctx context.Context) ([]int, error) {
	var dbs []int
	for _, n := range s.now().nodes {
		info, err := n.info(ctx, "keyspace")
		if err != nil {
			return nil, err
		}
		for name := range info {
			if i, err := strconv.Atoi(strings.TrimPrefix(name, "db")); err == nil && !slices.Contains(dbs, i) {
				dbs = append(dbs, i)
			}
		}
	}
	slices.Sort(dbs)
	return dbs, nil
}

// client reads values in pieces, and follows redirections.
func (s *side) client(db int) redis.UniversalClient {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.slow[db]; c != nil {
		return c
	}
	o := &redis.UniversalOptions{
		Addrs: s.at.Addrs, Username: s.at.Dialer.Username, Password: s.at.Dialer.Password, DB: db, IsClusterMode: s.cluster,
		Dialer:   func(ctx context.Context, _, addr string) (net.Conn, error) { return s.dial(ctx, addr) },
		Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		ReadTimeout:              s.meter.timeout, WriteTimeout: s.meter.timeout,
	}
	var c redis.UniversalClient
	if s.cluster {
		c = redis.NewClusterClient(o.Cluster())
	} else {
		c = redis.NewClient(o.Simple())
	}
	s.slow[db] = c
	return c
}

// stable describes who serves a slot, so that two descriptions are equal when nothing moved.
func (v *view) stable(sl slot.Slot) string {
	n := v.owner[sl]
	if n == nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", n.id, n.epoch, len(v.inFlight[sl]))
}
