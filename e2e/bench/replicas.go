package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redriver/redriver/internal/testkit/redistest"
)

// serverVersion is a version of Redis or Valkey with options that it needs; its zero value is the default.
type serverVersion struct {
	name string
	args []string
}

// replicas are plain servers, each a replica of one of the source's masters. (A member of the cluster would do more:
// gossip and failover are no part of the work.)
type replicas struct {
	groupList
	source  *redistest.Cluster
	dir     string
	version serverVersion
	nodes   nodes
}

func newReplicas(source *redistest.Cluster, dir string, version serverVersion) *replicas {
	return &replicas{source: source, dir: dir, version: version}
}

func (r *replicas) start(ctx context.Context) error {
	for _, master := range r.source.Masters() {
		n, err := redistest.StartServer(ctx, redistest.ServerConfig{
			Version: r.version.name, Dir: r.dir, Args: append([]string{"--replicaof", "127.0.0.1", strconv.Itoa(master.Port())}, r.version.args...),
		})
		if err != nil {
			return fmt.Errorf("start replica: %w", err)
		}
		r.nodes = append(r.nodes, n)
	}
	r.add(groupReplicas, processes(r.nodes)...)
	return nil
}

func (r *replicas) copies() nodes { return r.nodes }

func (r *replicas) close() error {
	var errs []error
	for _, n := range r.nodes {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}
