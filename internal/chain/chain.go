// Package chain reads a topic as any consumer would and checks the chain of every lane in every partition: a record that
// is missing or stands twice is found, whoever lost or repeated it. Tests run it beside whatever they do to a source.
package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
)

// Checker follows the partitions of one topic. The zero value has seen nothing. One goroutine.
type Checker struct {
	// Mutate, if set, is asked about every record: it may drop one (0) or repeat it (2). It proves that the check can
	// fail.
	Mutate func(*kgo.Record) (times int)

	marks  map[lane]*event.Mark
	chunks map[int32]*codec.Sequence
	begun  map[lane]*event.Event  // by chunks
	parts  map[transaction]uint32 // how many were seen, of transactions of which some are missing
	// Counts by kind of event, and the newest generation of each shard.
	Counts      map[event.Kind]int
	Generations map[event.Shard]event.Generation
	Records     int
	// Chunks are the records that are chunks, Abandoned the events that were begun and are not whole.
	Chunks, Abandoned int
}

type lane struct {
	partition int32
	shard     event.Shard
}

// transaction is a unit that travels in parts.
type transaction struct {
	shard      event.Shard
	generation event.Generation
	end        event.Offset
}

// Check takes the next record of its partition.
func (c *Checker) Check(r *kgo.Record) error {
	times := 1
	if c.Mutate != nil {
		times = c.Mutate(r)
	}
	for range times {
		if err := c.one(r); err != nil {
			return fmt.Errorf("%s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
		}
	}
	return nil
}

func (c *Checker) one(r *kgo.Record) error {
	if c.marks == nil {
		c.marks, c.chunks, c.begun = map[lane]*event.Mark{}, map[int32]*codec.Sequence{}, map[lane]*event.Event{}
		c.parts = map[transaction]uint32{}
		c.Counts, c.Generations = map[event.Kind]int{}, map[event.Shard]event.Generation{}
	}
	c.Records++
	e := &event.Event{}
	if codec.IsChunk(r.Value) {
		chunk, err := codec.ParseChunk(r.Value)
		if err != nil {
			return err
		}
		if e, err = c.chunk(r.Partition, &chunk); e == nil {
			return err
		}
	} else {
		if err := codec.DecodeRaw(r.Key, r.Value, e); err != nil {
			return err
		}
		if seq := c.chunks[r.Partition]; seq != nil {
			seq.Drop(e.Shard)
		}
	}
	k := lane{r.Partition, e.Shard}
	m := c.marks[k]
	if m == nil {
		m = &event.Mark{}
		c.marks[k] = m
	}
	if err := m.Follow(e); err != nil {
		return err
	}
	if e.Kind == event.Unit && e.Parts > 0 {
		c.part(e)
	}
	c.Counts[e.Kind]++
	c.Generations[e.Shard] = max(c.Generations[e.Shard], e.Generation)
	return nil
}

// part counts one of several parts. Two of them in one partition share their end, so its chain alone does not show that the
// second one is missing.
func (c *Checker) part(e *event.Event) {
	t := transaction{e.Shard, e.Generation, e.End}
	if c.parts[t]++; c.parts[t] == e.Parts {
		delete(c.parts, t)
	}
}

// chunk returns the event that is whole with this chunk, if any is.
func (c *Checker) chunk(partition int32, chunk *codec.Chunk) (*event.Event, error) {
	seq := c.chunks[partition]
	if seq == nil {
		seq = &codec.Sequence{}
		c.chunks[partition] = seq
	}
	if err := seq.Add(chunk); err != nil {
		return nil, err
	}
	c.Chunks++
	k := lane{partition, chunk.Shard}
	if chunk.First() {
		c.Abandoned++
		e := &event.Event{}
		if err := codec.DecodeHead(chunk.Piece, e); err != nil {
			return nil, err
		}
		c.begun[k] = e
	}
	if !chunk.Last() {
		return nil, nil
	}
	c.Abandoned--
	return c.begun[k], nil
}

// Follow checks the topic from its start until ctx is done.
func (c *Checker) Follow(ctx context.Context, cfg kafka.Config, topic string) error {
	return Consume(ctx, cfg, topic, c.Check)
}

// Consume hands every committed record of the topic to fn, from its start until ctx is done or fn fails.
func Consume(ctx context.Context, cfg kafka.Config, topic string, fn func(*kgo.Record) error) error {
	cl, err := cfg.Client(
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		for it := fetches.RecordIter(); !it.Done(); {
			if err := fn(it.Next()); err != nil {
				return err
			}
		}
	}
	return nil
}

// All checks the topic from its start to its end as of now.
func (c *Checker) All(ctx context.Context, cfg kafka.Config, topic string) error {
	adm, err := cfg.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	spans, err := kafka.Spans(ctx, adm, topic)
	if err != nil {
		return err
	}
	err = cfg.ReadCommitted(ctx, topic, spans, c.Check)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a transaction stays open: %w", err)
	}
	if err != nil {
		return err
	}
	for t, seen := range c.parts {
		return fmt.Errorf("%s: parts are missing of the transaction of shard %d that ends at %d, seen %d", topic, t.shard, t.end, seen)
	}
	return nil
}
