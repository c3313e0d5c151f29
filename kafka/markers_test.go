package kafka_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/kafka"
)

// requests keeps how long each request took, by its kind.
type requests struct {
	mu   sync.Mutex
	took map[int16][]time.Duration
}

func (r *requests) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took[key] = append(r.took[key], e.DurationE2E())
}

// A transaction right behind another one neither waits for the broker's retry nor asks the broker over and over. On a busy machine
// markers take longer, so the best of three counts.
func TestMarkersAreAwaitedWithFewQuestions(t *testing.T) {
	w := testkit.New(t)
	cfg := kafka.Config{Brokers: []string{w.Kafka().Addr()}}
	var faults []string
	for range 3 {
		if faults = askForMarkers(t, cfg, w.Name("markers")); len(faults) == 0 {
			return
		}
	}
	t.Errorf("three times, at last: %s", strings.Join(faults, "; "))
}

// askForMarkers makes transactions, and tells what was wrong with them.
func askForMarkers(t *testing.T, cfg kafka.Config, topic string) (faults []string) {
	t.Helper()
	const transactions, partitions = 200, 8
	adm, err := cfg.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	if _, err := kafka.Ensure(t.Context(), adm, kafka.TopicSpec{Name: topic, Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	seen := &requests{took: map[int16][]time.Duration{}}
	cl, err := cfg.Client(kgo.TransactionalID(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.WithHooks(seen))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var markers kafka.Markers
	var ended time.Time
	for range transactions {
		markers.Await(t.Context(), cl, topic, ended)
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for p := range int32(partitions) {
			cl.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: p, Value: []byte("value")}, nil)
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		ended = time.Now()
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	asked, produced := seen.took[kmsg.DescribeTransactions.Int16()], seen.took[kmsg.Produce.Int16()]
	slow := 0
	for _, took := range produced {
		if took >= 20*time.Millisecond {
			slow++
		}
	}
	t.Logf("%d questions, %d of %d produce requests slow", len(asked), slow, len(produced))
	if len(asked) == 0 || len(asked) > 2*transactions {
		faults = append(faults, fmt.Sprintf("%d questions for %d transactions, want 1 to 2 for each", len(asked), transactions))
	}
	if slow > len(produced)/2 {
		faults = append(faults, fmt.Sprintf("%d of %d produce requests took as long as the broker's retry", slow, len(produced)))
	}
	return faults
}
