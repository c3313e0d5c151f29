package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
)

// logState is what a check saw of the data topic.
type logState struct {
	// ends of the partitions: what the lane publishes from now on lies behind them.
	ends map[int32]int64
	// generation is the highest of the shard that may lie in the log.
	generation event.Generation
}

// checkLog compares the position with the log: does the data topic end where the position says that the lane's chain
// ends? It does not after an unclean leader election, a topic that was deleted or restored, or a kill of an embedded
// broker between two commit markers. Then either the position or data is missing, and only a new generation is right.
//
// A position names the end of each partition before its own transaction, so no more than that transaction is read. It may
// begin or end inside a large event: of such one the records alone are counted. Pieces of an event that was given up are
// no event, and what is published next makes readers drop them.
func (l *lane) checkLog(ctx context.Context, pos offsets.Position) (logState, error) {
	found := logState{ends: map[int32]int64{}, generation: pos.Generation}
	spans, err := kafka.Spans(ctx, l.adm, l.topic.Name)
	if err != nil {
		return found, err
	}
	for p, s := range spans {
		found.ends[p] = s.End
	}
	if pos.Generation == 0 {
		if !l.known || l.untouched(spans) {
			return found, nil
		}
		// Nothing tells how many generations the log has seen. The clock is above any count of them.
		found.generation = event.Generation(time.Now().Unix())
		return found, resync(fmt.Errorf("shard %d was published before, and its position is not in %s", l.shard, offsets.Topic(l.cfg.Prefix)))
	}
	if pos.TopicID != l.topic.ID {
		return found, resync(fmt.Errorf("topic %s is another one than the position speaks of (id %s, not %s)", l.topic.Name, l.topic.ID, pos.TopicID))
	}
	read := map[int32]kafka.Span{}
	for p := range pos.Marks {
		s := spans[p]
		if s.End < pos.Ends[p] {
			return found, resync(fmt.Errorf("%s/%d ends at offset %d, and %d was committed there", l.topic.Name, p, s.End, pos.Ends[p]))
		}
		read[p] = kafka.Span{Start: max(s.Start, pos.Ends[p]), End: s.End}
	}
	seen, chunks, err := l.lastMarks(ctx, read)
	if err != nil {
		return found, err
	}
	for _, m := range seen {
		found.generation = max(found.generation, m.Generation)
	}
	wrote := map[int32]bool{}
	for _, p := range pos.Wrote {
		wrote[p] = true
	}
	for p, want := range pos.Marks {
		got, ok := seen[p]
		removed := spans[p].Start > pos.Ends[p]
		switch {
		case !ok && wrote[p] && removed:
			// Retention has removed it since.
		case chunks[p] != pos.Chunks[p] && !removed:
			return found, resync(fmt.Errorf("%s/%d behind offset %d: the position's transaction wrote %d pieces of large events, %d are there",
				l.topic.Name, p, pos.Ends[p], pos.Chunks[p], chunks[p]))
		case !ok && chunks[p] > 0:
			// Pieces alone, of an event that begins before or ends behind them.
		case ok != wrote[p]:
			return found, resync(fmt.Errorf("%s/%d behind offset %d: the position's transaction wrote there: %v, its records are there: %v",
				l.topic.Name, p, pos.Ends[p], wrote[p], ok))
		case ok && got != want:
			return found, resync(fmt.Errorf("%s/%d: the lane's chain ends at %+v, the position says %+v", l.topic.Name, p, got, want))
		}
	}
	return found, nil
}

// untouched tells whether nobody has ever written to the shard's partitions.
func (l *lane) untouched(spans map[int32]kafka.Span) bool {
	slots := l.owned()
	for p, ranges := range byPartition(&slots, int(l.topic.Partitions)) {
		if len(ranges) > 0 && spans[int32(p)].End > 0 {
			return false
		}
	}
	return true
}

// lastMarks reads the spans and returns where the lane's chain ends in each, and how many of its records are chunks. An
// event counts if all of it is there.
func (l *lane) lastMarks(ctx context.Context, spans map[int32]kafka.Span) (map[int32]event.Mark, map[int32]uint32, error) {
	seen, chunks := map[int32]event.Mark{}, map[int32]uint32{}
	orders, begun := map[int32]*codec.Sequence{}, map[int32]event.Mark{}
	var e event.Event
	err := l.cfg.Kafka.ReadCommitted(ctx, l.topic.Name, spans, func(r *kgo.Record) error {
		at := func(err error) error {
			return fmt.Errorf("read %s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
		}
		if !codec.IsChunk(r.Value) {
			if err := codec.DecodeHead(r.Value, &e); err != nil {
				return at(err)
			}
			if e.Shard == l.shard {
				seen[r.Partition] = after(seen[r.Partition], &e)
				delete(orders, r.Partition)
			}
			return nil
		}
		c, err := codec.ParseChunk(r.Value)
		if err != nil {
			return at(err)
		}
		if c.Shard != l.shard {
			return nil
		}
		chunks[r.Partition]++
		if orders[r.Partition] == nil {
			orders[r.Partition] = &codec.Sequence{}
		}
		if orders[r.Partition].Add(&c) != nil {
			return nil //nolint:nilerr // its event began before the span
		}
		if c.First() {
			if err := codec.DecodeHead(c.Piece, &e); err != nil {
				return at(err)
			}
			begun[r.Partition] = after(seen[r.Partition], &e)
		}
		if c.Last() {
			seen[r.Partition] = begun[r.Partition]
		}
		return nil
	})
	if errors.Is(err, codec.ErrVersion) || errors.Is(err, codec.ErrMalformed) {
		return nil, nil, stop(fmt.Errorf("check topic %s: it holds records that are not ours: %w", l.topic.Name, err))
	}
	return seen, chunks, err
}

func after(m event.Mark, e *event.Event) event.Mark {
	m.Adopt(e)
	return m
}
