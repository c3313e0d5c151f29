package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/redriver/redriver/internal/testkit/proc"
)

// ClusterConfig says which brokers to start.
type ClusterConfig struct {
	Dir     string // parent of the brokers' folders; required
	Brokers int
	// Quorum makes every broker a controller, so that any one of them may be killed. Else the first alone is, and the others
	// may come and go as long as it runs.
	Quorum bool
	// Props are more lines of a broker's server.properties; nil: none.
	Props func(broker int) Props
}

// Props are lines of server.properties. Listeners ("NAME://host:port") are added to the broker's own.
type Props struct {
	Lines                 map[string]string
	Listeners, Advertised []string
}

// StartCluster starts brokers. Topics have replicas on all of them unless asked otherwise, Kafka's own are safe with one
// broker down.
func StartCluster(ctx context.Context, cfg ClusterConfig) ([]*Broker, error) {
	n := cfg.Brokers
	controllerN := 1
	if cfg.Quorum {
		controllerN = n
	}
	ports, err := proc.FreePorts(n + controllerN)
	if err != nil {
		return nil, err
	}
	controller := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[n+i]) }
	var voters []string
	for i := range controllerN {
		voters = append(voters, strconv.Itoa(i+1)+"@"+controller(i))
	}
	brokers, errs := make([]*Broker, n), make([]error, n)
	start := func(i int) {
		props := map[string]string{
			"node.id": strconv.Itoa(i + 1), "controller.quorum.voters": strings.Join(voters, ","),
			"offsets.topic.replication.factor": strconv.Itoa(n), "transaction.state.log.replication.factor": strconv.Itoa(n),
			"transaction.state.log.min.isr":                               strconv.Itoa(min(n, 2)),
			"transaction.abort.timed.out.transaction.cleanup.interval.ms": "250",
			"process.roles": "broker",
		}
		plain := "PLAINTEXT://127.0.0.1:" + strconv.Itoa(ports[i])
		listeners, advertised := []string{plain}, []string{plain}
		if i < controllerN {
			props["process.roles"] = "broker,controller"
			listeners = append(listeners, "CONTROLLER://"+controller(i))
		}
		if cfg.Props != nil {
			more := cfg.Props(i)
			maps.Copy(props, more.Lines)
			listeners, advertised = append(listeners, more.Listeners...), append(advertised, more.Advertised...)
		}
		props["listeners"], props["advertised.listeners"] = strings.Join(listeners, ","), strings.Join(advertised, ",")
		brokers[i], errs[i] = Start(ctx, Config{
			Dir: filepath.Join(cfg.Dir, "broker"+strconv.Itoa(i+1)), Port: ports[i], Heap: "256m", ExtraProps: props, clusterID: "Redriver-TestCluster-1",
		})
	}
	first := 0
	if !cfg.Quorum { // the others register with it
		start(0)
		first = 1
	}
	if errs[0] == nil {
		var wg sync.WaitGroup
		for i := first; i < n; i++ {
			wg.Go(func() { start(i) })
		}
		wg.Wait()
	}
	if err := errors.Join(errs...); err != nil {
		for _, b := range brokers {
			if b != nil {
				err = errors.Join(err, b.Kill())
			}
		}
		return nil, fmt.Errorf("start %d brokers: %w", n, err)
	}
	return brokers, nil
}
