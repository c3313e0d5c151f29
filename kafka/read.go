package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	readMaxWait  = 100 * time.Millisecond
	readMaxBytes = 16 << 20
	readPause    = 20 * time.Millisecond
	// readStall is how long a read may stand still.
	readStall = 30 * time.Second
)

// ErrStandsStill tells that a read came no further.
var ErrStandsStill = errors.New("no further")

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
		if errors.Is(end.Err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p, ErrNoTopic)
		}
		if err := errors.Join(end.Err, start.Err); err != nil {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p, err)
		}
		if !ok {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p, ErrNoTopic)
		}
		spans[p] = Span{Start: start.Offset, End: end.Offset}
	}
	if len(spans) == 0 {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, ErrNoTopic)
	}
	return spans, nil
}

// ReadCommitted reads spans of a topic and hands every committed record to fn, in order within its partition. It waits
// for open transactions inside the spans, and gives up with ErrStandsStill when it has come no further for 30 s.
//
// It fetches by itself in place of a consumer, because it has to know when it has seen everything: a consumer says
// nothing of aborted records, and where they end a span, with no record behind them, it would wait for ever.
func (c Config) ReadCommitted(ctx context.Context, topic string, spans map[int32]Span, fn func(*kgo.Record) error) error {
	return c.readCommitted(ctx, topic, spans, readStall, fn)
}

func (c Config) readCommitted(ctx context.Context, topic string, spans map[int32]Span, stall time.Duration, fn func(*kgo.Record) error) error {
	r := spanReader{spans: spans, next: map[int32]int64{}, stable: map[int32]int64{}, fn: fn, topic: topic}
	for p, s := range spans {
		if s.Start < s.End {
			r.next[p] = s.Start
		}
	}
	if len(r.next) == 0 {
		return nil
	}
	cl, err := c.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	for last := time.Now(); len(r.next) > 0; {
		progress, err := r.round(ctx, cl)
		if progress {
			last = time.Now()
		} else if err == nil && time.Since(last) > stall {
			err = r.standsStill(stall)
		}
		if err != nil {
			return fmt.Errorf("read %d partitions of %s to their ends: %w", len(r.next), topic, err)
		}
	}
	return nil
}

type spanReader struct {
	topic string
	spans map[int32]Span
	next  map[int32]int64 // of the partitions that are not read to their ends
	fn    func(*kgo.Record) error
	// stable are the last stable offsets that leaders told.
	stable map[int32]int64
}

func (r *spanReader) standsStill(since time.Duration) error {
	p := slices.Min(slices.Collect(maps.Keys(r.next)))
	why := "its leader gives nothing"
	if stable, ok := r.stable[p]; ok && stable < r.spans[p].End {
		why = "waiting for the end of a transaction that is open there (kafka-transactions.sh describe-producers tells whose)"
	}
	return fmt.Errorf("partition %d at offset %d of %d, %w for %s: %s", p, r.next[p], r.spans[p].End, ErrStandsStill, since, why)
}

// round asks every leader once. A leader that has moved or does not answer is asked again in the next round.
func (r *spanReader) round(ctx context.Context, cl *kgo.Client) (progress bool, err error) {
	topics, err := kadm.NewClient(cl).ListTopics(ctx, r.topic)
	if err != nil {
		return false, fmt.Errorf("find leaders: %w", err)
	}
	t := topics[r.topic]
	if t.Err != nil {
		return false, fmt.Errorf("find leaders: %w", t.Err)
	}
	byLeader := map[int32][]int32{}
	for p := range r.next {
		byLeader[t.Partitions[p].Leader] = append(byLeader[t.Partitions[p].Leader], p)
	}
	for leader, partitions := range byLeader {
		if leader < 0 {
			continue
		}
		resp, err := cl.Broker(int(leader)).RetriableRequest(ctx, r.request(kmsg.FetchRequestTopic{Topic: r.topic, TopicID: t.ID}, partitions))
		if err != nil {
			return false, fmt.Errorf("fetch: %w", err)
		}
		moved, err := r.takeAll(resp.(*kmsg.FetchResponse))
		if err != nil {
			return false, err
		}
		progress = progress || moved
	}
	if progress {
		return true, nil
	}
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-time.After(readPause):
		return false, nil
	}
}

func (r *spanReader) takeAll(resp *kmsg.FetchResponse) (progress bool, err error) {
	size := 0
	for _, topic := range resp.Topics {
		for i := range topic.Partitions {
			size += len(topic.Partitions[i].RecordBatches)
		}
	}
	for _, topic := range resp.Topics {
		for i := range topic.Partitions {
			moved, err := r.take(&topic.Partitions[i], size == 0)
			if err != nil {
				return false, err
			}
			progress = progress || moved
		}
	}
	return progress, nil
}

func (r *spanReader) request(topic kmsg.FetchRequestTopic, partitions []int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(readMaxWait/time.Millisecond), 1, readMaxBytes
	req.IsolationLevel, req.SessionEpoch = 1, -1
	for _, p := range partitions {
		fp := kmsg.NewFetchRequestTopicPartition()
		fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = p, r.next[p], readMaxBytes/4
		topic.Partitions = append(topic.Partitions, fp)
	}
	req.Topics = append(req.Topics, topic)
	return req
}

// take hands over what a leader sent of one partition, and tells whether there was anything. nothing: the leader sent
// nothing of any partition; of one alone that says little, because the others may have filled the answer.
func (r *spanReader) take(rp *kmsg.FetchResponseTopicPartition, nothing bool) (progress bool, err error) {
	p, span := rp.Partition, r.spans[rp.Partition]
	from, ok := r.next[p]
	if !ok {
		return false, nil
	}
	opts := kgo.ProcessFetchPartitionOpts{Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: r.topic, Partition: p}
	fp, next := kgo.ProcessFetchPartition(opts, rp, kgo.DefaultDecompressor(), nil)
	switch {
	case errors.Is(fp.Err, kerr.OffsetOutOfRange):
		next = max(fp.LogStartOffset, from+1) // retention was faster
		r.next[p] = next
	case kerr.IsRetriable(fp.Err):
		return false, nil
	case fp.Err != nil:
		return false, fmt.Errorf("fetch partition %d: %w", p, fp.Err)
	default:
		r.next[p] = max(next, from)
	}
	r.stable[p] = fp.LastStableOffset
	for _, rec := range fp.Records {
		if rec.Offset < span.End {
			if err := r.fn(rec); err != nil {
				return false, err
			}
		}
	}
	// Behind the last stable offset nothing is decided; before it, an empty answer says that compaction has emptied the rest.
	drained := nothing && fp.Err == nil && fp.LastStableOffset >= span.End
	if r.next[p] >= span.End || drained {
		delete(r.next, p)
	}
	return next > from || drained, nil
}
