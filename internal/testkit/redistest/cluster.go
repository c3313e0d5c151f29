package redistest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const slotCount = 16384

// readyTimeout bounds WaitReady. A master of a new or restarted cluster takes no writes for 2 s by itself
// (redis:src/cluster.c, CLUSTER_WRITABLE_DELAY), and a failover needs the node timeout and an election.
const readyTimeout = 60 * time.Second

// Config says which cluster to start.
type Config struct {
	Version           string // default: DefaultVersion
	Masters           int    // default: 3
	ReplicasPerMaster int    // default: none
	Dir               string // parent of the nodes' folders, which are named after their ports; required
	// Args are more options of redis-server for each node; later ones win. With --tls-cert-file each node has a port for
	// TLS as well, which the bus uses then.
	Args []string
}

// Cluster is a running Redis cluster. Its node timeout is 2 s.
type Cluster struct {
	cfg Config

	mu       sync.Mutex
	nodes    []*Node // masters first, then the replicas of the first master, of the second, ...
	added    []*Node // by AddMaster
	client   *redis.ClusterClient
	expected int // nodes that are to know each other
}

// StartCluster starts a cluster with evenly spread slots and waits until every node of it agrees and all replicas are
// in step. On an error nothing is left running.
func StartCluster(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Masters == 0 {
		cfg.Masters = 3
	}
	nodes, err := newNodes(ctx, cfg.Version, cfg.Dir, cfg.Masters*(1+cfg.ReplicasPerMaster), clusterArgs(cfg))
	if err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, nodes: nodes, expected: len(nodes)}
	if err := c.form(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Close())
	}
	return c, nil
}

func clusterArgs(cfg Config) []string {
	return append([]string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000",
	}, cfg.Args...)
}

// form does what redis-cli --cluster create does, without its pauses.
func (c *Cluster) form(ctx context.Context) error {
	for _, n := range c.nodes {
		if err := n.launch(); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.waitAnswer(ctx); err != nil {
			return err
		}
	}
	masters := c.Masters()
	for i, n := range masters {
		// distinct epochs: nodes that meet with equal ones have to settle that first
		if err := n.client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return fmt.Errorf("set epoch of %s: %w", n.Addr(), err)
		}
		first, last := i*slotCount/len(masters), (i+1)*slotCount/len(masters)-1
		// Despite its name it sends CLUSTER ADDSLOTS with every slot: ADDSLOTSRANGE came with 7.0.
		if err := n.client.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			return fmt.Errorf("give slots to %s: %w", n.Addr(), err)
		}
	}
	for i, n := range c.nodes { // each meets each: gossip alone takes seconds
		for _, other := range c.nodes[:i] {
			if err := n.client.ClusterMeet(ctx, "127.0.0.1", strconv.Itoa(other.busPort())).Err(); err != nil {
				return fmt.Errorf("meet: %w", err)
			}
		}
	}
	for _, n := range c.nodes {
		if err := poll(ctx, readyTimeout, func() error { return c.knowsAll(ctx, n) }); err != nil {
			return err
		}
	}
	for i, master := range masters {
		id, err := master.client.ClusterMyID(ctx).Result()
		if err != nil {
			return fmt.Errorf("get id of %s: %w", master.Addr(), err)
		}
		for _, replica := range c.ReplicasOf(i) {
			if err := replica.client.ClusterReplicate(ctx, id).Err(); err != nil {
				return fmt.Errorf("make %s a replica: %w", replica.Addr(), err)
			}
		}
	}
	return c.WaitReady(ctx)
}

// knowsAll tells whether the node has finished the handshake with every other one.
func (c *Cluster) knowsAll(ctx context.Context, n *Node) error {
	lines, err := clusterNodes(ctx, n)
	if err != nil {
		return err
	}
	known := 0
	for _, l := range lines {
		if !l.has("handshake") && !l.has("noaddr") {
			known++
		}
	}
	if want := c.nodeCount(); known < want {
		return fmt.Errorf("%s knows %d of %d nodes", n.Addr(), known, want)
	}
	return nil
}

func (c *Cluster) nodeCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expected
}

// Nodes returns all nodes, running or not: the first masters, their replicas, then those that were added.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(append([]*Node(nil), c.nodes...), c.added...)
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, n := range c.Nodes() {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// Masters returns the nodes that were masters at the start, in the order of their slots. After a failover see
// CurrentMasters.
func (c *Cluster) Masters() []*Node { return c.nodes[:c.cfg.Masters] }

// ReplicasOf returns the nodes that were replicas of Masters()[i] at the start.
func (c *Cluster) ReplicasOf(i int) []*Node {
	first := c.cfg.Masters + i*c.cfg.ReplicasPerMaster
	return c.nodes[first : first+c.cfg.ReplicasPerMaster]
}

// Node returns the node with that address ("127.0.0.1:11000"), nil if there is none.
func (c *Cluster) Node(addr string) *Node {
	for _, n := range c.Nodes() {
		if n.Addr() == addr {
			return n
		}
	}
	return nil
}

// CurrentMasters returns the nodes that have slots now, in the view of the first node that answers.
func (c *Cluster) CurrentMasters(ctx context.Context) ([]*Node, error) {
	lines, err := c.view(ctx)
	if err != nil {
		return nil, err
	}
	var masters []*Node
	for _, l := range lines {
		if l.has("master") && !l.has("fail") && len(l.slots) > 0 {
			if n := c.Node(l.addr); n != nil {
				masters = append(masters, n)
			}
		}
	}
	return masters, nil
}

// CurrentReplicas returns the running nodes that replicate a master now, in its own view.
func (c *Cluster) CurrentReplicas(ctx context.Context, master *Node) ([]*Node, error) {
	lines, err := clusterNodes(ctx, master)
	if err != nil {
		return nil, err
	}
	var id string
	for _, l := range lines {
		if l.has("myself") {
			id = l.id
		}
	}
	var replicas []*Node
	for _, l := range lines {
		if l.master == id && !l.has("fail") && c.running(l.addr) {
			replicas = append(replicas, c.Node(l.addr))
		}
	}
	return replicas, nil
}

// Owner returns the master that has the slot now, in the view of the first node that answers.
func (c *Cluster) Owner(ctx context.Context, slot int) (*Node, error) {
	lines, err := c.view(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		for _, r := range l.slots {
			if r[0] <= slot && slot <= r[1] {
				return c.Node(l.addr), nil
			}
		}
	}
	return nil, fmt.Errorf("find owner: no node has slot %d", slot)
}

// Client returns a client of the cluster, which is closed with it.
func (c *Cluster) Client() *redis.ClusterClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		var addrs []string
		for _, n := range c.nodes {
			addrs = append(addrs, n.Addr())
		}
		c.client = redis.NewClusterClient(&redis.ClusterOptions{
			Addrs:                    addrs,
			ContextTimeoutEnabled:    true,
			DisableIdentity:          true,
			MaxRedirects:             16,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
	}
	return c.client
}

// WaitReady waits until every running node says that the cluster is whole, all running nodes know each other and their
// roles, and each running replica is in step with its master. Nodes that do not run are left out, so that it serves
// after a failover too.
func (c *Cluster) WaitReady(ctx context.Context) error {
	return poll(ctx, readyTimeout, func() error { return c.ready(ctx) })
}

func (c *Cluster) ready(ctx context.Context) error {
	var view string // who has which slots; all must say the same
	for _, n := range c.Nodes() {
		if p := n.Process(); p == nil || !p.Running() {
			continue
		}
		info, err := n.client.ClusterInfo(ctx).Result()
		if err != nil {
			return fmt.Errorf("ask %s: %w", n.Addr(), err)
		}
		if !strings.Contains(info, "cluster_state:ok") {
			return fmt.Errorf("%s: the cluster is not whole", n.Addr())
		}
		if err := c.knowsAll(ctx, n); err != nil {
			return err
		}
		if err := c.inStep(ctx, n); err != nil {
			return err
		}
		mine, err := ownersSeenBy(ctx, n)
		if err != nil {
			return err
		}
		if view == "" {
			view = mine
		}
		if mine != view {
			return fmt.Errorf("%s does not agree with the others on who has which slots", n.Addr())
		}
	}
	if view == "" {
		return errors.New("no node is running")
	}
	return nil
}

// inStep tells whether a replica's link is up, and whether a master has all its running replicas online.
func (c *Cluster) inStep(ctx context.Context, n *Node) error {
	info, err := n.client.Info(ctx, "replication").Result()
	if err != nil {
		return fmt.Errorf("ask %s: %w", n.Addr(), err)
	}
	if strings.Contains(info, "role:slave") {
		if !strings.Contains(info, "master_link_status:up") {
			return fmt.Errorf("replica %s is not in step", n.Addr())
		}
		return nil
	}
	lines, err := clusterNodes(ctx, n)
	if err != nil {
		return err
	}
	var id string
	for _, l := range lines {
		if l.has("myself") {
			id = l.id
		}
	}
	online := strings.Count(info, "state=online")
	want := 0
	for _, l := range lines {
		if l.master == id && !l.has("fail") && c.running(l.addr) {
			want++
		}
	}
	if online < want {
		return fmt.Errorf("master %s has %d of %d replicas online", n.Addr(), online, want)
	}
	// a node that was told to be a replica and has not spoken of it yet still passes as a master without slots
	if want := c.cfg.ReplicasPerMaster; want > 0 && !c.rolesKnown(lines) {
		return fmt.Errorf("%s has not heard of all roles", n.Addr())
	}
	return nil
}

func (c *Cluster) running(addr string) bool {
	n := c.Node(addr)
	return n != nil && n.Process() != nil && n.Process().Running()
}

// rolesKnown tells whether every running node that is not one of AddMaster's is a replica or has slots.
func (c *Cluster) rolesKnown(lines []nodeLine) bool {
	for _, l := range lines {
		if !c.running(l.addr) || c.isAdded(l.addr) {
			continue
		}
		if l.has("master") && len(l.slots) == 0 {
			return false
		}
	}
	return true
}

func (c *Cluster) isAdded(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.added {
		if n.Addr() == addr {
			return true
		}
	}
	return false
}

// Close kills all nodes and closes all clients. Folders stay.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes() {
		errs = append(errs, n.Close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		errs = append(errs, c.client.Close())
		c.client = nil
	}
	return errors.Join(errs...)
}

// view returns the cluster as the first node that answers sees it.
func (c *Cluster) view(ctx context.Context) ([]nodeLine, error) {
	var errs []error
	for _, n := range c.Nodes() {
		if !c.running(n.Addr()) {
			continue
		}
		lines, err := clusterNodes(ctx, n)
		if err == nil {
			return lines, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(append(errs, errors.New("no node of the cluster answers"))...)
}
