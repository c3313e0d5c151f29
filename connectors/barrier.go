package connectors

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/source"
)

const (
	barrierPoll    = 200 * time.Millisecond
	barrierTimeout = 5 * time.Second
)

// Barrier waits until everything that was written at the sources before the call is applied by the sinks of this
// process: first until each shard is committed up to its master's present offset, then until the sinks have applied the
// log up to where it ends then. Writes that go on do not keep it from ending.
func (r *Runner) Barrier(ctx context.Context) error {
	for {
		ok, err := r.sourcesPass(ctx)
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if err := pause(ctx); err != nil { // a shard is not streaming yet, or its history changed
			return err
		}
	}
	for _, t := range r.tasks {
		if t.cfg.Kind == KindSink {
			if err := r.sinkPasses(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// sourcesPass waits until all shards have committed what their masters have now; false if that cannot be told yet.
func (r *Runner) sourcesPass(ctx context.Context) (bool, error) {
	for _, t := range r.tasks {
		if t.cfg.Kind != KindSource {
			continue
		}
		goals := map[event.Shard]event.Position{}
		for _, sh := range r.shardsOf(t) {
			at, err := masterPosition(ctx, t.cfg, sh.Master)
			if err != nil || sh.Stage != source.StageStreaming {
				return false, ctx.Err()
			}
			goals[sh.Shard] = at
		}
		if len(goals) == 0 {
			return false, ctx.Err()
		}
		for {
			passed := 0
			for _, sh := range r.shardsOf(t) {
				goal := goals[sh.Shard]
				if sh.Committed.ReplID == goal.ReplID && sh.Committed.Offset >= goal.Offset {
					passed++
				} else if sh.Committed.Offset >= goal.Offset {
					return false, nil // another history: ask again
				}
			}
			if passed == len(goals) {
				break
			}
			if err := pause(ctx); err != nil {
				return false, err
			}
		}
		if ok, err := r.snapshotsDone(ctx, t, goals); !ok {
			return false, err
		}
	}
	return true, nil
}

// snapshotsDone asks the offsets topic: while a snapshot is published the position is its offset already, and only the
// record tells that entries of it are missing.
func (r *Runner) snapshotsDone(ctx context.Context, t *task, goals map[event.Shard]event.Position) (bool, error) {
	state, err := r.cfg.stateOf(ctx, t.cfg)
	if err != nil {
		return false, err
	}
	for shard, goal := range goals {
		p, ok := state.Position(t.cfg.Name, uint32(shard))
		if !ok || p.Snapshot != nil || p.ReplID != goal.ReplID || p.Offset < goal.Offset {
			return false, nil
		}
	}
	return true, nil
}

func (r *Runner) shardsOf(t *task) []source.Snapshot {
	t.mu.Lock()
	now := t.now
	t.mu.Unlock()
	var s Status
	now.fill(&s)
	return s.Shards
}

func masterPosition(ctx context.Context, c *Connector, addr string) (event.Position, error) {
	client := c.Dialer().Client(addr)
	defer func() { _ = client.Close() }() // read-only
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	text, err := client.Info(ctx, "replication").Result()
	if err != nil {
		return event.Position{}, fmt.Errorf("ask %s for its offset: %w", addr, err)
	}
	info := topology.ParseInfo(text)
	id, err := event.ParseReplID(info["master_replid"])
	if err != nil {
		return event.Position{}, fmt.Errorf("ask %s for its offset: %w", addr, err)
	}
	offset, err := strconv.ParseInt(info["master_repl_offset"], 10, 64)
	if err != nil {
		return event.Position{}, fmt.Errorf("ask %s for its offset: %w", addr, err)
	}
	return event.Position{ReplID: id, Offset: event.Offset(offset)}, nil
}

// sinkPasses waits until a sink has applied the log up to where it ends now.
func (r *Runner) sinkPasses(ctx context.Context, t *task) error {
	adm, err := r.cfg.Worker.Kafka.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	spans, err := kafka.Spans(ctx, adm, offsets.ChangesTopic(t.cfg.Prefix()))
	if err != nil {
		return err
	}
	for {
		passed := 0
		for _, p := range r.sinkOf(t).Partitions {
			if (p.State == sink.StateRunning || p.State == sink.StateSweeping) && p.Applied >= spans[p.Partition].End {
				passed++
			}
		}
		if passed == len(spans) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func (r *Runner) sinkOf(t *task) sink.Status {
	t.mu.Lock()
	now := t.now
	t.mu.Unlock()
	var s Status
	now.fill(&s)
	return s.Sink
}

// pause waits between two looks.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(barrierPoll):
		return nil
	}
}
