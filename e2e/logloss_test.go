package e2e_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
)

func (p *pipeline) admin(t *testing.T) *kadm.Client {
	t.Helper()
	adm, err := kafka.Config{Brokers: []string{p.broker}}.Admin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(adm.Close)
	return adm
}

// says waits until a process has logged a line with all the words.
func says(w *testkit.World, r *testkit.Redriver, words ...string) {
	w.Eventually(patience, fmt.Sprintf("it says %q", words), func() error {
		for line := range strings.Lines(r.Log()) {
			found := true
			for _, word := range words {
				found = found && strings.Contains(line, word)
			}
			if found {
				return nil
			}
		}
		return errors.New(r.LogTail(3))
	})
}

// churn changes what a sink that is away does not see: keys that were there are deleted, changed, and new ones come.
func churn(t *testing.T, c *redistest.Cluster, round int) {
	t.Helper()
	p := c.Client().Pipeline()
	for i := range 400 {
		key := fmt.Sprint("churn:", i)
		switch {
		case i%10 == round:
			p.Del(t.Context(), key)
		case i%3 == 0:
			p.Incr(t.Context(), key)
		default:
			p.Append(t.Context(), key, "x")
		}
		p.Set(t.Context(), fmt.Sprintf("round %d:%d", round, i%50), i, 0)
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// replication is an offset of INFO replication: a line of its own, or part of one.
func (p *pipeline) replication(m *redistest.Node, of string) int64 {
	p.t.Helper()
	info, err := m.Client().InfoMap(p.t.Context(), "replication").Result()
	if err != nil {
		p.t.Fatal(err)
	}
	text := info["Replication"][of]
	if _, list, ok := strings.Cut(text, ",offset="); ok {
		text, _, _ = strings.Cut(list, ",")
	}
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// settle waits until the source has committed all that its masters have sent so far: then it is acknowledged.
func (p *pipeline) settle(c *redistest.Cluster) {
	p.t.Helper()
	for _, m := range c.Masters() {
		p.committed(m)
	}
}

// committed is settle for one node, once the source has come. Outside a cluster the last byte is never acknowledged; no command
// ends before it.
func (p *pipeline) committed(n *redistest.Node) {
	p.t.Helper()
	p.w.Eventually(patience, "the source has committed a snapshot", func() error {
		if got := p.replication(n, "slave0"); got <= 0 {
			return fmt.Errorf("it has acknowledged %d", got)
		}
		return nil
	})
	sent := p.replication(n, "master_repl_offset")
	p.w.Eventually(patience, "all is committed", func() error {
		if got := p.replication(n, "slave0"); got < sent-1 {
			return fmt.Errorf("%d of %d", got, sent)
		}
		return nil
	})
}

// Retention removes what a sink has not read yet.
//
// Fault (kafka): Retention passes the offset of a sink that is away. It stops with exit code 9, says which offsets are lost and what to do, and has written nothing.
// Fault (kafka): The same with log.lost: snapshot and a complete snapshot in the log. The sink starts again there; what was deleted meanwhile is swept.
// Fault (kafka): The same without a snapshot in the log. The sink waits; redriver resync has the source take one, and the sink goes on by itself.
func TestRetentionPassesASinkThatIsAway(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 2, 0), w.Cluster(1, 0)
	p := newPipeline(t, w, w.Kafka().Addr(), source)
	adm := p.admin(t)
	churn(t, source, -1)
	fromConfig := p.sourceConfig()
	from := p.run(fromConfig)
	strict := p.sinkConfig("to", target)
	to := p.run(strict)
	p.mark(target.Client(), patience)
	to.Stop()
	churn(t, source, 0)
	full := fullSyncs(t, source)
	p.settle(source)
	p.deleteLog()
	before := keysOf(t, target)
	wantExit(t, p.run(strict), exitLogLost, "lost to retention", "log.lost", "longer retention")
	if after := keysOf(t, target); before != after || target.Client().Exists(t.Context(), "churn:0").Val() != 1 {
		t.Errorf("the sink that was refused wrote: %d keys are there, %d were", after, before)
	}

	patient := p.sinkConfig("to", target, "log.lost", "snapshot")
	to = p.run(patient)
	says(w, to, "wait for a complete snapshot")
	if n := target.Client().Exists(t.Context(), "churn:0").Val(); n != 1 {
		t.Error("the sink that waits has removed a key")
	}
	wantExit(t, w.Redriver("resync", "--config", fromConfig), 0, "2 shards were asked")
	p.mark(target.Client(), patience)
	identical(t, source, target)
	says(w, to, "the log no longer reaches back")
	to.Stop()

	// A snapshot behind what is removed is there already, and it was asked for while the source did not run.
	churn(t, source, 1)
	from.Stop()
	wantExit(t, w.Redriver("resync", "--config", fromConfig, p.connector("from")), 0, "2 shards were asked")
	ends, err := adm.ListEndOffsets(t.Context(), p.prefix+".changes")
	if err != nil {
		t.Fatal(err)
	}
	from = p.run(fromConfig)
	w.Eventually(patience, "two snapshots more", func() error {
		if n := strings.Count(from.Log(), "snapshot published"); n != 2 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if _, err := adm.DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	churn(t, source, 2)
	to = p.run(patient)
	p.mark(target.Client(), patience)
	identical(t, source, target)
	if n := fullSyncs(t, source) - full; n != 4 {
		t.Errorf("%d full resynchronisations, and two shards were asked twice", n)
	}
	wantExit(t, w.Redriver("resync", "--config", fromConfig, "nobody"), 2, "no source", "nobody")
	to.Stop()
	from.Stop()
}

// Topics are lost. On one cluster, each with a log of its own.
//
// Fault (kafka): The data topic is deleted while it is used, or while nothing is written. The source makes it again and begins a new generation in it; the sink stops and says that it is another log.
// Fault (kafka): The data topic is lost between two runs. The same.
// Fault (kafka): The offsets topic is deleted while it is used, or lost between two runs. The source stops and says so: nobody could tell which shards and generations the log holds.
func TestTopicsAreLost(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 1, 0), w.Cluster(1, 0)
	churn(t, source, -1)
	for _, c := range []struct {
		name, topic     string
		running, writes bool
	}{
		{"data topic in use", ".changes", true, true},
		{"data topic of an idle source", ".changes", true, false},
		{"data topic between runs", ".changes", false, true},
		{"offsets topic in use", ".offsets", true, true},
		{"offsets topic between runs", ".offsets", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := testkit.New(t)
			p := newPipeline(t, w, w.Kafka().Addr(), source)
			adm := p.admin(t)
			name := w.Name("to")
			fromConfig, toConfig := p.sourceConfig(), p.sinkConfig(name, target, "target.existing.keys", "replace")
			from, to := p.run(fromConfig), p.run(toConfig)
			p.mark(target.Client(), patience)
			if !c.running {
				from.Stop()
				to.Stop()
			}
			if done, err := adm.DeleteTopics(t.Context(), p.prefix+c.topic); err != nil || done.Error() != nil {
				t.Fatal(err, done.Error())
			}
			if c.writes {
				churn(t, source, 3) // something to commit
			}
			if !c.running {
				from, to = p.run(fromConfig), p.run(toConfig)
			}
			if c.topic == ".offsets" {
				wantExit(t, from, 7, "offsets topic was lost", "topic.prefix")
				return
			}
			wantExit(t, to, 8, "another log")
			again := p.run(p.sinkConfig(w.Name("again"), target, "target.existing.keys", "replace"))
			p.mark(target.Client(), patience)
			identical(t, source, target)
			p.chainHolds()
			again.Stop()
			from.Stop()
		})
	}
}
