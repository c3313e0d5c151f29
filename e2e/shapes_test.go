package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/verify"
)

// A cluster into a single server: several lanes share partitions, and all partitions write to one node at the same time.
func TestClusterIntoASingleServerIsIdentical(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, to := sourceCluster(w, 3, 0), w.Server("")
	if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 20_000, Seed: 3, TTLShare: 0.1}); err != nil {
		t.Fatal(err)
	}
	p := newPipeline(t, w, w.Kafka().Addr(), source)
	stop := writers(t, source.Client(), 3, 500)
	from := p.run(p.sourceConfig())
	toConfig := p.singleSink(to.Addr())
	sink := p.run(toConfig)
	for range 3 {
		time.Sleep(2 * time.Second)
		if err := sink.Kill(); err != nil {
			t.Fatal(err)
		}
		sink = p.run(toConfig)
	}
	stop()
	p.mark(to.Client(), time.Minute)
	sameDatabases(t, verify.At(source.Addrs()...), verify.At(to.Addr()), verify.Options{})
	from.Stop()
	sink.Stop()
	p.chainHolds()
}

// indivisible are commands that several partitions cannot carry if their keys lie in several slots.
var indivisible = []string{
	"RENAME", "RENAMENX", "COPY", "SUNIONSTORE", "SDIFFSTORE", "SINTERSTORE", "SMOVE", "LMOVE", "RPOPLPUSH", "SORT",
	"ZUNIONSTORE", "ZINTERSTORE", "ZRANGESTORE", "PFMERGE", "BITOP", "GEOSEARCHSTORE", "SWAPDB", "FLUSHDB",
}

// A single server in several partitions, into a single server and into a cluster: order by slot, commands divided.
func TestSingleServerInSeveralPartitionsIsIdentical(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to, cluster := w.Server("", "--repl-backlog-size", backlog), w.Server(""), w.Cluster(2, 0)
	p := newPipeline(t, w, w.Kafka().Addr(), nil)
	stop := singleLoad(t, from, 3, append(indivisible, "MOVE")...)
	source := p.run(p.singleSource(from.Addr(), "topic.partitions", "8"))
	oneConfig := p.config("one", map[string]string{"type": "sink", "topic.prefix": p.prefix, "redis.address": to.Addr()})
	twoConfig := p.config("two", map[string]string{"type": "sink", "topic.prefix": p.prefix, "redis.address": cluster.Addrs()[0], "databases": "1:0", "databases.unmapped": "skip"})
	one, two := p.run(oneConfig), p.run(twoConfig)
	p.committed(from) // a log to kill the sinks at
	for range 3 {
		time.Sleep(1500 * time.Millisecond)
		if err := one.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := two.Kill(); err != nil {
			t.Fatal(err)
		}
		one, two = p.run(oneConfig), p.run(twoConfig)
	}
	stop()
	p.applied(from, "one", "two")
	sameDatabases(t, verify.At(from.Addr()), verify.At(to.Addr()), verify.Options{})
	sameDatabases(t, verify.At(from.Addr()), verify.At(cluster.Addrs()...), verify.Options{Databases: []verify.Databases{{From: 1, To: 0}}})
	source.Stop()
	one.Stop()
	two.Stop()
	p.chainHolds()
}

// A single server, in total order, into a cluster: commands over slots are divided or worked out at the target.
func TestSingleServerIntoAClusterIsIdentical(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"redis-8.6", "valkey-8.1"} {
		t.Run(version, func(t *testing.T) {
			w := testkit.New(t)
			from := w.Server(version, "--repl-backlog-size", backlog)
			to := w.ClusterWith(redistest.Config{Masters: 3, Version: version})
			p := newPipeline(t, w, w.Kafka().Addr(), nil)
			stop := singleLoad(t, from, 1)
			toConfig := p.singleSink(to.Addrs()[0])
			source, sink := p.run(p.singleSource(from.Addr())), p.run(toConfig)
			p.committed(from)
			for range 5 {
				time.Sleep(1500 * time.Millisecond)
				if err := sink.Kill(); err != nil {
					t.Fatal(err)
				}
				sink = p.run(toConfig)
				time.Sleep(700 * time.Millisecond)
				for _, m := range to.Masters() {
					m.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
				}
			}
			stop()
			p.applied(from, "to")
			sameDatabases(t, verify.At(from.Addr()), verify.At(to.Addrs()...), verify.Options{})
			source.Stop()
			sink.Stop()
			p.chainHolds()
		})
	}
}

// applied waits until the source has committed what the server was given, and the sinks have applied the log up to there.
func (p *pipeline) applied(from *redistest.Node, sinks ...string) {
	p.t.Helper()
	p.committed(from)
	cfg := kafka.Config{Brokers: []string{p.broker}}
	adm, err := cfg.Admin()
	if err != nil {
		p.t.Fatal(err)
	}
	defer adm.Close()
	topic := p.prefix + ".changes"
	ends, err := adm.ListCommittedOffsets(p.t.Context(), topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.w.Eventually(patience, "all applied", func() error {
		for _, name := range sinks {
			at, err := adm.FetchOffsets(p.t.Context(), "redriver-"+p.connector(name))
			if err != nil {
				return err
			}
			for n, end := range ends[topic] {
				if o, ok := at.Lookup(topic, n); end.Offset > 0 && (!ok || o.At < end.Offset) {
					return fmt.Errorf("%s has applied %d of %d in partition %d", name, o.At, end.Offset, n)
				}
			}
		}
		return nil
	})
}
