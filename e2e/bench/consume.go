package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/kafka"
)

// Settings of the consumer, as the sink has them.
const (
	fetchMaxBytes       = 32 << 20
	fetchPartitionBytes = 8 << 20
	fetchMaxWait        = 500 * time.Millisecond
	fetchConcurrent     = 4
)

// consumer reads all partitions of a topic from their starts.
func consumer(cfg kafka.Config, topic string) (*kgo.Client, error) {
	return cfg.Client(
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(fetchMaxWait),
		kgo.FetchMaxBytes(fetchMaxBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.MaxConcurrentFetches(fetchConcurrent),
	)
}

func childConsume(ctx context.Context, task childTask) (result childResult, err error) {
	cfg := kafka.Config{Brokers: task.Brokers}
	err = measured(&result, func() error {
		cl, err := consumer(cfg, task.To)
		if err != nil {
			return err
		}
		defer cl.Close()
		for result.RecordsN < task.MaxN {
			fetches := cl.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return fmt.Errorf("consume: %w", err)
			}
			for it := fetches.RecordIter(); !it.Done(); {
				if !it.Next().Attrs.IsControl() {
					result.RecordsN++
				}
			}
		}
		return nil
	})
	return result, err
}
