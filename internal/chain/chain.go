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

const maxJoinedBytes = 512 << 20

// Checker follows the partitions of one topic. The zero value has seen nothing. One goroutine.
type Checker struct {
	// Mutate, if set, is asked about every record: it may drop one (0) or repeat it (2). It proves that the check can
	// fail.
	Mutate func(*kgo.Record) (times int)

	marks   map[lane]*event.Mark
	joiners map[int32]*codec.Joiner
	// Counts by kind of event, and the newest generation of each shard.
	Counts      map[event.Kind]int
	Generations map[event.Shard]event.Generation
	Records     int
}

type lane struct {
	partition int32
	shard     event.Shard
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
		c.marks, c.joiners = map[lane]*event.Mark{}, map[int32]*codec.Joiner{}
		c.Counts, c.Generations = map[event.Kind]int{}, map[event.Shard]event.Generation{}
	}
	c.Records++
	value := r.Value
	if codec.IsChunk(value) {
		j := c.joiners[r.Partition]
		if j == nil {
			j = &codec.Joiner{MaxBytes: maxJoinedBytes}
			c.joiners[r.Partition] = j
		}
		joined, done, err := j.Add(value)
		if err != nil || !done {
			return err
		}
		value = joined
	}
	var e event.Event
	if err := codec.DecodeRaw(r.Key, value, &e); err != nil {
		return err
	}
	k := lane{r.Partition, e.Shard}
	m := c.marks[k]
	if m == nil {
		m = &event.Mark{}
		c.marks[k] = m
	}
	if err := m.Follow(&e); err != nil {
		return err
	}
	c.Counts[e.Kind]++
	c.Generations[e.Shard] = max(c.Generations[e.Shard], e.Generation)
	return nil
}

// Follow checks the topic from its start until ctx is done.
func (c *Checker) Follow(ctx context.Context, cfg kafka.Config, topic string) error {
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
			if err := c.Check(it.Next()); err != nil {
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
	return err
}
