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
	// markersPause is between two looks whether they are.
	markersPause = 500 * time.Microsecond
)

// AwaitMarkers lets the coordinator complete a transaction that ended at that time, before the producer begins another:
// EndTransaction returns when the outcome is certain, and the markers are written behind that, within a few milliseconds;
// whoever produces meanwhile loses brokerRetry. What goes wrong here shows in the next transaction.
func AwaitMarkers(ctx context.Context, cl *kgo.Client, transactionalID string, ended time.Time) {
	for time.Since(ended) < brokerRetry {
		req := kmsg.NewPtrDescribeTransactionsRequest()
		req.TransactionalIDs = []string{transactionalID}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil || len(resp.TransactionStates) != 1 || resp.TransactionStates[0].State != "PrepareCommit" {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(markersPause):
		}
	}
}
