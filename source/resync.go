package source

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
)

// errAsked is why a lane takes a snapshot though nothing is wrong.
var errAsked = errors.New("a new snapshot was asked for")

// askAttempts is how often a running lane may fence us before we have asked.
const askAttempts = 5

// Resync asks every shard of the connector for a new snapshot, and returns how many it has asked. A source that runs takes it
// at once, one that does not when it is started. It writes into the lanes' positions, as their successor: a running lane is
// fenced, and reads its position again.
func (s *Source) Resync(ctx context.Context) (int, error) {
	adm, err := s.cfg.Kafka.Admin()
	if err != nil {
		return 0, err
	}
	defer adm.Close()
	topic, err := kafka.Describe(ctx, adm, offsets.ChangesTopic(s.cfg.Prefix))
	if err != nil {
		return 0, err
	}
	reg := &registry{cfg: &s.cfg, adm: adm, topic: topic}
	state, err := reg.stored(ctx)
	if err != nil {
		return 0, err
	}
	if state.Registry == nil {
		return 0, fmt.Errorf("ask for a snapshot: no connector called %s has ever written to topic %s", s.cfg.Connector, topic.Name)
	}
	asked := 0
	for _, known := range state.Registry.Shards {
		if known.Gone {
			continue
		}
		l := &lane{cfg: &s.cfg, adm: adm, shard: known.Shard}
		for attempt := 1; ; attempt++ {
			err := askShard(ctx, l)
			if err == nil {
				asked++
				break
			}
			if ctx.Err() != nil || attempt == askAttempts {
				return asked, fmt.Errorf("ask shard %d for a snapshot: %w", known.Shard, err)
			}
		}
	}
	return asked, nil
}

func askShard(ctx context.Context, l *lane) error {
	cl, err := l.cfg.Kafka.Client(
		kgo.TransactionalID(offsets.TransactionalID(l.cfg.Connector, l.shard)),
		kgo.TransactionTimeout(l.cfg.TransactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	producerID, _, err := cl.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if _, err := kafka.EndHanging(ctx, cl, producerID, offsets.Topic(l.cfg.Prefix)); err != nil {
		return err
	}
	pos, err := l.position(ctx)
	if err != nil || pos.Generation == 0 {
		return err // what has no position takes a snapshot anyway
	}
	pos.Renew = true
	key, value, err := offsets.PositionRecord(l.cfg.Connector, pos)
	if err != nil {
		return err
	}
	return writeAlone(ctx, cl, offsetsRecord(l.cfg.Prefix, offsets.LanePartition(l.shard), key, value))
}
