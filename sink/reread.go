package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
)

// chunkSpan is where the chunks of an event stand in a partition: the offsets of its first and last, with others between.
type chunkSpan struct {
	first, last int64
	shard       event.Shard
	attempt     uint64
}

// eachChunk reads the chunks of an event from the log once more: what is too large to be held is passed over when it
// arrives, and read again when it is known to be whole.
func (s *Sink) eachChunk(ctx context.Context, partition int32, at chunkSpan, fn func(*kgo.Record, *codec.Chunk) error) error {
	var seq codec.Sequence
	whole := false
	span := map[int32]kafka.Span{partition: {Start: at.first, End: at.last + 1}}
	err := s.cfg.Kafka.ReadCommitted(ctx, s.topic.Name, span, func(r *kgo.Record) error {
		if !codec.IsChunk(r.Value) {
			return nil
		}
		c, err := codec.ParseChunk(r.Value)
		if err != nil || c.Shard != at.shard || c.Attempt != at.attempt {
			return err
		}
		if err := seq.Add(&c); err != nil {
			return err
		}
		whole = c.Last()
		return fn(r, &c)
	})
	if err == nil && !whole {
		err = errors.New("not all of them are there")
	}
	if err != nil {
		return fmt.Errorf("read chunks from partition %d offset %d again: %w", partition, at.first, err)
	}
	return nil
}
