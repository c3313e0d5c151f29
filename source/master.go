package source

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/topology"
)

// master is what a node says of itself before we ask it for its stream.
type master struct {
	version          string
	cluster          bool
	replID, replID2  event.ReplID
	offset           event.Offset
	secondReplOffset event.Offset
}

// inspect asks the node who it is. That it is no master any more is an error: topology is looked up again.
func (l *link) inspect(ctx context.Context, addr string) (master, error) {
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
	if role := info["role"]; role != "master" {
		return master{}, fmt.Errorf("connect to master %s: its role is %q now", addr, role)
	}
	m := master{cluster: isCluster(info)}
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
