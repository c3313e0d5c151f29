package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// system makes a copy of a source.
type system interface {
	// start begins with copying; it does not wait.
	start(ctx context.Context) error
	// copies are the servers that hold the copy.
	copies() nodes
	// groups are the processes that run for it. It may be called at any time, from any goroutine.
	groups() []group
	// check returns an error when a process has ended that should not have.
	check() error
	close() error
}

// group is processes that are counted together.
type group struct {
	name  string
	procs []*proc.Process
}

// groupList is the part that systems have in common.
type groupList struct {
	mu  sync.Mutex
	all []group
}

func (l *groupList) add(name string, procs ...*proc.Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, group{name, procs})
}

func (l *groupList) groups() []group {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]group(nil), l.all...)
}

const logLines = 30

func (l *groupList) check() error {
	for _, g := range l.groups() {
		for _, p := range g.procs {
			if !p.Running() {
				return fmt.Errorf("%s ended: %w\n%s", g.name, p.Wait(), p.LogTail(logLines))
			}
		}
	}
	return nil
}

// Names of groups, which are names of measures too.
const (
	groupSource   = "redriver source"
	groupSink     = "redriver sink"
	groupTarget   = "target servers (3)"
	groupKafka    = "Kafka broker"
	groupReplicas = "Redis replicas"
)

// targetOf names the target servers of a peer.
func targetOf(peer string) string { return "target servers, " + peer }

// forks are how often each master has forked.
func forks(ctx context.Context, source *redistest.Cluster) ([]int64, error) {
	var all []int64
	for _, m := range source.Masters() {
		n, err := infoField(ctx, m, "stats", "total_forks")
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// awaitForks waits until every master has forked once more than before: what is written from then on comes behind the
// snapshot, not in it.
func awaitForks(ctx context.Context, source *redistest.Cluster, before []int64, sys system) error {
	return await(ctx, sys, "all masters to make their snapshots", func() (string, error) {
		now, err := forks(ctx, source)
		if err != nil {
			return "", err
		}
		var missing []string
		for i, m := range source.Masters() {
			if now[i] <= before[i] {
				missing = append(missing, m.Addr())
			}
		}
		if len(missing) > 0 {
			return "not yet: " + strings.Join(missing, ", "), nil
		}
		return "", nil
	})
}

const (
	awaitPoll    = 5 * time.Millisecond
	awaitTimeout = 10 * time.Minute
)

// await polls until pending is "". It ends early when a process of the system has ended.
func await(ctx context.Context, sys system, what string, check func() (pending string, err error)) error {
	deadline := time.Now().Add(awaitTimeout)
	for {
		pending, err := check()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if pending == "" {
			return nil
		}
		if err := sys.check(); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s: not so after %v: %s", what, awaitTimeout, pending)
		}
		if err := pause(ctx, awaitPoll); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
