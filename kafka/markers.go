package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// brokerRetry is how long a broker lets a produce request wait that comes before the markers of its producer's last
	// transaction are written (add.partitions.to.txn.retry.backoff.ms, 20 by default).
	brokerRetry = 20 * time.Millisecond
	// markersPause is between the first two looks whether they are, and doubles with each.
	markersPause = 500 * time.Microsecond
)

// Markers lets the coordinator complete a transaction before its producer begins another: EndTransaction returns when the
// outcome is certain, and the markers are written behind that, within a few milliseconds; whoever produces meanwhile loses
// brokerRetry. Of one producer, for one goroutine.
type Markers struct {
	// took is how long the markers of transactions before took, about: asking earlier costs the broker as much as the
	// transaction.
	took time.Duration
}

// Await returns once the transaction that ended at that time is complete. What goes wrong here shows in the next one.
func (m *Markers) Await(ctx context.Context, cl *kgo.Client, transactionalID string, ended time.Time) {
	wait := m.took - time.Since(ended)
	for pause := markersPause; ; pause *= 2 {
		if wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		asked := time.Since(ended)
		if asked >= brokerRetry {
			return
		}
		req := kmsg.NewPtrDescribeTransactionsRequest()
		req.TransactionalIDs = []string{transactionalID}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil || len(resp.TransactionStates) != 1 {
			return
		}
		if resp.TransactionStates[0].State != "PrepareCommit" {
			if pause == markersPause && wait > 0 { // perhaps long before
				m.took -= m.took / 8
			}
			return
		}
		m.took = min(asked+markersPause, brokerRetry/4)
		wait = pause
	}
}
