package kafkatest

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/redriver/redriver/internal/testkit/proc"
)

// Fake is an in-process broker that keeps its data in a folder.
type Fake struct {
	*kfake.Cluster // to inject faults: ControlKey and the like

	port int
}

// StartFake starts the stand-in broker on a folder, with the data of an earlier run if there is any: at once.
func StartFake(dir string) (*Fake, error) {
	var last error
	for range portAttempts {
		port, err := proc.FreePort()
		if err != nil {
			return nil, err
		}
		f, err := StartFakeOn(dir, port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return f, err
		}
		last = err
	}
	return nil, last
}

// portAttempts is how many ports are tried: one that was free may not be a moment later.
const portAttempts = 5

// StartFakeOn is StartFake on a given port, for a restart where clients still look for the broker. Options win over ours.
func StartFakeOn(dir string, port int, options ...kfake.Opt) (*Fake, error) {
	options = append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(port),
		kfake.DataDir(dir),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}, options...)
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return nil, fmt.Errorf("start fake kafka on %s: %w", dir, err)
	}
	return &Fake{Cluster: cluster, port: port}, nil
}

// Addr returns host:port.
func (f *Fake) Addr() string { return f.ListenAddrs()[0] }

// Port returns the port, for StartFakeOn.
func (f *Fake) Port() int { return f.port }
