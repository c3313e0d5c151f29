package e2e_test

import (
	"crypto/rand"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/internal/testkit/proxy"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/slot"
)

// Everything that comes between a source that publishes and a broker, one fault after the other in one run under load. The
// master does not notice any of them, the chain has no hole and no repetition, and the copy is identical in the end.
//
// Fault (kafka): The connection is cut in mid-transaction. The transaction is decided, and what it did not bring is published again from the spool.
// Fault (kafka): The answer to a commit is lost. The position in Kafka says what became of it.
// Fault (kafka): The source is killed when the outcome of a commit is unknown. Its successor fences, reads the position, and goes on from there.
// Fault (kafka): The source is cut off for longer than its transaction timeout. The broker aborts, and the spool has it all.
// Fault (kafka): The source is stopped (SIGSTOP) for longer than its transaction timeout and wakes with a commit on its way. The commit is refused.
// Fault (kafka): Somebody takes over the transactional id of a lane for a moment. The lane finds that it is still the connector's owner and takes it back.
// Fault (kafka): The source is stopped (SIGSTOP), another worker takes the connector over, and the first wakes with a commit on its way. The commit is refused, and the first worker ends.
// Fault (kafka): The broker is killed (-9) and started again. Source and sink wait and go on.
func TestFaultsBetweenSourceAndKafka(t *testing.T) {
	t.Parallel()
	f := newUnderFaults(t)
	for _, c := range []struct {
		name string
		key  int16
		fate proxy.Fate
	}{
		{"records lost", proxy.Produce, proxy.Lose},
		{"answer to records lost", proxy.Produce, proxy.LoseAnswer},
		{"commit lost", proxy.EndTxn, proxy.Lose},
		{"answer to commit lost", proxy.EndTxn, proxy.LoseAnswer},
	} {
		f.fault(c.name, func(t *testing.T, f *underFaults) {
			met(t, f.proxy.Once(c.key, c.fate))
			f.mark(f.target.Client(), patience)
			met(t, f.proxy.Once(c.key, c.fate))
			if err := f.from.Kill(); err != nil {
				t.Fatal(err)
			}
			f.runFrom()
		})
	}
	f.fault("cut off past the transaction timeout", func(t *testing.T, f *underFaults) {
		since := len(f.from.Log())
		met(t, f.proxy.Once(proxy.EndTxn, proxy.Lose))
		f.proxy.Down(true)
		for _, id := range f.lanes() {
			if err := f.settledTransaction(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		f.proxy.Down(false)
		f.interrupted(t, since)
	})
	f.fault("stopped past the transaction timeout", func(t *testing.T, f *underFaults) {
		since := len(f.from.Log())
		met(t, f.proxy.Once(proxy.EndTxn, proxy.Hold))
		if err := f.from.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for _, id := range f.lanes() {
			if err := f.settledTransaction(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		f.proxy.Release()
		if err := f.from.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		f.interrupted(t, since)
	})
	f.fault("fenced", func(t *testing.T, f *underFaults) {
		since := len(f.from.Log())
		for _, id := range f.lanes() {
			cl := f.client(t, kgo.TransactionalID(id))
			if _, _, err := cl.ProducerID(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.interrupted(t, since)
	})
	f.fault("another worker took over", func(t *testing.T, f *underFaults) {
		met(t, f.proxy.Once(proxy.EndTxn, proxy.Hold))
		forgotten := f.from
		if err := forgotten.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		f.proxy.Judge(nil)
		f.machine++
		f.runFrom()
		f.mark(f.target.Client(), patience)
		f.proxy.Release()
		if err := forgotten.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		wantExit(t, forgotten, 1, "another worker has taken over")
	})
	f.fault("broker killed", func(t *testing.T, f *underFaults) {
		// With a transaction open, which it ends, or forgets, when it starts.
		met(t, f.proxy.Once(proxy.EndTxn, proxy.Hold))
		if err := f.server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := f.server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	f.end()
}

// What Kafka's operators do to a log that is being written and read, one after the other in one run under load.
//
// Fault (kafka): The topic's max.message.bytes is lowered below what the source sends. The source learns it from the refusal and publishes again, in smaller chunks.
// Fault (kafka): The rights of a source are taken away and given back. It says which one is missing, waits, and goes on from the spool.
// Fault (kafka): The rights of a sink are taken away and given back. It waits and goes on.
// Fault (kafka): Another lane's transaction hangs in the offsets topic while a source starts. The lane that has its position there waits for the outcome, in place of trusting an older position; the others go on.
// Fault (kafka): The broker forgets to end a source's transaction (Kafka 4 does when it restarts, if partitions have no leader just then). The lane aborts it when it starts, and publishes again from the spool.
// Fault (kafka): The commits of a sink's group are deleted. Nothing is read again or left out: the sink starts where its own records at the target say.
func TestFaultsOfALogThatIsInUse(t *testing.T) {
	t.Parallel()
	f := newUnderFaults(t)
	f.fault("record too large", func(t *testing.T, f *underFaults) {
		since := len(f.from.Log())
		f.alter(t, "max.message.bytes", "65536")
		large := make([]byte, 300_000)
		_, _ = rand.Read(large) // what is sent is compressed
		if err := f.source.Client().Set(t.Context(), "large", large, 0).Err(); err != nil {
			t.Fatal(err)
		}
		f.interrupted(t, since, "MESSAGE_TOO_LARGE")
		f.mark(f.target.Client(), patience)
		f.alter(t, "max.message.bytes", "1048588")
	})
	for _, c := range []struct {
		name, word string
		right      int
	}{
		{"right to the topics lost", "TOPIC_AUTHORIZATION_FAILED", 0},
		{"right to the transactional ids lost", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", 1},
	} {
		f.fault(c.name, func(t *testing.T, f *underFaults) {
			since := len(f.from.Log())
			right := f.rights("from", f.prefix)[c.right]
			f.revoke(t, right)
			f.interrupted(t, since, c.word)
			f.grant(t, right)
		})
	}
	for i, name := range []string{"right of the sink to the topics lost", "right of the sink to its group lost"} {
		f.fault(name, func(t *testing.T, f *underFaults) {
			since := len(f.to.Log())
			right := f.rights("to", f.prefix)[i]
			f.revoke(t, right)
			f.w.Eventually(patience, "the sink says what is wrong", func() error {
				if !strings.Contains(f.to.Log()[since:], "AUTHORIZATION_FAILED") {
					return errNotYet
				}
				return nil
			})
			f.grant(t, right)
		})
	}
	f.fault("another lane's transaction hangs", func(t *testing.T, f *underFaults) {
		// It is open before the lane's last commits, which a reader of committed records does not see until it ends.
		other := f.client(t, kgo.TransactionalID(f.w.Name("other")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := other.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		rec := &kgo.Record{
			Topic: offsets.Topic(f.prefix), Partition: offsets.LanePartition(1), Key: []byte(`["other","position",1]`), Value: []byte(`{"v":1}`),
		}
		if err := other.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
		f.mark(f.target.Client(), patience)
		if err := f.from.Kill(); err != nil {
			t.Fatal(err)
		}
		f.runFrom()
		arrived := func() (n int) {
			for _, sl := range []slot.Slot{0, slot.Count - 1} {
				n += int(f.target.Client().Exists(t.Context(), "behind:{"+slot.Tag(sl)+"}").Val())
			}
			return n
		}
		for _, sl := range []slot.Slot{0, slot.Count - 1} {
			if err := f.source.Client().Set(t.Context(), "behind:{"+slot.Tag(sl)+"}", 1, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		f.w.Eventually(patience, "the other shard goes on", func() error {
			if arrived() == 0 {
				return errNotYet
			}
			return nil
		})
		if arrived() > 1 {
			t.Error("the lane did not wait for what is undecided before its position")
		}
		if err := other.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
	})
	f.fault("transaction forgotten by the broker", func(t *testing.T, f *underFaults) {
		if err := f.from.Kill(); err != nil {
			t.Fatal(err)
		}
		f.hang(t, "from", offsets.Topic(f.prefix), offsets.RegistryPartition)
		f.hang(t, offsets.TransactionalID("from", 1), offsets.Topic(f.prefix), offsets.LanePartition(1))
		f.hang(t, offsets.TransactionalID("from", 2), offsets.ChangesTopic(f.prefix), 0, partitions/2, partitions-1)
		f.runFrom()
		f.mark(f.target.Client(), patience)
		if n := strings.Count(f.from.Log(), forgottenLine); n < 4 {
			t.Errorf("the source tells of %d partitions, want 4", n)
		}
	})
	f.fault("commits of the group deleted", func(t *testing.T, f *underFaults) {
		f.to.Stop()
		if _, err := f.adm.DeleteGroup(t.Context(), "redriver-to"); err != nil {
			t.Fatal(err)
		}
		f.runTo()
	})
	f.end()
}

// end compares, and reads the whole log.
func (f *underFaults) end() {
	f.t.Helper()
	f.t.Logf("%d commands written, %d transactions forgotten by the broker", f.stopWriters(), strings.Count(f.from.Log(), forgottenLine))
	f.mark(f.target.Client(), patience)
	identical(f.t, f.source, f.target)
	f.from.Stop()
	f.to.Stop()
	f.chainHolds()
}

func (f *underFaults) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kafka.Config{Brokers: []string{f.server.Addr()}}.Client(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (f *underFaults) alter(t *testing.T, name, value string) {
	t.Helper()
	done, err := f.adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, offsets.ChangesTopic(f.prefix))
	if err != nil || len(done) != 1 || done[0].Err != nil {
		t.Fatal(err, done)
	}
}
