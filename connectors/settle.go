package connectors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/sink"
)

// SettleStall is how long nothing may move before a pipeline counts as stopped, unless told otherwise.
const SettleStall = time.Minute

// Settle waits until what the sources of these configurations hold now is at the targets of their sinks. The connectors
// run elsewhere: where they stand is read from Kafka alone. Writes that go on do not keep it from ending. When nothing
// moves for as long as stall, that is an error which names what is behind.
func Settle(ctx context.Context, stall time.Duration, cfgs ...*Config) error {
	for _, kind := range []string{KindSource, KindSink} { // all sources first: what they add is what the sinks have to reach
		found := false
		for _, cfg := range cfgs {
			for i := range cfg.Connectors {
				con := &cfg.Connectors[i]
				if con.Kind != kind {
					continue
				}
				found = true
				if err := cfg.settle(ctx, stall, con); err != nil {
					return fmt.Errorf("connector %s: %w", con.Name, err)
				}
			}
		}
		if !found {
			return fmt.Errorf("the configuration has no connector of type %s: nobody can tell how far the pipeline is; name all its files", kind)
		}
	}
	return nil
}

func (cfg *Config) settle(ctx context.Context, stall time.Duration, con *Connector) error {
	if con.Kind == KindSource {
		return cfg.settleSource(ctx, con, stall)
	}
	return cfg.settleSink(ctx, con, stall)
}

// stateOf reads from the offsets topic where a source connector stands.
func (cfg *Config) stateOf(ctx context.Context, con *Connector) (*offsets.State, error) {
	adm, err := cfg.Worker.Kafka.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	topic := offsets.Topic(con.Prefix())
	spans, err := kafka.Spans(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	var state offsets.State
	err = cfg.Worker.Kafka.ReadCommitted(ctx, topic, spans, func(rec *kgo.Record) error {
		return state.Apply(con.Name, rec.Key, rec.Value)
	})
	return &state, err
}

// settleSource waits until all that the masters have now is committed in Kafka.
func (cfg *Config) settleSource(ctx context.Context, con *Connector, stall time.Duration) error {
	goals, err := masterPositions(ctx, con)
	if err != nil {
		return err
	}
	return poll(ctx, stall, func() (behind []string, err error) {
		state, err := cfg.stateOf(ctx, con)
		if err != nil {
			return nil, err
		}
		at := map[event.ReplID]offsets.Position{}
		for _, p := range state.Positions {
			at[p.ReplID] = p
		}
		moved := false
		for addr, goal := range goals {
			p, ok := at[goal.ReplID]
			switch {
			case !ok:
				moved = true
				behind = append(behind, fmt.Sprintf("master %s: nothing of its replication ID %s is in Kafka", addr, goal.ReplID))
			case p.Snapshot != nil:
				behind = append(behind, fmt.Sprintf("master %s: its snapshot is at entry %d", addr, p.Snapshot.Entries))
			case p.Offset < goal.Offset:
				behind = append(behind, fmt.Sprintf("master %s: offset %d of %d is in Kafka", addr, p.Offset, goal.Offset))
			}
		}
		if moved { // a failover, perhaps: what the masters have now is later, so waiting for that is enough
			if now, err := masterPositions(ctx, con); err == nil {
				goals = now
			}
		}
		return behind, nil
	})
}

func masterPositions(ctx context.Context, con *Connector) (map[string]event.Position, error) {
	top, err := topology.Find(ctx, con.Dialer(), con.Seeds(), nil)
	if err != nil {
		return nil, err
	}
	goals := map[string]event.Position{}
	for i := range top.Shards {
		if sh := &top.Shards[i]; !sh.Slots.IsEmpty() {
			if goals[sh.Master.Addr], err = masterPosition(ctx, con, sh.Master.Addr); err != nil {
				return nil, err
			}
		}
	}
	return goals, nil
}

// settleSink waits until a sink has committed the log up to where it ends now.
func (cfg *Config) settleSink(ctx context.Context, con *Connector, stall time.Duration) error {
	adm, err := cfg.Worker.Kafka.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	topic := offsets.ChangesTopic(con.Prefix())
	spans, err := kafka.Spans(ctx, adm, topic)
	if err != nil {
		return err
	}
	return poll(ctx, stall, func() (behind []string, err error) {
		committed, err := adm.FetchOffsets(ctx, sink.GroupName(con.Name))
		if err != nil {
			return nil, fmt.Errorf("read the sink's commits: %w", err)
		}
		for p, span := range spans {
			at, ok := committed.Lookup(topic, p)
			if span.End > span.Start && (!ok || at.At < span.End) {
				behind = append(behind, fmt.Sprintf("partition %d: offset %d of %d is applied", p, max(at.At, 0), span.End))
			}
		}
		return behind, nil
	})
}

// poll waits until nothing is behind, or nothing has moved for too long.
func poll(ctx context.Context, stall time.Duration, look func() (behind []string, err error)) error {
	last, since := "", time.Now()
	for {
		behind, err := look()
		if err != nil || len(behind) == 0 {
			return err
		}
		slices.Sort(behind) // they come in the order of a map
		if now := strings.Join(behind, "; "); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > stall {
			text := strings.Join(behind[:min(len(behind), 3)], "; ")
			if more := len(behind) - 3; more > 0 {
				text += fmt.Sprintf("; and %d more", more)
			}
			return fmt.Errorf("nothing has moved for %s, is it running? %s", stall, text)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}
