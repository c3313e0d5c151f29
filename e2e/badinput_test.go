package e2e_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/kafka"
)

const (
	exitRefused = 4
	exitTarget  = 8
	exitData    = 10
)

// What a start cannot work with, or a log that holds what is not ours, ends with a message that names the thing, the
// cause and the next step; and nothing is written before.
func TestBadInputIsNamedAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 2, 0), w.Cluster(2, 0)
	broker := w.FakeKafka().Addr()

	t.Run("target that holds keys", func(t *testing.T) {
		p := newPipeline(t, w, broker, source)
		if err := target.Client().Set(t.Context(), "theirs", "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
		from := p.run(p.sourceConfig())
		wantExit(t, p.run(p.sinkConfig("to", target)), exitTarget, "holds", "theirs", "target.existing.keys")
		if n := keysOf(t, target); n != 1 {
			t.Errorf("the target holds %d keys, it held 1", n)
		}
		from.Stop()
		if err := target.Client().Del(t.Context(), "theirs").Err(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("missing right", func(t *testing.T) {
		p := newPipeline(t, w, broker, source)
		for _, m := range source.Masters() {
			if err := m.Client().Do(t.Context(), "ACL", "SETUSER", "weak", "on", ">pass", "~*", "&*", "+@all", "-psync").Err(); err != nil {
				t.Fatal(err)
			}
		}
		wantExit(t, p.run(p.sourceConfig("redis.username", "weak", "redis.password", "pass")), exitRefused, "NOPERM", "psync", "grant")
	})
	for name, value := range map[string]string{"record of somebody else": "{\"id\": 7}", "record of a newer version": "\x02\x01\x00"} {
		t.Run(name, func(t *testing.T) {
			p := newPipeline(t, w, broker, source)
			from, to := p.run(p.sourceConfig()), p.run(p.sinkConfig(w.Name("to"), target, "target.existing.keys", "replace"))
			p.mark(target.Client(), time.Minute)
			cl, err := kafka.Config{Brokers: []string{broker}}.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: p.prefix + ".changes", Partition: 3, Value: []byte(value)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			wantExit(t, to, exitData, "partition 3", "offset", "version", "upgrade")
			from.Stop()
		})
	}
}
