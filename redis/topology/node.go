package topology

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/slot"
)

// Flags are the states of a node, as the node that was asked sees them.
type Flags uint16

// Flags of a node (representClusterNodeFlags in redis src/cluster_legacy.c).
const (
	Myself Flags = 1 << iota
	Master
	Replica
	Suspected  // fail?: this node cannot reach it
	Failed     // fail: a majority of masters cannot
	Handshake  // not yet a member: its id is made up
	NoAddr     // a member whose address is not known
	NoFailover // a replica that never takes over by itself
)

// flagWords are the words of CLUSTER NODES. One that is not listed is ignored: later versions may add some.
var flagWords = map[string]Flags{
	"myself": Myself, "master": Master, "slave": Replica, "replica": Replica, "fail?": Suspected, "fail": Failed,
	"handshake": Handshake, "noaddr": NoAddr, "nofailover": NoFailover,
}

// Has says whether all of these flags are set.
func (f Flags) Has(of Flags) bool { return f&of == of }

// Node is one server of a cluster.
type Node struct {
	ID          string
	Addr        string // "host:port" to dial; "" when it is not known
	Host        string // of Addr
	Port        int    // of Addr
	IP          string // as the cluster knows it; "" for a node that has not yet learned its own
	Hostname    string // announced; "" if none
	ShardID     string // 40 hex digits, from Redis 7.2 on; "" when not told
	MasterID    string // of a replica
	Flags       Flags
	ConfigEpoch uint64
	Linked      bool // the node that was asked has a connection to it, or is it
	Slots       slot.Set
	// Moves are the slots this node says are leaving or arriving. A node tells its own only.
	Moves []SlotMove
}

// SlotMove is a slot between two masters. Invariant: at least one of Migrating and Importing.
type SlotMove struct {
	Slot      slot.Slot
	From, To  string // node ids
	Migrating bool   // From says so
	Importing bool   // To says so; alone, it is a move that was begun or left half-way
}

// Endpoint is where clients are meant to reach a node.
type Endpoint struct {
	ID      string
	Host    string // "" means: whatever host the question was sent to
	Unknown bool   // the server has no name to give ("?"): Host is "", and the IP is the next best
	Port    int    // without TLS; 0 if the node has none
	TLSPort int    // 0 if not told
	ShardID string // "" if not told
}

// ParseNodes reads the answer of CLUSTER NODES. Of every line it needs the first eight words; Addr, Host and Port are
// those the line has, without regard to the preferred kind of endpoint.
func ParseNodes(text string) ([]Node, error) {
	var nodes []Node
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "vars" { // vars: in nodes.conf only
			continue
		}
		n, err := parseNode(words)
		if err != nil {
			return nil, fmt.Errorf("parse node line %q: %w", strings.TrimSpace(line), err)
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("parse cluster nodes: %w: no lines", ErrUnusable)
	}
	return nodes, nil
}

// parseNode reads
//
//	id ip:port@cport[,hostname[,name=value]...] flags master ping pong epoch link [slots]...
//
// Before Redis 4.0 there is no @cport. Redis 7.2 and Valkey may add names such as shard-id behind the hostname.
func parseNode(words []string) (Node, error) {
	if len(words) < 8 {
		return Node{}, fmt.Errorf("%w: %d words, need 8", ErrUnusable, len(words))
	}
	n := Node{ID: words[0], Linked: words[7] == "connected"}
	if err := n.parseAddr(words[1]); err != nil {
		return Node{}, err
	}
	for w := range strings.SplitSeq(words[2], ",") {
		n.Flags |= flagWords[w]
	}
	if n.Flags.Has(NoAddr) {
		n.Addr, n.Host, n.Port = "", "", 0
	}
	if words[3] != "-" {
		n.MasterID = words[3]
	}
	epoch, err := strconv.ParseUint(words[6], 10, 64)
	if err != nil {
		return Node{}, fmt.Errorf("%w: epoch %q", ErrUnusable, words[6])
	}
	n.ConfigEpoch = epoch
	for _, w := range words[8:] {
		if err := n.parseSlots(w); err != nil {
			return Node{}, err
		}
	}
	return n, nil
}

func (n *Node) parseAddr(word string) error {
	addr, rest, _ := strings.Cut(word, ",")
	hostname, aux, _ := strings.Cut(rest, ",")
	n.Hostname = hostname
	for field := range strings.SplitSeq(aux, ",") {
		if name, value, _ := strings.Cut(field, "="); name == "shard-id" {
			n.ShardID = value
		}
	}
	addr, _, _ = strings.Cut(addr, "@")
	// The last colon: an IPv6 address stands without brackets.
	colon := strings.LastIndexByte(addr, ':')
	if colon < 0 {
		return fmt.Errorf("%w: address %q", ErrUnusable, word)
	}
	port, err := strconv.ParseUint(addr[colon+1:], 10, 16)
	if err != nil {
		return fmt.Errorf("%w: port in %q", ErrUnusable, word)
	}
	n.IP = strings.Trim(addr[:colon], "[]")
	n.setAddr(n.IP, int(port))
	return nil
}

// setAddr sets where to dial. Without a host or port there is nothing to dial.
func (n *Node) setAddr(host string, port int) {
	n.Host, n.Port, n.Addr = host, port, ""
	if host != "" && port != 0 {
		n.Addr = net.JoinHostPort(host, strconv.Itoa(port))
	}
}

// parseSlots reads "5", "0-5460", "[93->-id]" (leaving) or "[93-<-id]" (arriving).
func (n *Node) parseSlots(word string) error {
	inner, move := strings.CutPrefix(word, "[")
	if !move {
		first, last, isRange := strings.Cut(word, "-")
		if !isRange {
			last = first
		}
		a, errA := parseSlot(first)
		b, errB := parseSlot(last)
		if errA != nil || errB != nil || a > b {
			return fmt.Errorf("%w: slots %q", ErrUnusable, word)
		}
		n.Slots.AddRange(slot.Range{First: a, Last: b})
		return nil
	}
	inner, closed := strings.CutSuffix(inner, "]")
	var m SlotMove
	number, peer, ok := strings.Cut(inner, "->-")
	if ok {
		m = SlotMove{From: n.ID, To: peer, Migrating: true}
	} else if number, peer, ok = strings.Cut(inner, "-<-"); ok {
		m = SlotMove{From: peer, To: n.ID, Importing: true}
	}
	s, err := parseSlot(number)
	if err != nil || !ok || !closed || peer == "" {
		return fmt.Errorf("%w: slots %q", ErrUnusable, word)
	}
	m.Slot = s
	n.Moves = append(n.Moves, m)
	return nil
}

func parseSlot(text string) (slot.Slot, error) {
	v, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, err
	}
	if v >= slot.Count {
		return 0, strconv.ErrRange
	}
	return slot.Slot(v), nil
}

// ParseShards reads the answer of CLUSTER SHARDS as RESP2 gives it: maps are lists of alternating names and values.
func ParseShards(reply any) ([]Endpoint, error) {
	shards, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("parse cluster shards: %w: %T", ErrUnusable, reply)
	}
	var all []Endpoint
	for _, s := range shards {
		shard := fields(s)
		nodes, ok := shard["nodes"].([]any)
		if !ok {
			return nil, fmt.Errorf("parse cluster shards: %w: a shard without nodes", ErrUnusable)
		}
		shardID, _ := shard["id"].(string)
		for _, x := range nodes {
			node := fields(x)
			e := Endpoint{ShardID: shardID}
			e.ID, _ = node["id"].(string)
			if e.ID == "" {
				return nil, fmt.Errorf("parse cluster shards: %w: a node without id", ErrUnusable)
			}
			e.setHost(node["endpoint"])
			e.Port = port(node["port"])
			e.TLSPort = port(node["tls-port"])
			all = append(all, e)
		}
	}
	return all, nil
}

// ParseSlots reads the answer of CLUSTER SLOTS. Nodes without an id (before Redis 3.0.6) are passed over; a node that
// serves several ranges comes once.
func ParseSlots(reply any) ([]Endpoint, error) {
	ranges, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("parse cluster slots: %w: %T", ErrUnusable, reply)
	}
	var all []Endpoint
	seen := map[string]bool{}
	for _, x := range ranges {
		r, ok := x.([]any)
		if !ok || len(r) < 2 {
			return nil, fmt.Errorf("parse cluster slots: %w: a range of no form", ErrUnusable)
		}
		for _, x := range r[2:] {
			node, ok := x.([]any)
			if !ok || len(node) < 2 {
				return nil, fmt.Errorf("parse cluster slots: %w: a node of no form", ErrUnusable)
			}
			if len(node) < 3 {
				continue
			}
			id, _ := node[2].(string)
			if id == "" || seen[id] {
				continue
			}
			seen[id] = true
			e := Endpoint{ID: id, Port: port(node[1])}
			e.setHost(node[0])
			all = append(all, e)
		}
	}
	return all, nil
}

// setHost takes an endpoint as a server writes it: a name or address, null (cluster-preferred-endpoint-type
// unknown-endpoint: stay with the host you know), "" (the node does not know its own address), or "?" (a hostname is
// preferred and none is set).
func (e *Endpoint) setHost(v any) {
	e.Host, _ = v.(string)
	if e.Host == "?" {
		e.Host, e.Unknown = "", true
	}
}

// port reads a port, 0 if it is none.
func port(v any) int {
	p, ok := v.(int64)
	if !ok || p < 0 || p > 65535 {
		return 0
	}
	return int(p)
}

// fields makes a map of alternating names and values. What is not of that form is left out.
func fields(v any) map[string]any {
	list, _ := v.([]any)
	m := make(map[string]any, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		if name, ok := list[i].(string); ok {
			m[name] = list[i+1]
		}
	}
	return m
}
