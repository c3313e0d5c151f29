package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/proxy"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
)

// patience is how long a test waits for what has to come: a busy machine is no fault.
const patience = 90 * time.Second

// hungAfter is transaction.timeout of the sources here.
const hungAfter = 3 * time.Second

// badKafka is a broker with two ways to it: one for the test itself, which may do everything, and one through a proxy,
// with passwords and rights, for what is tested.
type badKafka struct {
	server *kafkatest.Broker
	proxy  *proxy.Proxy
	adm    *kadm.Client
}

func newBadKafka(t *testing.T, w *testkit.World) *badKafka {
	t.Helper()
	plain, inner, outer, controller := w.Port(), w.Port(), w.Port(), w.Port()
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	k := &badKafka{}
	k.server = w.OwnKafka(kafkatest.Config{Port: plain, ExtraProps: map[string]string{
		"listeners":                                fmt.Sprintf("PLAINTEXT://%s,BAD://%s,CONTROLLER://%s", at(plain), at(inner), at(controller)),
		"advertised.listeners":                     fmt.Sprintf("PLAINTEXT://%s,BAD://%s", at(plain), at(outer)),
		"controller.quorum.voters":                 "1@" + at(controller),
		"listener.security.protocol.map":           "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,BAD:SASL_PLAINTEXT",
		"inter.broker.listener.name":               "PLAINTEXT",
		"sasl.enabled.mechanisms":                  "PLAIN",
		"listener.name.bad.plain.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required user_from="from-secret" user_to="to-secret";`,
		"authorizer.class.name":                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":                              "User:ANONYMOUS",
		// Every 10 s by default.
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "250",
	}})
	p, err := proxy.Listen(t.Context(), outer, at(inner))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	k.proxy = p
	adm, err := kafka.Config{Brokers: []string{k.server.Addr()}}.Admin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(adm.Close)
	k.adm = adm
	return k
}

// rights are what a source or a sink needs, as docs say, and no more.
func (k *badKafka) rights(user, prefix string) []*kadm.ACLBuilder {
	allow := func() *kadm.ACLBuilder {
		return kadm.NewACLs().Allow("User:" + user).AllowHosts("*").ResourcePatternType(kadm.ACLPatternPrefixed)
	}
	if user == "to" {
		return []*kadm.ACLBuilder{
			allow().Topics(prefix).Operations(kadm.OpRead, kadm.OpDescribe),
			allow().Groups("redriver-to").Operations(kadm.OpRead, kadm.OpDescribe),
		}
	}
	return []*kadm.ACLBuilder{
		allow().Topics(prefix).Operations(kadm.OpRead, kadm.OpWrite, kadm.OpDescribe, kadm.OpDescribeConfigs, kadm.OpCreate),
		allow().TransactionalIDs("from").Operations(kadm.OpWrite, kadm.OpDescribe),
	}
}

func (k *badKafka) grant(t *testing.T, rights ...*kadm.ACLBuilder) {
	t.Helper()
	for _, b := range rights {
		done, err := k.adm.CreateACLs(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range done {
			if d.Err != nil {
				t.Fatal(d.Err)
			}
		}
	}
}

func (k *badKafka) revoke(t *testing.T, rights ...*kadm.ACLBuilder) {
	t.Helper()
	for _, b := range rights {
		done, err := k.adm.DeleteACLs(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range done {
			if d.Err != nil || len(d.Deleted) == 0 {
				t.Fatalf("%d rights were removed: %v", len(d.Deleted), d.Err)
			}
		}
	}
}

// settledTransaction waits until the broker has no open transaction of a transactional id.
func (k *badKafka) settledTransaction(ctx context.Context, id string) error {
	return testkit.Poll(ctx, patience, func() error {
		described, err := k.adm.DescribeTransactions(ctx, id)
		if err != nil {
			return err
		}
		if tx := described[id]; tx.Err != nil || strings.HasPrefix(tx.State, "Complete") || tx.State == "Empty" {
			return tx.Err
		}
		return fmt.Errorf("the transaction of %s is %s", id, described[id].State)
	})
}

// underFaults is a pipeline on a bad Kafka that goes on from fault to fault under load. Every fault must be got over without
// a full resynchronisation: the spool has it all.
type underFaults struct {
	*pipeline
	*badKafka
	target   *redistest.Cluster
	from, to *testkit.Redriver
	machine  int // where the source runs: it has a folder of its own
	full     int

	stopWriters func() uint64
}

func newUnderFaults(t *testing.T) *underFaults {
	t.Helper()
	w := testkit.New(t)
	f := &underFaults{target: w.Cluster(1, 0)}
	source := sourceCluster(w, 2, 0)
	f.badKafka = newBadKafka(t, w)
	f.pipeline = newPipeline(t, w, f.server.Addr(), source)
	f.grant(t, append(f.rights("from", f.prefix), f.rights("to", f.prefix)...)...)
	f.runFrom()
	f.runTo()
	f.mark(f.target.Client(), patience)
	f.full = fullSyncs(t, source)
	f.stopWriters = writers(t, source.Client(), 2, 300)
	return f
}

func (f *underFaults) worker(user string) map[string]string {
	return map[string]string{
		"data.dir": filepath.Join(f.dir, "data-"+user+strconv.Itoa(f.machine)), "kafka.brokers": f.proxy.Addr(), "restart.pause": "100ms",
		"kafka.sasl.mechanism": "PLAIN", "kafka.sasl.username": user, "kafka.sasl.password": user + "-secret",
	}
}

func (f *underFaults) runFrom() {
	f.t.Helper()
	f.from = f.run(f.write("from", f.worker("from"), map[string]map[string]string{"from": {
		"type": "source", "topic.prefix": f.prefix, "topic.partitions": strconv.Itoa(partitions), "redis.address": f.source.Addrs()[0],
		"transaction.timeout": hungAfter.String(),
	}}))
}

func (f *underFaults) runTo() {
	f.t.Helper()
	f.to = f.run(f.write("to", f.worker("to"), map[string]map[string]string{"to": {
		"type": "sink", "topic.prefix": f.prefix, "redis.address": f.target.Addrs()[0],
	}}))
}

// fault runs one of them as a subtest, and then waits until all that was written has arrived.
func (f *underFaults) fault(name string, do func(t *testing.T, f *underFaults)) {
	t := f.t
	t.Run(name, func(t *testing.T) {
		if f.t.Failed() {
			t.Fatal("not tried: an earlier fault was not got over")
		}
		g, p := *f, *f.pipeline
		p.t, g.pipeline = t, &p
		do(t, &g)
		f.from, f.to, f.machine = g.from, g.to, g.machine
		g.proxy.Judge(nil)
		p.w = testkit.New(t)
		p.mark(g.target.Client(), patience)
		if now := fullSyncs(t, p.source); now != f.full {
			t.Errorf("%d full resynchronisations followed", now-f.full)
			f.full = now
		}
	})
}

// interrupted waits until the source has given up a session since the log had so many bytes.
func (f *underFaults) interrupted(t *testing.T, since int, words ...string) {
	t.Helper()
	err := testkit.Poll(t.Context(), patience, func() error {
		for line := range strings.Lines(f.from.Log()[since:]) {
			found := strings.Contains(line, "publishing interrupted")
			for _, w := range words {
				found = found && strings.Contains(line, w)
			}
			if found {
				return nil
			}
		}
		return fmt.Errorf("the source does not say that it was interrupted %v", words)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func met(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("the proxy did not meet the request")
	}
}

// lanes are the transactional ids of the source's lanes.
func (f *underFaults) lanes() []string {
	return []string{offsets.TransactionalID("from", 1), offsets.TransactionalID("from", 2)}
}

var errNotYet = errors.New("not yet")

// leavingBroker is a stand-in broker that goes away and comes back, on the same port and with its data.
type leavingBroker struct {
	fake *kafkatest.Fake
	dir  string
}

func newLeavingBroker(t *testing.T) *leavingBroker {
	t.Helper()
	b := &leavingBroker{dir: t.TempDir()}
	var err error
	if b.fake, err = kafkatest.StartFake(b.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.leave)
	return b
}

func (b *leavingBroker) Addr() string { return b.fake.Addr() }

func (b *leavingBroker) leave() { b.fake.Close() }

func (b *leavingBroker) comeBack(t *testing.T) {
	t.Helper()
	var err error
	if b.fake, err = kafkatest.StartFakeOn(b.dir, b.fake.Port()); err != nil {
		t.Fatal(err)
	}
}
