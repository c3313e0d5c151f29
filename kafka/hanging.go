package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// EndHanging aborts what cl's producer has open in the topics, and tells where. It belongs between cl.ProducerID and the
// first transaction.
//
// When ProducerID returns, the coordinator has ended every transaction of the producer. What is open none the less hangs:
// its marker was never written, readers of committed records wait behind it for ever, and the producer's next commit would
// commit it too. Kafka 4 leaves such transactions when markers are due while partitions have no leader, as in the restart of
// all their replicas: it takes the partitions for deleted ("Couldn't find leader endpoint for partitions").
//
// A marker ends all that its producer has open in a partition, under whatever epoch. So we write there and abort; what an
// administrator would do (WriteTxnMarkers) takes rights over the whole cluster.
func EndHanging(ctx context.Context, cl *kgo.Client, producerID int64, topics ...string) ([]kadm.DescribedProducer, error) {
	adm := kadm.NewClient(cl)
	open, err := undecided(ctx, adm, topics)
	if err != nil || len(open) == 0 {
		return nil, err
	}
	described, err := adm.DescribeProducers(ctx, open)
	if err != nil {
		return nil, fmt.Errorf("ask for open transactions: %w", err)
	}
	var ours []kadm.DescribedProducer
	for _, p := range described.SortedPartitions() {
		if p.Err != nil {
			return nil, fmt.Errorf("ask for open transactions of %s/%d: %w", p.Topic, p.Partition, p.Err)
		}
		if d, ok := p.ActiveProducers[producerID]; ok && d.CurrentTxnStartOffset >= 0 {
			ours = append(ours, d)
		}
	}
	if len(ours) == 0 {
		return nil, nil
	}
	if err := abortIn(ctx, cl, ours); err != nil {
		return nil, fmt.Errorf("end hanging transaction in %d partitions, first of them %s/%d: %w", len(ours), ours[0].Topic, ours[0].Partition, err)
	}
	return ours, nil
}

// undecided are the partitions that somebody's transaction is open in.
func undecided(ctx context.Context, adm *kadm.Client, topics []string) (kadm.TopicsSet, error) {
	set := kadm.TopicsSet{}
	for _, topic := range topics {
		spans, err := Spans(ctx, adm, topic)
		if err != nil {
			return nil, err
		}
		stable, err := adm.ListCommittedOffsets(ctx, topic)
		if err == nil {
			err = stable.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("list last stable offsets of %s: %w", topic, err)
		}
		for p, s := range spans {
			if at, ok := stable.Lookup(topic, p); ok && at.Offset < s.End {
				set.Add(topic, p)
			}
		}
	}
	return set, nil
}

func abortIn(ctx context.Context, cl *kgo.Client, partitions []kadm.DescribedProducer) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	failed := make(chan error, len(partitions))
	for _, p := range partitions {
		// A compacted topic takes no record without a key; a broker whose clock is wrong may refuse any time but none.
		r := &kgo.Record{Topic: p.Topic, Partition: p.Partition, Key: []byte("hanging"), Timestamp: time.UnixMilli(-1)}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed <- err
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	close(failed)
	return errors.Join(<-failed, cl.EndTransaction(ctx, kgo.TryAbort))
}
