package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
)

// Headers of a dead letter, behind those of the record itself. All are text but the key, which is the whole key of what the
// target cannot have: of a transaction that need not be the one the record is named after.
const (
	HeaderSink      = "redriver.sink"
	HeaderTopic     = "redriver.topic"
	HeaderPartition = "redriver.partition"
	HeaderOffset    = "redriver.offset"
	HeaderCause     = "redriver.cause"
	HeaderType      = "redriver.type" // of the value, or the name of the command
	HeaderKey       = "redriver.key"
)

// lack is something that the target has no room for.
type lack struct {
	what string
	// of is the type of the value, or the name of the command.
	of  string
	key []byte
}

// deadLetter is an event that is not carried whole, and what it lacked first.
type deadLetter struct {
	lack lack
	// record is the event's, or its last chunk.
	record *kgo.Record
	// chunks are those of the event, if it has any.
	chunks  chunkSpan
	chunked bool
}

// deadLetters brings events that the target has no room for into the topic <prefix>.dead, as they stand in the log.
//
// They are there before anything of their batch goes to the target, so before the checkpoint or watermark that passes them:
// at least once. An event in chunks is read from the log again when its end is known, so that none of it is held.
type deadLetters struct {
	s     *Sink
	cl    *kgo.Client
	topic kafka.Topic
}

const (
	// deadHeadroom is for the headers, of which the key is the largest.
	deadHeadroom      = 1 << 20
	deadBufferedBytes = 4 << 20
	deadTimeout       = 30 * time.Second
)

// openDead creates the topic, or checks it, and opens a producer.
func (s *Sink) openDead(ctx context.Context) (*deadLetters, error) {
	for {
		d, err := s.tryOpenDead(ctx)
		if err == nil {
			return d, nil
		}
		_, mismatch := errors.AsType[*kafka.MismatchError](err)
		if e, ok := errors.AsType[*kerr.Error](err); mismatch || ok && !e.Retriable {
			return nil, classed(Stop, "open the topic of dead letters: %w", err)
		}
		s.warnUnless(ctx, "waiting for the topic of dead letters", err)
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(topicPoll):
		}
	}
}

func (s *Sink) tryOpenDead(ctx context.Context) (*deadLetters, error) {
	changes, err := kafka.Refresh(ctx, s.adm, s.topic.Name)
	if err != nil {
		return nil, err
	}
	need := changes.MaxMessageBytes + deadHeadroom
	spec := kafka.TopicSpec{
		Name: offsets.DeadTopic(s.cfg.Prefix), Partitions: changes.Partitions,
		// Compaction would leave one chunk of each key.
		Settings: map[string]string{"cleanup.policy": "delete"}, Binding: []string{"cleanup.policy"},
	}
	switch have, err := kafka.Describe(ctx, s.adm, spec.Name); {
	case errors.Is(err, kafka.ErrNoTopic):
		spec.Settings["max.message.bytes"] = strconv.Itoa(need)
		spec.Settings["retention.ms"] = "-1" // until somebody has looked
	case err != nil:
		return nil, err
	default:
		spec.Partitions = have.Partitions
	}
	topic, err := kafka.Ensure(ctx, s.adm, spec)
	if err != nil {
		return nil, err
	}
	if topic.MaxMessageBytes < need {
		return nil, &kafka.MismatchError{
			Topic: topic.Name, What: "max.message.bytes", Have: strconv.Itoa(topic.MaxMessageBytes), Want: fmt.Sprintf("at least %d", need),
			Hint: "what fits the log has to fit here, with its headers: set it with kafka-configs",
		}
	}
	cl, err := s.cfg.Kafka.Client(
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(int32(need)),
		kgo.MaxBufferedBytes(max(deadBufferedBytes, 2*need)), kgo.RecordDeliveryTimeout(deadTimeout),
	)
	if err != nil {
		return nil, err
	}
	return &deadLetters{s: s, cl: cl, topic: topic}, nil
}

// send returns when all of them are committed in Kafka.
func (d *deadLetters) send(ctx context.Context, partition int32, letters []deadLetter) error {
	var mu sync.Mutex
	var failed error
	produce := func(r *kgo.Record, l lack) {
		d.cl.Produce(ctx, d.letter(r, l), func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if failed == nil {
				failed = err
			}
		})
	}
	for _, l := range letters {
		if !l.chunked {
			produce(l.record, l.lack)
			continue
		}
		if err := d.s.eachChunk(ctx, partition, l.chunks, func(r *kgo.Record, _ *codec.Chunk) error {
			produce(r, l.lack)
			return nil
		}); err != nil {
			return err
		}
	}
	if err := d.cl.Flush(ctx); err != nil {
		return fmt.Errorf("write dead letters: %w", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if e, ok := errors.AsType[*kerr.Error](failed); ok && !e.Retriable {
		return classed(Stop, "write dead letters into %s: %w", d.topic.Name, failed)
	}
	if failed != nil {
		return fmt.Errorf("write dead letters into %s: %w", d.topic.Name, failed)
	}
	return nil
}

// letter is a record of the log with what is to be known about it.
func (d *deadLetters) letter(r *kgo.Record, l lack) *kgo.Record {
	number := func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	return &kgo.Record{
		Topic: d.topic.Name, Partition: r.Partition % d.topic.Partitions, Key: r.Key, Value: r.Value,
		Headers: append(slices.Clip(r.Headers),
			kgo.RecordHeader{Key: HeaderSink, Value: []byte(d.s.cfg.Name)},
			kgo.RecordHeader{Key: HeaderTopic, Value: []byte(d.s.topic.Name)},
			kgo.RecordHeader{Key: HeaderPartition, Value: number(int64(r.Partition))},
			kgo.RecordHeader{Key: HeaderOffset, Value: number(r.Offset)},
			kgo.RecordHeader{Key: HeaderCause, Value: []byte("the target has no " + l.what)},
			kgo.RecordHeader{Key: HeaderType, Value: []byte(l.of)},
			kgo.RecordHeader{Key: HeaderKey, Value: l.key[:min(len(l.key), deadHeadroom/2)]},
		),
	}
}

// bury sends the dead letters of a batch.
func (w *worker) bury(ctx context.Context, letters []deadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	if err := w.s.dead.send(ctx, w.partition, letters); err != nil {
		return err
	}
	w.stat.dead.Add(int64(len(letters)))
	for _, l := range letters {
		w.log.Debug("dead letter", slog.Int64("offset", l.record.Offset), slog.String("lacks", l.lack.what))
	}
	return nil
}

// addDead puts the event that ends with the record into the batch's dead letters, if something of it was left out for them.
func (in *intake) addDead(b *batch, r *kgo.Record, l *lack) error {
	if l == nil {
		return nil
	}
	d := deadLetter{lack: *l, record: r}
	if codec.IsChunk(r.Value) {
		c, err := codec.ParseChunk(r.Value)
		if err != nil {
			return err
		}
		d.chunked, d.chunks = true, chunkSpan{in.firsts[c.Shard], r.Offset, c.Shard, c.Attempt}
	}
	b.dead = append(b.dead, d)
	return nil
}
