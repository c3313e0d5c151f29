package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/slot"
)

// ErrSeveralMasters tells that the addresses lead to masters outside a cluster of which none is the successor of the others.
var ErrSeveralMasters = errors.New("several masters that do not replicate each other")

// Find looks at any deployment. What the servers say decides: a cluster is shown as by [Discover]; a server without
// cluster mode, alone or with replicas, as one shard with all slots, whose master's id is "single:" and its address.
//
// Outside a cluster the seeds are the nodes of one pair or chain of replicas. A replica leads to its master. Where two
// masters answer, the one that was promoted goes before the one that it was promoted from, which is known by its second
// replication ID; any others are an error. learned are addresses that some earlier look has brought: they are asked when
// no seed leads to a master, and all of a cluster's first.
func Find(ctx context.Context, d *Dialer, seeds, learned []string) (*Topology, error) {
	t, err := Discover(ctx, d, slices.Concat(learned, seeds))
	if !errors.Is(err, ErrNotCluster) {
		return t, err
	}
	t, err = findSingle(ctx, d, seeds)
	if err != nil && len(learned) > 0 && !errors.Is(err, ErrSeveralMasters) {
		if other, otherErr := findSingle(ctx, d, learned); otherErr == nil {
			return other, nil
		}
	}
	return t, err
}

// singlePrefix begins the ids of nodes outside clusters.
const singlePrefix = "single:"

// maxHops is how long a chain of replicas may be.
const maxHops = 4

// single is what a server outside a cluster says of itself.
type single struct {
	addr              string
	runID             string
	master            bool
	masterAddr        string // of a replica
	replID, oldReplID string
	replicas          []string
}

func findSingle(ctx context.Context, d *Dialer, seeds []string) (*Topology, error) {
	asked := map[string]bool{}
	var masters []single
	var errs []error
	next := slices.Clone(seeds)
	for range maxHops {
		var addrs []string
		for _, a := range next {
			if !asked[a] {
				asked[a] = true
				addrs = append(addrs, a)
			}
		}
		next = nil
		answers, failed := askSingles(ctx, d, addrs)
		errs = append(errs, failed...)
		for _, s := range answers {
			switch {
			case !s.master:
				next = append(next, s.masterAddr)
			case !slices.ContainsFunc(masters, func(m single) bool { return m.runID == s.runID }):
				masters = append(masters, s)
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("find master: %w", context.Cause(ctx))
		}
	}
	m, err := newestOf(masters)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("find master from %s: none of these nodes leads to one: %w", strings.Join(seeds, ", "), errors.Join(errs...))
	}
	return m.topology(), nil
}

// newestOf drops each master that another one has left behind. It returns nil for none.
func newestOf(masters []single) (*single, error) {
	left := slices.DeleteFunc(slices.Clone(masters), func(m single) bool {
		return slices.ContainsFunc(masters, func(o single) bool { return o.runID != m.runID && o.oldReplID == m.replID })
	})
	switch len(left) {
	case 0:
		if len(masters) > 0 {
			left = masters // each the successor of another: cannot be
			break
		}
		return nil, nil
	case 1:
		return &left[0], nil
	}
	addrs := make([]string, len(left))
	for i, m := range left {
		addrs[i] = m.addr
	}
	return nil, &Error{
		Addr: strings.Join(addrs, " and "), Op: "find master", Err: ErrSeveralMasters,
		Hint: "name the nodes of one deployment only; if one of them was the master before a failover, make it a replica of the other",
	}
}

// askSingles asks all at the same time. Errors are those of nodes that gave no answer.
func askSingles(ctx context.Context, d *Dialer, addrs []string) (answers []single, errs []error) {
	var mu sync.Mutex
	var g errgroup.Group // ends when every node has answered or its timeout has passed
	g.SetLimit(maxAsked)
	byAddr := map[string]single{}
	for _, addr := range addrs {
		g.Go(func() error {
			s, err := askSingle(ctx, d, addr)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else {
				byAddr[addr] = s
			}
			return nil
		})
	}
	_ = g.Wait()
	for _, addr := range addrs {
		if s, ok := byAddr[addr]; ok {
			answers = append(answers, s)
		}
	}
	return answers, errs
}

func askSingle(ctx context.Context, d *Dialer, addr string) (single, error) {
	const op = "ask for the role of the server"
	c := d.Client(addr)
	defer func() { _ = c.Close() }()
	// Before Redis 7.0 INFO takes one section.
	pipe := c.Pipeline()
	server, replication := pipe.Info(ctx, "server"), pipe.Info(ctx, "replication")
	_, err := pipe.Exec(ctx)
	if err := firstError(server, err); err != nil {
		return single{}, newError(addr, op, err)
	}
	if err := replication.Err(); err != nil {
		return single{}, newError(addr, op, err)
	}
	return parseSingle(addr, server.Val()+replication.Val())
}

// parseSingle reads the sections server and replication of INFO.
func parseSingle(addr, text string) (single, error) {
	s := single{addr: addr}
	info := ParseInfo(text)
	for n := 0; ; n++ { // slave0:ip=127.0.0.1,port=6380,state=online,offset=1,lag=0
		value, ok := info["slave"+strconv.Itoa(n)]
		if !ok {
			break
		}
		if r := replicaAddr(value); r != "" {
			s.replicas = append(s.replicas, r)
		}
	}
	s.runID, s.replID, s.oldReplID = info["run_id"], info["master_replid"], info["master_replid2"]
	switch {
	case info["role"] == "master":
		s.master = true
	case info["role"] == "slave" && info["master_host"] != "":
		s.masterAddr = net.JoinHostPort(info["master_host"], info["master_port"])
	default:
		return single{}, newError(addr, "ask for the role of the server", fmt.Errorf("%w: role %q", ErrUnusable, info["role"]))
	}
	return s, nil
}

// replicaAddr is where a replica can be reached, "" for one that announces port 0: that is a link of a redriver.
func replicaAddr(fields string) string {
	var host, port string
	for f := range strings.SplitSeq(fields, ",") {
		switch name, value, _ := strings.Cut(f, "="); name {
		case "ip":
			host = value
		case "port":
			port = value
		}
	}
	if host == "" || port == "" || port == "0" {
		return ""
	}
	return net.JoinHostPort(host, port)
}

func (s *single) topology() *Topology {
	var all slot.Set
	all.AddRange(slot.Range{First: 0, Last: slot.Count - 1})
	sh := Shard{Master: singleNode(s.addr, Master), Slots: all}
	sh.Master.Slots = all
	for _, r := range s.replicas {
		n := singleNode(r, Replica)
		n.MasterID = sh.Master.ID
		sh.Replicas = append(sh.Replicas, n)
	}
	return &Topology{Shards: []Shard{sh}, Single: true, RunID: s.runID}
}

func singleNode(addr string, flags Flags) Node {
	n := Node{ID: singlePrefix + addr, Flags: flags, Linked: true}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return n
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		return n
	}
	n.setAddr(host, p)
	return n
}
