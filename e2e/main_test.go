package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/verify"
)

// Three masters with replicas into four masters, keys of all types, eight writers before, during and after the
// snapshot.
func TestClusterIntoAnotherShapeIsIdentical(t *testing.T) {
	w := testkit.New(t)
	source := sourceCluster(w, 3, 1)
	if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: sized(150_000, 1_000_000), Seed: 42, TTLShare: 0.1}); err != nil {
		t.Fatal(err)
	}
	for name, broker := range map[string]string{"kafka": w.Kafka().Addr(), "embedded": w.FakeKafka().Addr()} {
		t.Run(name, func(t *testing.T) {
			w := testkit.New(t)
			target := w.Cluster(4, 0)
			p := newPipeline(t, w, broker, source)
			stop := writers(t, source.Client(), 8, 300)
			time.Sleep(2 * time.Second)
			from, to := p.run(p.sourceConfig()), p.run(p.sinkConfig("to", target))
			p.mark(target.Client(), 3*time.Minute)
			time.Sleep(3 * time.Second)
			t.Logf("%d commands written", stop())
			p.mark(target.Client(), time.Minute)
			identical(t, source, target)
			from.Stop()
			to.Stop()
			p.chainHolds()
			t.Logf("source %+v, sink %+v", from.Usage(), to.Usage())
		})
	}
}

// Two sinks with targets of their own from one topic, one of them started after the load; a third that comes when
// retention has removed the snapshot is refused.
//
// Fault (kafka): Retention has removed the snapshot before a new sink comes. It is refused with exit code 9, and nothing is written.
func TestSinksStartAtTheSnapshotBoundaryOrAreRefused(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, first, late, third := sourceCluster(w, 3, 0), w.Cluster(2, 0), w.Cluster(3, 0), w.Cluster(2, 0)
	if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 50_000, Seed: 7, TTLShare: 0.1}); err != nil {
		t.Fatal(err)
	}
	broker := w.OwnKafka(kafkatest.Config{})
	p := newPipeline(t, w, broker.Addr(), source)
	stop := writers(t, source.Client(), 4, 500)
	from, one := p.run(p.sourceConfig()), p.run(p.sinkConfig("one", first))
	p.mark(first.Client(), time.Minute)
	time.Sleep(3 * time.Second)
	stop()
	two := p.run(p.sinkConfig("two", late))
	p.mark(first.Client(), time.Minute)
	p.mark(late.Client(), time.Minute)
	identical(t, source, first)
	identical(t, source, late)
	wantExit(t, w.Redriver("finish", "--to", "redis://"+first.Addrs()[0]), 1, "still writing")
	one.Stop()
	two.Stop()
	finish := w.Redriver("finish", "--to", "redis://"+first.Addrs()[0])
	wantExit(t, finish, 0, "exact expiry time")
	finished, err := verify.Compare(t.Context(), verify.At(source.Addrs()...), verify.At(first.Addrs()...), verify.Options{Rounds: 3})
	if err != nil || !finished.Identical() || finished.Own != 0 {
		t.Errorf("after finish: %v, %d keys of ours left\n%s", err, finished.Own, finished.String())
	}

	p.deleteLog()
	refused := p.run(p.sinkConfig("three", third))
	wantExit(t, refused, exitLogLost, "offset", "snapshot")
	if n := keysOf(t, third); n != 0 {
		t.Errorf("the refused sink wrote %d keys", n)
	}
	from.Stop()
}

func keysOf(t *testing.T, c *redistest.Cluster) (n int64) {
	t.Helper()
	for _, m := range c.Masters() {
		size, err := m.Client().DBSize(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		n += size
	}
	return n
}

// deleteLog removes every record of the log, as retention does in time.
func (p *pipeline) deleteLog() {
	p.t.Helper()
	cfg := kafka.Config{Brokers: []string{p.broker}}
	adm, err := cfg.Admin()
	if err != nil {
		p.t.Fatal(err)
	}
	defer adm.Close()
	topic := p.prefix + ".changes"
	ends, err := adm.ListEndOffsets(p.t.Context(), topic)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := adm.DeleteRecords(p.t.Context(), ends.Offsets()); err != nil {
		p.t.Fatal(err)
	}
}

// exitLogLost is the exit code of a sink that the log no longer reaches.
const exitLogLost = 9

// wantExit waits for the process to end and checks its code and what it says.
func wantExit(t *testing.T, r *testkit.Redriver, code int, words ...string) {
	t.Helper()
	select {
	case <-r.Done():
	case <-time.After(patience):
		t.Fatalf("it runs, and was to end with exit code %d:\n%s", code, r.LogTail(20))
	}
	if got := r.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	for _, word := range words {
		if !strings.Contains(r.Log(), word) {
			t.Errorf("the message does not speak of %q:\n%s", word, r.LogTail(5))
		}
	}
}
