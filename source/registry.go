package source

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/topology"
)

// registry numbers the shards. It is written under the connector's own transactional id, so that a worker that was
// fenced cannot number anything.
type registry struct {
	cfg   *Config
	adm   *kadm.Client
	topic kafka.Topic
	state offsets.Registry
	// fresh are the shards that were numbered by this worker.
	fresh map[event.Shard]bool
}

// open fences the connector and reads the registry.
func (r *registry) open(ctx context.Context) (*kgo.Client, error) {
	cl, err := r.cfg.Kafka.Client(
		kgo.TransactionalID(r.cfg.Connector),
		kgo.TransactionTimeout(r.cfg.TransactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return nil, err
	}
	if err := r.read(ctx, cl); err != nil {
		cl.Close()
		return nil, err
	}
	return cl, nil
}

func (r *registry) read(ctx context.Context, cl *kgo.Client) error {
	producerID, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("fence connector %s: %w", r.cfg.Connector, err)
	}
	topic := offsets.Topic(r.cfg.Prefix)
	if err := kafka.Seal(ctx, cl, producerID, epoch, map[string]int32{topic: 1 + offsets.RegistryPartition}); err != nil {
		return err
	}
	if _, err := kafka.EndHanging(ctx, cl, producerID, topic); err != nil {
		return err
	}
	state, err := r.stored(ctx)
	if err != nil {
		return err
	}
	r.state = offsets.Registry{TopicID: r.topic.ID, Partitions: r.topic.Partitions}
	if state.Registry == nil {
		return r.mustBeEmpty(ctx)
	}
	r.state = *state.Registry
	if r.state.Partitions != r.topic.Partitions {
		return &PartitionsError{Topic: r.topic.Name, Have: r.topic.Partitions, Want: r.state.Partitions}
	}
	r.state.TopicID = r.topic.ID
	return nil
}

// stored reads what the offsets topic says of the connector.
func (r *registry) stored(ctx context.Context) (state offsets.State, err error) {
	topic := offsets.Topic(r.cfg.Prefix)
	spans, err := kafka.Spans(ctx, r.adm, topic)
	if err != nil {
		return state, err
	}
	span := map[int32]kafka.Span{offsets.RegistryPartition: spans[offsets.RegistryPartition]}
	err = r.cfg.Kafka.ReadCommitted(ctx, topic, span, func(rec *kgo.Record) error {
		return state.Apply(r.cfg.Connector, rec.Key, rec.Value)
	})
	if err != nil {
		return state, fmt.Errorf("read registry of connector %s: %w", r.cfg.Connector, err)
	}
	return state, nil
}

// mustBeEmpty: a log that holds records and a registry that does not know of them cannot go on with each other.
func (r *registry) mustBeEmpty(ctx context.Context) error {
	spans, err := kafka.Spans(ctx, r.adm, r.topic.Name)
	if err != nil {
		return err
	}
	for p, s := range spans {
		if s.End > 0 {
			return stop(fmt.Errorf("check topic %s: %w: partition %d holds records, and %s knows nothing of connector %s: "+
				"either the log belongs to another connector, or the offsets topic was lost; use a new topic.prefix, or delete both topics",
				r.topic.Name, ErrUnknownLog, p, offsets.Topic(r.cfg.Prefix), r.cfg.Connector))
		}
	}
	return nil
}

// own checks that no other worker has taken the connector over.
func (r *registry) own(ctx context.Context) error {
	state, err := r.stored(ctx)
	if err != nil {
		return err
	}
	if state.Registry == nil || state.Registry.Owner != r.state.Owner {
		return stop(fmt.Errorf("%w: connector %s", ErrTakenOver, r.cfg.Connector))
	}
	return nil
}

// ErrTakenOver tells that another worker publishes for the connector now.
var ErrTakenOver = errors.New("another worker has taken over")

// ErrUnknownLog tells that the data topic holds records and the offsets topic nothing of the connector.
var ErrUnknownLog = errors.New("the log is not known")

// PartitionsError tells that the data topic has another number of partitions than when the connector began.
type PartitionsError struct {
	Topic      string
	Have, Want int32
}

func (e *PartitionsError) Error() string {
	return fmt.Sprintf("check topic %s: it has %d partitions, and this connector began with %d: "+
		"the number maps slots to partitions and cannot change, or the order of every key is lost; use a new topic.prefix", e.Topic, e.Have, e.Want)
}

// number gives each shard of the topology its number. A shard is known by a replication ID, then by a node, then by its
// shard id; replIDs tells the histories of each master by node id.
func (r *registry) number(t *topology.Topology, replIDs map[string][]event.ReplID) map[event.Shard]topology.Shard {
	taken := map[event.Shard]topology.Shard{}
	known := r.recognise(t.Shards, replIDs)
	r.fresh = map[event.Shard]bool{}
	for n, s := range t.Shards {
		if s.Slots.IsEmpty() {
			continue
		}
		i, ok := known[n]
		if !ok {
			r.state.Shards = append(r.state.Shards, offsets.Known{Shard: r.next()})
			i = len(r.state.Shards) - 1
			r.fresh[r.state.Shards[i].Shard] = true
		}
		k := &r.state.Shards[i]
		k.ShardID, k.Slots, k.Gone = cmp.Or(s.ShardID, k.ShardID), s.Slots.String(), false
		k.NodeIDs = nodeIDs(s)
		k.ReplIDs = mergeReplIDs(replIDs[s.Master.ID], k.ReplIDs)
		taken[k.Shard] = s
	}
	for i := range r.state.Shards {
		if _, ok := taken[r.state.Shards[i].Shard]; !ok {
			r.state.Shards[i].Gone = true
		}
	}
	return taken
}

const keptReplIDs = 8

func mergeReplIDs(newest, known []event.ReplID) []event.ReplID {
	out := slices.Clone(newest)
	for _, id := range known {
		if !slices.Contains(out, id) && len(out) < keptReplIDs {
			out = append(out, id)
		}
	}
	return out
}

func (r *registry) next() event.Shard {
	var last event.Shard
	for _, k := range r.state.Shards {
		last = max(last, k.Shard)
	}
	return last + 1
}

func nodeIDs(s topology.Shard) []string {
	ids := []string{s.Master.ID}
	for _, n := range s.Replicas {
		ids = append(ids, n.ID)
	}
	return ids
}

// recognise finds for shards of the topology, by their index, what the registry knows of them. The surest sign goes first
// for all of them: a replica that moved to another shard must not take its number along.
func (r *registry) recognise(shards []topology.Shard, replIDs map[string][]event.ReplID) map[int]int {
	found, used := map[int]int{}, map[int]bool{}
	for _, same := range []func(offsets.Known, topology.Shard) bool{
		func(k offsets.Known, s topology.Shard) bool { return intersect(k.ReplIDs, replIDs[s.Master.ID]) },
		func(k offsets.Known, s topology.Shard) bool { return slices.Contains(k.NodeIDs, s.Master.ID) },
		func(k offsets.Known, s topology.Shard) bool { return intersect(k.NodeIDs, nodeIDs(s)) },
		func(k offsets.Known, s topology.Shard) bool { return k.ShardID != "" && k.ShardID == s.ShardID },
	} {
		for n, s := range shards {
			if _, ok := found[n]; ok || s.Slots.IsEmpty() {
				continue
			}
			for i, k := range r.state.Shards {
				if !used[i] && same(k, s) {
					found[n], used[i] = i, true
					break
				}
			}
		}
	}
	return found
}

func intersect[T comparable](a, b []T) bool {
	return slices.ContainsFunc(a, func(v T) bool { return slices.Contains(b, v) })
}

// write commits the registry.
func (r *registry) write(ctx context.Context, cl *kgo.Client) error {
	r.state.Owner = rand.Text()
	key, value, err := offsets.RegistryRecord(r.cfg.Connector, r.state)
	if err != nil {
		return err
	}
	if err := writeAlone(ctx, cl, offsetsRecord(r.cfg.Prefix, offsets.RegistryPartition, key, value)); err != nil {
		return fmt.Errorf("write registry: %w", err)
	}
	return nil
}

// writeAlone commits one record in a transaction of its own.
func writeAlone(ctx context.Context, cl *kgo.Client, rec *kgo.Record) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	// Not ProduceSync: the client holds on to a record that may be in the log until a broker answers, whatever its context.
	produced := make(chan error, 1)
	cl.Produce(ctx, rec, func(_ *kgo.Record, err error) { produced <- err })
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-produced:
		if err != nil {
			return errors.Join(err, cl.EndTransaction(ctx, kgo.TryAbort))
		}
	}
	return cl.EndTransaction(ctx, kgo.TryCommit)
}
