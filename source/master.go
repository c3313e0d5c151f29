package source

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/topology"
)

// place is where a shard may be joined.
type place struct {
	master   string
	replicas []string
}

// choose looks for the node to join. A replica that cannot be joined now is passed over.
func (l *link) choose(ctx context.Context, at place) (addr string, m master, err error) {
	if l.cfg.ReadFrom == ReadFromReplica {
		for _, addr := range at.replicas {
			if m, err := l.inspect(ctx, addr, roleReplica); err == nil {
				return addr, m, nil
			}
			if ctx.Err() != nil {
				return "", master{}, context.Cause(ctx)
			}
		}
	}
	m, err = l.inspect(ctx, at.master, roleMaster)
	return at.master, m, err
}

// Roles of nodes, as INFO names them.
const (
	roleMaster  = "master"
	roleReplica = "slave"
)

// master is what a node says of itself before we ask it for its stream. It may be a replica, which says the same of the
// history that it follows.
type master struct {
	role             string
	version          string
	cluster          bool
	replID, replID2  event.ReplID
	offset           event.Offset
	secondReplOffset event.Offset
}

// inspect asks the node who it is. That it has another role now is an error: topology is looked up again. So is a replica
// without its master, which sends nothing.
func (l *link) inspect(ctx context.Context, addr, role string) (master, error) {
	client := l.cfg.Dialer.Client(addr)
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	text, err := client.Info(ctx, "server", "replication").Result()
	if err != nil {
		// Before Redis 7 INFO takes one section.
		text, err = client.Info(ctx).Result()
	}
	if err != nil {
		return master{}, answerOf(addr, "INFO", err)
	}
	info := topology.ParseInfo(text)
	if is := info["role"]; is != role {
		return master{}, fmt.Errorf("connect to %s %s: its role is %q now", role, addr, is)
	}
	if status := info["master_link_status"]; role == roleReplica && status != "up" {
		return master{}, fmt.Errorf("connect to replica %s: its link to its master is %q", addr, status)
	}
	m := master{role: role, cluster: isCluster(info)}
	_, m.version = info.Server()
	if m.replID, err = event.ParseReplID(info["master_replid"]); err != nil {
		return master{}, fmt.Errorf("INFO of master %s: %w", addr, err)
	}
	// Absent before Redis 4, all zeroes where there is none.
	m.replID2, _ = event.ParseReplID(info["master_replid2"])
	m.offset = event.Offset(atoi(info["master_repl_offset"]))
	m.secondReplOffset = event.Offset(atoi(info["second_repl_offset"]))
	return m, nil
}

func atoi(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// sendsTTLs tells whether times to live may be in the master's stream.
func (m master) sendsTTLs() bool {
	major, _, _ := strings.Cut(m.version, ".")
	n, err := strconv.Atoi(major)
	return err != nil || n < absoluteSince
}
