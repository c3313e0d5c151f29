package e2e_test

import (
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
)

// A broker whose clock is two hours behind sees records of the future, one that is ahead sees old ones; both are refused by
// message.timestamp.after.max.ms (an hour by default) and message.timestamp.before.max.ms (no bound by default).
//
// Fault (kafka): The broker's clock is two hours behind. It refuses the times of records; the source says so and sends them without, and nothing waits for a person.
// Fault (kafka): The broker's clock is two hours ahead, and older records are not allowed. The same.
func TestBrokerWithAnotherClock(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Fatal("a broker with a wrong clock needs a C compiler: install gcc")
	}
	w := testkit.New(t)
	broker := w.OwnKafka(kafkatest.Config{Clock: -2 * time.Hour})
	source, target := sourceCluster(w, 1, 0), w.Cluster(1, 0)
	p := newPipeline(t, w, broker.Addr(), source)
	churn(t, source, -1)
	from, to := p.run(p.sourceConfig()), p.run(p.sinkConfig("to", target))
	churn(t, source, 0)
	p.mark(target.Client(), patience)
	says(w, from, "refuses the time of records")
	full := fullSyncs(t, source)

	bound := "3600000"
	done, err := p.admin(t).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "message.timestamp.before.max.ms", Value: &bound}}, p.prefix+".changes")
	if err != nil || done[0].Err != nil {
		t.Fatal(err, done)
	}
	from.Stop()
	if err := errors.Join(broker.SetClock(t.Context(), 2*time.Hour), broker.Stop(), broker.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	from = p.run(p.sourceConfig())
	churn(t, source, 1)
	p.mark(target.Client(), patience)
	says(w, from, "refuses the time of records")
	if now := fullSyncs(t, source); now != full {
		t.Errorf("%d full resynchronisations followed", now-full)
	}
	identical(t, source, target)
	from.Stop()
	to.Stop()
	p.chainHolds()
}
