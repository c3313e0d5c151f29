package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	readMaxWait  = 100 * time.Millisecond
	readMaxBytes = 16 << 20
)

// Span is a stretch of a partition: records from Start up to, not including, End.
type Span struct{ Start, End int64 }

// Spans are the first offset and the high watermark of the topic's partitions.
//
// It is the high watermark and not the last stable offset: what a fenced predecessor committed can lie behind another
// producer's open transaction, and whoever stops reading before that publishes it again.
func Spans(ctx context.Context, adm *kadm.Client, topic string) (map[int32]Span, error) {
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("list end offsets of %s: %w", topic, err)
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("list start offsets of %s: %w", topic, err)
	}
	spans := map[int32]Span{}
	for p, end := range ends[topic] {
		start, ok := starts.Lookup(topic, p)
		if err := errors.Join(end.Err, start.Err); err != nil || !ok {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p, err)
		}
		spans[p] = Span{Start: start.Offset, End: end.Offset}
	}
	if len(spans) == 0 {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, ErrNoTopic)
	}
	return spans, nil
}

// ReadCommitted reads spans of a topic and hands every committed record to fn, in order within its partition. It waits
// for open transactions inside the spans, bounded by ctx alone.
func (c Config) ReadCommitted(ctx context.Context, topic string, spans map[int32]Span, fn func(*kgo.Record) error) error {
	from := map[int32]kgo.Offset{}
	for p, s := range spans {
		if s.Start < s.End {
			from[p] = kgo.NewOffset().At(s.Start)
		}
	}
	if len(from) == 0 {
		return nil
	}
	cl, err := c.Client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(readMaxWait),
		kgo.FetchMaxBytes(readMaxBytes),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(from) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("read %d partitions of %s to their ends: %w", len(from), topic, context.Cause(ctx))
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if r.Offset+1 >= spans[r.Partition].End {
				delete(from, r.Partition)
			}
			if r.Offset >= spans[r.Partition].End || r.Attrs.IsControl() {
				continue
			}
			if err := fn(r); err != nil {
				return err
			}
		}
	}
	return nil
}
