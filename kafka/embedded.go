package kafka

import (
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Embedded is a Kafka broker inside this process that keeps its data in a folder.
//
// It is for demonstrations, tests and one-off moves: one process, not replicated, without fsync unless asked for. A kill
// between the commit markers of two partitions leaves a transaction half committed, which a source's start check finds.
type Embedded struct {
	cluster *kfake.Cluster
}

// EmbeddedConfig says where the broker listens and keeps its data.
type EmbeddedConfig struct {
	// Dir is the data folder; it is created if missing.
	Dir string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// Sync asks for an fsync behind every write.
	Sync bool
}

// StartEmbedded starts the broker on the folder, with what an earlier run left there.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder of the embedded broker: %w", err)
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.DataDir(cfg.Dir),
		kfake.Ports(cfg.Port),
		// A transaction of a killed worker must not hold readers back for longer than its own timeout.
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}
	if cfg.Sync {
		opts = append(opts, kfake.SyncWrites())
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start embedded broker on %s: %w", cfg.Dir, err)
	}
	return &Embedded{cluster: c}, nil
}

// Brokers are the addresses to connect to.
func (e *Embedded) Brokers() []string {
	addrs := e.cluster.ListenAddrs()
	for i, a := range addrs {
		addrs[i] = strings.Replace(a, "[::]", "127.0.0.1", 1)
	}
	return addrs
}

// Close stops the broker and writes what it holds.
func (e *Embedded) Close() { e.cluster.Close() }
