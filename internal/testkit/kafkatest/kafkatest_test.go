package kafkatest_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/internal/testkit/kafkatest"
)

func TestBrokerKeepsRecordsOverKill(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	begin := time.Now()
	b, err := kafkatest.Start(ctx, kafkatest.Config{Dir: t.TempDir(), ExtraProps: map[string]string{"num.partitions": "3"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("ready after %v, %+v", time.Since(begin).Round(time.Millisecond), b.Process().Usage())
	produce(t, b.Addr())
	consume(t, b.Addr())

	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after a kill after %v", time.Since(begin).Round(time.Millisecond))
	consume(t, b.Addr())

	begin = time.Now()
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %v", time.Since(begin).Round(time.Millisecond))
}

func TestFakeKeepsRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := kafkatest.StartFake(dir)
	if err != nil {
		t.Fatal(err)
	}
	produce(t, f.Addr())
	f.Close()
	f, err = kafkatest.StartFakeOn(dir, f.Port())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	consume(t, f.Addr())
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, addr string) {
	t.Helper()
	c := client(t, addr)
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 1, 1, nil, "topic"); err != nil {
		t.Fatal(err)
	}
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "topic", Value: []byte("hello")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func consume(t *testing.T, addr string) {
	t.Helper()
	c := client(t, addr, kgo.ConsumeTopics("topic"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		records := c.PollFetches(ctx).Records()
		if len(records) == 0 {
			continue
		}
		if len(records) != 1 || string(records[0].Value) != "hello" {
			t.Fatalf("records %v", records)
		}
		return
	}
	t.Fatal("no record")
}
