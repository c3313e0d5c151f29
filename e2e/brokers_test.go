package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/offsets"
)

// Three brokers, under load: every transaction has records on all of them.
//
// Fault (kafka): A broker that leads partitions of open transactions is killed. Others take over, and the source goes on with them.
// Fault (kafka): Two of three brokers are down, so that min.insync.replicas is not reached. Nothing is acknowledged to the master; publishing goes on out of the spool when they are back.
func TestThreeBrokers(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	brokers := w.KafkaCluster(3)
	source, target := sourceCluster(w, 1, 0), w.Cluster(1, 0)
	p := newPipeline(t, w, brokers[0].Addr(), source)
	from, to := p.run(p.sourceConfig("transaction.timeout", hungAfter.String())), p.run(p.sinkConfig("to", target))
	p.mark(target.Client(), patience)
	full := fullSyncs(t, source)
	stop := writers(t, source.Client(), 2, 300)
	adm := p.admin(t)
	// of counts the partitions that a broker leads, and those that have no other replica in sync.
	of := func(broker int32) (led, alone int) {
		topics, err := adm.ListTopics(t.Context(), p.prefix+".changes", p.prefix+".offsets")
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range topics {
			for _, d := range topic.Partitions {
				if d.Leader == broker {
					led++
					if len(d.ISR) == 1 {
						alone++
					}
				}
			}
		}
		return led, alone
	}
	restart := func(down ...*kafkatest.Broker) {
		t.Helper()
		for _, b := range down {
			if err := b.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}

	if led, _ := of(2); led == 0 {
		t.Error("the broker that is killed leads nothing")
	}
	if err := brokers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	p.mark(target.Client(), patience)
	if led, _ := of(2); led != 0 {
		t.Errorf("a broker that is down leads %d partitions", led)
	}

	if err := brokers[2].Kill(); err != nil {
		t.Fatal(err)
	}
	w.Eventually(patience, "the first broker is alone", func() error {
		if _, alone := of(1); alone != partitions+offsets.Partitions {
			return fmt.Errorf("for %d partitions", alone)
		}
		return nil
	})
	churn(t, source, 1)
	sent := p.replication(source.Masters()[0], "master_repl_offset")
	time.Sleep(2 * time.Second) // in which it could go wrong
	if got := p.replication(source.Masters()[0], "slave0"); got >= sent {
		t.Errorf("offset %d is acknowledged, and one broker alone has it", got)
	}
	restart(brokers[1], brokers[2])
	t.Logf("%d commands written", stop())
	p.mark(target.Client(), patience)
	if now := fullSyncs(t, source); now != full {
		t.Errorf("%d full resynchronisations followed", now-full)
	}
	identical(t, source, target)
	from.Stop()
	to.Stop()
	p.chainHolds()
}
