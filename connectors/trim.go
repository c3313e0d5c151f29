package connectors

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/sink"
)

// Trim removes from the log what all sinks of this process have applied and do not need for a start. It is for a log
// that nobody else reads: that of the embedded broker.
func (r *Runner) Trim(ctx context.Context) error {
	adm, err := r.cfg.Worker.Kafka.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	upTo := map[string]map[int32]int64{}
	for _, t := range r.tasks {
		if t.cfg.Kind != KindSink {
			continue
		}
		topic := offsets.ChangesTopic(t.cfg.Prefix())
		first := upTo[topic] == nil
		if first {
			upTo[topic] = map[int32]int64{}
		}
		for _, p := range r.sinkOf(t).Partitions {
			needed := p.Restart
			if p.State != sink.StateRunning {
				needed = 0 // where it will start is not known
			}
			if had, ok := upTo[topic][p.Partition]; first || ok && needed < had {
				upTo[topic][p.Partition] = needed
			}
		}
	}
	var errs []error
	for topic, partitions := range upTo {
		errs = append(errs, trimTopic(ctx, adm, topic, partitions))
	}
	return errors.Join(errs...)
}

// trimTopic removes the records below the given offsets, where there are any.
func trimTopic(ctx context.Context, adm *kadm.Client, topic string, upTo map[int32]int64) error {
	spans, err := kafka.Spans(ctx, adm, topic)
	if errors.Is(err, kafka.ErrNoTopic) {
		return nil
	}
	if err != nil {
		return err
	}
	remove := kadm.Offsets{}
	for p, offset := range upTo {
		if s := spans[p]; offset > s.Start && offset <= s.End {
			remove.Add(kadm.Offset{Topic: topic, Partition: p, At: offset})
		}
	}
	if len(remove) == 0 {
		return nil
	}
	done, err := adm.DeleteRecords(ctx, remove)
	if err == nil {
		err = done.Error()
	}
	if err != nil {
		return fmt.Errorf("remove applied records of %s: %w", topic, err)
	}
	return nil
}
