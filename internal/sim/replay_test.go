package sim

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// model is the simplest reader of a log there can be: it carries out what it reads.
type model struct {
	data  *engine
	check chain.Checker
	join  codec.Joiner
	// open are the keys that the snapshot under way has named, by lane and partition.
	open  map[lanePartition]map[string]bool
	whole map[lanePartition]bool // a snapshot has ended
	again int                    // snapshots that were begun after one had ended
}

type lanePartition struct {
	shard     event.Shard
	partition int32
}

func newModel() *model {
	m := &model{data: newEngine(), open: map[lanePartition]map[string]bool{}, whole: map[lanePartition]bool{}}
	m.data.passive = true
	return m
}

// replay reads the whole log.
func (w *world) replay() (*model, error) {
	m := newModel()
	cfg := w.kafkaConfig(w.net.host("reader"))
	adm, err := cfg.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	topic := offsets.ChangesTopic(prefix)
	spans, err := kafka.Spans(context.Background(), adm, topic)
	if err != nil {
		return nil, err
	}
	return m, cfg.ReadCommitted(context.Background(), topic, spans, m.take)
}

func (m *model) take(r *kgo.Record) error {
	if err := m.check.Check(r); err != nil {
		return err
	}
	value := r.Value
	if codec.IsChunk(value) {
		whole, done, err := m.join.Add(value)
		if err != nil || !done {
			return err
		}
		value = whole
	}
	var e event.Event
	if err := codec.DecodeRaw(r.Key, value, &e); err != nil {
		return err
	}
	if !codec.IsChunk(r.Value) {
		m.join.Drop(e.Shard)
	}
	if err := m.event(r.Partition, &e); err != nil {
		return fmt.Errorf("replay %s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	return nil
}

func (m *model) event(partition int32, e *event.Event) error {
	at := lanePartition{e.Shard, partition}
	switch e.Kind {
	case event.SnapshotBegin:
		m.open[at] = map[string]bool{}
		if m.whole[at] {
			m.again++
		}
	case event.Entry:
		v, err := decodeValue(e.Type, e.Value, int(e.RDBVersion))
		if err != nil {
			return err
		}
		v.expireAt = e.ExpireAtMs
		m.data.keys[string(e.Key)] = v
		m.open[at][string(e.Key)] = true
	case event.SnapshotEnd:
		for k := range m.data.keys {
			if in(e.Slots, slot.Of([]byte(k))) && !m.open[at][k] {
				delete(m.data.keys, k)
			}
		}
		delete(m.open, at)
		m.whole[at] = true
	case event.Flush:
		for k := range m.data.keys {
			if in(e.Slots, slot.Of([]byte(k))) {
				delete(m.data.keys, k)
			}
		}
	case event.Unit:
		return m.unit(e)
	default:
	}
	return nil
}

func in(ranges []slot.Range, s slot.Slot) bool {
	for _, r := range ranges {
		if s >= r.First && s <= r.Last {
			return true
		}
	}
	return false
}

func (m *model) unit(e *event.Event) error {
	n := uint32(0)
	for rest := e.Commands; len(rest) > 0; n++ {
		size, args, err := resp.ParseCommand(rest, nil)
		if err != nil {
			return err
		}
		rest = rest[size:]
		if isWord(args[0], "SELECT") {
			continue
		}
		reply, changed, ok := m.data.do(args)
		// What is in the stream has taken effect at the master.
		if !ok || !changed || strings.HasPrefix(string(reply), "-") {
			return fmt.Errorf("%q has no effect here: %q", args, reply)
		}
	}
	if n != e.Count {
		return fmt.Errorf("%d commands, not %d", n, e.Count)
	}
	return nil
}
