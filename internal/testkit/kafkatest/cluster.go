package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/redriver/redriver/internal/testkit/proc"
)

// StartCluster starts n brokers on folders below dir. The first is the controller too: as long as it runs the others may come
// and go. Topics have replicas on all of them unless asked otherwise, Kafka's own are safe with one broker down.
func StartCluster(ctx context.Context, dir string, n int) ([]*Broker, error) {
	ports, err := proc.FreePorts(n + 1)
	if err != nil {
		return nil, err
	}
	controller := "127.0.0.1:" + strconv.Itoa(ports[n])
	brokers, errs := make([]*Broker, n), make([]error, n)
	start := func(i int) {
		addr := "127.0.0.1:" + strconv.Itoa(ports[i])
		props := map[string]string{
			"node.id": strconv.Itoa(i + 1), "controller.quorum.voters": "1@" + controller,
			"offsets.topic.replication.factor": strconv.Itoa(n), "transaction.state.log.replication.factor": strconv.Itoa(n),
			"transaction.state.log.min.isr":                               strconv.Itoa(min(n, 2)),
			"transaction.abort.timed.out.transaction.cleanup.interval.ms": "250",
			"process.roles": "broker", "listeners": "PLAINTEXT://" + addr,
		}
		if i == 0 {
			props["process.roles"], props["listeners"] = "broker,controller", "PLAINTEXT://"+addr+",CONTROLLER://"+controller
		}
		brokers[i], errs[i] = Start(ctx, Config{
			Dir: filepath.Join(dir, "broker"+strconv.Itoa(i+1)), Port: ports[i], Heap: "256m", ExtraProps: props, clusterID: "Redriver-TestCluster-1",
		})
	}
	start(0)
	if errs[0] == nil {
		var wg sync.WaitGroup
		for i := 1; i < n; i++ {
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
