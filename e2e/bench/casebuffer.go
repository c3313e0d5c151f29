package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/internal/testkit/redistest"
)

// bufferRate is the load while a snapshot is made, in writes per second; what the machine reaches of it is shown.
const (
	bufferRate   = 80_000
	bufferTick   = 2 * time.Millisecond
	bufferSample = 20 * time.Millisecond
	bufferAfter  = time.Second // how long the load goes on behind the snapshot
)

// A master from Redis 8.0 on sends a replica its snapshot by a channel of its own if both know how, and then has to buffer
// next to nothing. Valkey does so from 8.0 on where it is configured to, which a version with this suffix asks for.
const withChannel = "-channel"

func bufferServer(version string) serverVersion {
	name, ok := strings.CutSuffix(version, withChannel)
	if !ok {
		return serverVersion{name: name}
	}
	return serverVersion{name, []string{"--dual-channel-replication-enabled", "yes"}}
}

// buffers measures what a master has to hold back for its replica while it sends a snapshot under load.
func (b *bench) buffers(ctx context.Context) error {
	for _, version := range b.cfg.versions {
		on := setup{name: "buffer-" + version, version: bufferServer(version), systems: b.systems(false)}
		if err := b.compete(ctx, on, bufferUnderLoad); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) caseBuffer(version string) string {
	return fmt.Sprintf("The master's output buffer in a snapshot of %s strings under %s writes/s: %s", count(b.cfg.keys), count(bufferRate), version)
}

// unlimited is the limit of a replica's output buffer: how large it would become is what is asked.
const unlimited = "replica 0 0 0"

func bufferUnderLoad(ctx context.Context, c *contest) error {
	caseName := c.caseBuffer(strings.TrimPrefix(c.on.name, "buffer-"))
	c.say("%s: %s", caseName, c.name)
	if err := fillStrings(c.cfg.keys).write(ctx, c.source); err != nil {
		return err
	}
	for _, m := range c.source.Masters() {
		if err := m.Client().ConfigSet(ctx, "client-output-buffer-limit", unlimited).Err(); err != nil {
			return fmt.Errorf("lift limit of replicas: %w", err)
		}
	}
	forksBefore, err := forks(ctx, c.source)
	if err != nil {
		return err
	}
	var peak, inSnapshot atomic.Int64
	var written int64
	var loaded time.Duration
	g, ctx2 := errgroup.WithContext(ctx)
	loading, stopLoad := context.WithCancel(ctx2)
	defer stopLoad()
	g.Go(func() error { // ends with loading
		start := time.Now()
		var err error
		written, err = sets(c.cfg.keys, c.cfg.keys, 9).writePaced(loading, c.source, bufferRate, bufferTick)
		loaded = time.Since(start)
		return err
	})
	g.Go(func() error { return sampleBuffers(loading, c.source, &peak) }) // ends with loading
	g.Go(func() error {
		defer stopLoad()
		if err := pause(ctx2, bufferAfter); err != nil { // the load first
			return err
		}
		start := time.Now()
		if err := c.sys.start(ctx2); err != nil {
			return err
		}
		if err := awaitOnline(ctx2, c.source, c.sys); err != nil {
			return err
		}
		inSnapshot.Store(int64(time.Since(start)))
		return pause(ctx2, bufferAfter)
	})
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return err
	}
	if err := c.marks.applied(ctx, c.sys); err != nil {
		return err
	}
	forksAfter, err := forks(ctx, c.source)
	if err != nil {
		return err
	}
	var snapshots int64
	for i := range forksAfter {
		snapshots += forksAfter[i] - forksBefore[i]
	}
	m := measure{caseName: caseName, what: bufferOf + c.name, unit: "MB", value: float64(peak.Load()) / 1e6}
	if c.name != nameReplica {
		m.replica = bufferOf + nameReplica
	}
	c.add(m)
	c.add(measure{caseName: caseName, what: "until all are online, " + c.name, unit: "s", value: time.Duration(inSnapshot.Load()).Seconds()})
	c.add(measure{caseName: caseName, what: "snapshots, " + c.name, unit: "of all masters", value: float64(snapshots)})
	c.add(measure{caseName: caseName, what: "written, " + c.name, unit: "commands/s", value: float64(written) / loaded.Seconds()})
	return nil
}

const bufferOf = "largest buffer, "

// sampleBuffers notes the largest sum of what the masters hold back for their replicas, until ctx is done.
func sampleBuffers(ctx context.Context, source *redistest.Cluster, peak *atomic.Int64) error {
	for ctx.Err() == nil {
		var sum int64
		for _, m := range source.Masters() {
			text, err := m.Client().Do(ctx, "client", "list", "type", "replica").Text()
			if ctx.Err() != nil {
				return nil //nolint:nilerr // ended by us
			}
			if err != nil {
				return fmt.Errorf("list replicas: %w", err)
			}
			sum += replicaBuffers(text)
		}
		peak.Store(max(peak.Load(), sum))
		_ = pause(ctx, bufferSample) // the loop looks at ctx
	}
	return nil
}

// replicaBuffers sums up the output memory of all clients in the answer to CLIENT LIST.
func replicaBuffers(list string) (sum int64) {
	for field := range strings.FieldsSeq(list) {
		if v, ok := strings.CutPrefix(field, "omem="); ok {
			n, _ := strconv.ParseInt(v, 10, 64)
			sum += n
		}
	}
	return sum
}

// awaitOnline waits until every master has a replica that follows the stream.
func awaitOnline(ctx context.Context, source *redistest.Cluster, sys system) error {
	return await(ctx, sys, "all masters to have a replica online", func() (string, error) {
		for _, m := range source.Masters() {
			info, err := m.Client().Info(ctx, "replication").Result()
			if err != nil {
				return "", fmt.Errorf("ask %s: %w", m.Addr(), err)
			}
			if !strings.Contains(info, "state=online") {
				return m.Addr() + " has none", nil
			}
		}
		return "", nil
	})
}
