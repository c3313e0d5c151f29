package kafka_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/kafka"
)

// More than one answer of a broker holds, in many partitions, with an aborted transaction at the end of each.
func TestReadCommittedReadsEveryPartitionToItsEnd(t *testing.T) {
	w := testkit.New(t)
	for name, broker := range map[string]string{"kafka": w.Kafka().Addr(), "embedded": w.FakeKafka().Addr()} {
		t.Run(name, func(t *testing.T) {
			const partitions, records, size = 12, 40, 100 << 10
			cfg := kafka.Config{Brokers: []string{broker}}
			adm, err := cfg.Admin()
			if err != nil {
				t.Fatal(err)
			}
			defer adm.Close()
			topic := w.Name("read")
			if _, err := kafka.Ensure(t.Context(), adm, kafka.TopicSpec{Name: topic, Partitions: partitions}); err != nil {
				t.Fatal(err)
			}
			cl, err := cfg.Client(kgo.TransactionalID(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
				if err := cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				for i := range records {
					for p := range int32(partitions) {
						cl.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: p, Key: fmt.Append(nil, bool(commit), i), Value: make([]byte, size)}, nil)
					}
				}
				if err := cl.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := cl.EndTransaction(t.Context(), commit); err != nil {
					t.Fatal(err)
				}
			}
			spans, err := kafka.Spans(t.Context(), adm, topic)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[int32]int{}
			if err := cfg.ReadCommitted(t.Context(), topic, spans, func(r *kgo.Record) error {
				if string(r.Key) != fmt.Sprint(true, seen[r.Partition]) {
					return fmt.Errorf("%d/%d: %s", r.Partition, r.Offset, r.Key)
				}
				seen[r.Partition]++
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for p := range int32(partitions) {
				if seen[p] != records {
					t.Errorf("partition %d: %d of %d records", p, seen[p], records)
				}
			}
		})
	}
}

func TestReadCommittedSaysWhereItStandsStill(t *testing.T) {
	w := testkit.New(t)
	cfg := kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}
	adm, err := cfg.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	topic := w.Name("open")
	if _, err := kafka.Ensure(t.Context(), adm, kafka.TopicSpec{Name: topic, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	cl, err := cfg.Client(kgo.TransactionalID(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: 1, Key: []byte("k")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	spans, err := kafka.Spans(t.Context(), adm, topic)
	if err != nil {
		t.Fatal(err)
	}
	err = kafka.ReadCommittedFor(cfg, t.Context(), topic, spans, 300*time.Millisecond, func(*kgo.Record) error { return nil })
	if !errors.Is(err, kafka.ErrStandsStill) || !strings.Contains(err.Error(), "partition 1 at offset 0 of 1") || !strings.Contains(err.Error(), "transaction") {
		t.Error(err)
	}
	if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := cfg.ReadCommitted(t.Context(), topic, spans, func(*kgo.Record) error { n++; return nil }); err != nil || n != 1 {
		t.Error(n, err)
	}
}
