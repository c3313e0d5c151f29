package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
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
)

const (
	// soakBacklog of the source's masters holds some seconds of the load: a link that is away for longer loses it.
	soakBacklog = "1mb"
	// soakRetention of the log. A checkpoint comes more often, and nothing is behind for so long.
	soakRetention = 20 * time.Minute
)

// wires are ways to the nodes of a cluster, or to brokers, by the address that they lead to.
type wires map[string]*proxy.Wire

func (ws wires) down(down bool) {
	for _, w := range ws {
		w.Down(down)
	}
}

func (ws wires) cut() {
	for _, w := range ws {
		w.Cut()
	}
}

func (ws wires) slow(latency time.Duration, bytesPerSecond int) {
	for _, w := range ws {
		w.Slow(latency, bytesPerSecond)
	}
}

func (ws wires) hold(hold bool) {
	for _, w := range ws {
		w.Hold(hold)
	}
}

// addressMap is the value of redis.address.map that leads through them.
func (ws wires) addressMap() string {
	var pairs []string
	for addr, w := range ws {
		pairs = append(pairs, addr+"="+w.Addr())
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

func stretch(t *testing.T, port int, target string) *proxy.Wire {
	t.Helper()
	w, err := proxy.Stretch(t.Context(), port, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func wiresTo(t *testing.T, w *testkit.World, c *redistest.Cluster) wires {
	t.Helper()
	all := wires{}
	for _, n := range c.Nodes() {
		all[n.Addr()] = stretch(t, w.Port(), n.Addr())
	}
	return all
}

// soakWorld is what the faults happen to.
type soakWorld struct {
	*pipeline
	target                      *redistest.Cluster
	brokers                     []*kafkatest.Broker
	toSource, toKafka, toTarget wires
	from                        [2]*service // of one connector; one of them runs
	to                          [2]*service // of one connector; the second now and then
	kafka                       kafka.Config
	adm                         *kadm.Client
}

func newSoakWorld(t *testing.T, brokerN int, ended func(*service, error)) *soakWorld {
	t.Helper()
	w := testkit.New(t)
	sw := &soakWorld{toKafka: wires{}}
	sw.startKafka(t, w, brokerN)
	source := w.ClusterWith(redistest.Config{Version: os.Getenv("SOAK_VERSION"), Masters: 3, ReplicasPerMaster: 1, Args: []string{
		"--repl-backlog-size", soakBacklog, "--repl-ping-replica-period", "2", "--repl-timeout", "10",
	}})
	sw.target = w.ClusterWith(redistest.Config{Version: os.Getenv("SOAK_VERSION"), Masters: 3, ReplicasPerMaster: 1, Args: []string{"--repl-timeout", "10"}})
	sw.toSource, sw.toTarget = wiresTo(t, w, source), wiresTo(t, w, sw.target)
	sw.pipeline = newPipeline(t, w, sw.brokers[0].Addr(), source)
	for i := range sw.from {
		sw.from[i] = sw.newService("from", i, sw.sourceKeys(), ended)
		sw.to[i] = sw.newService("to", i, sw.sinkKeys(), ended)
	}
	return sw
}

// startKafka starts brokers, any of which may be killed. What is tested reaches them by wires only.
func (sw *soakWorld) startKafka(t *testing.T, w *testkit.World, brokerN int) {
	t.Helper()
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	props := make([]kafkatest.Props, brokerN)
	for i := range brokerN {
		inner, outer := w.Port(), w.Port()
		sw.toKafka[at(inner)] = stretch(t, outer, at(inner))
		props[i] = kafkatest.Props{
			Lines: map[string]string{
				"listener.security.protocol.map":  "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,WIRE:PLAINTEXT",
				"inter.broker.listener.name":      "PLAINTEXT",
				"log.retention.ms":                strconv.FormatInt(soakRetention.Milliseconds(), 10),
				"log.retention.check.interval.ms": "30000",
				"log.segment.bytes":               strconv.Itoa(16 << 20),
				"log.roll.ms":                     strconv.FormatInt((soakRetention / 4).Milliseconds(), 10),
			},
			Listeners: []string{"WIRE://" + at(inner)}, Advertised: []string{"WIRE://" + at(outer)},
		}
	}
	sw.brokers = w.KafkaClusterWith(kafkatest.ClusterConfig{Brokers: brokerN, Quorum: true, Props: func(i int) kafkatest.Props { return props[i] }})
	for _, b := range sw.brokers {
		sw.kafka.Brokers = append(sw.kafka.Brokers, b.Addr())
	}
	adm, err := sw.kafka.Admin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(adm.Close)
	sw.adm = adm
}

func (sw *soakWorld) sourceKeys() map[string]string {
	return map[string]string{
		"type": "source", "topic.prefix": sw.prefix, "topic.partitions": strconv.Itoa(partitions),
		"redis.address": strings.Join(sw.source.Addrs(), ","), "redis.address.map": sw.toSource.addressMap(),
		"link.timeout": "10s", "transaction.timeout": "10s",
	}
}

func (sw *soakWorld) sinkKeys() map[string]string {
	return map[string]string{
		"type": "sink", "topic.prefix": sw.prefix,
		"redis.address": strings.Join(sw.target.Addrs(), ","), "redis.address.map": sw.toTarget.addressMap(),
		"session.timeout": "6s", "reply.timeout": "5s",
	}
}

// newService is the i-th worker of a connector, with a folder of its own.
func (sw *soakWorld) newService(connector string, i int, keys map[string]string, ended func(*service, error)) *service {
	var brokers []string
	for w := range maps.Values(sw.toKafka) {
		brokers = append(brokers, w.Addr())
	}
	name := connector + strconv.Itoa(i+1)
	data := filepath.Join(sw.dir, "data-"+name)
	config := sw.write(name, map[string]string{
		"data.dir": data, "kafka.brokers": strings.Join(brokers, ","), "restart.pause.max": "5s",
	}, map[string]map[string]string{sw.connector(connector): keys})
	v := &service{name: name, data: data, config: config, log: sw.w.Path(name + ".log"), ended: ended}
	sw.t.Cleanup(func() { _ = v.kill() })
	return v
}

// services are all of ours, running or not.
func (sw *soakWorld) services() []*service {
	return append(sw.from[:], sw.to[:]...)
}

// ready waits until both deployments of Redis and Kafka are whole again.
func (sw *soakWorld) ready(ctx context.Context) error {
	for what, c := range map[string]*redistest.Cluster{"source": sw.source, "target": sw.target} {
		if err := c.WaitReady(ctx); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return sw.kafkaReady(ctx)
}

// kafkaReady waits until every partition has all its replicas in step.
func (sw *soakWorld) kafkaReady(ctx context.Context) error {
	return testkit.Poll(ctx, patience, func() error {
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		topics, err := sw.adm.ListTopicsWithInternal(asking)
		if err != nil {
			return err
		}
		for _, topic := range topics {
			for _, p := range topic.Partitions {
				if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
					return fmt.Errorf("%s/%d: leader %d, %d of %d replicas in step", topic.Topic, p.Partition, p.Leader, len(p.ISR), len(p.Replicas))
				}
			}
		}
		return nil
	})
}
