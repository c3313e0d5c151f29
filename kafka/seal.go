package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// embeddedClusterID is how the embedded broker names itself.
const embeddedClusterID = "kfake"

// Seal ends, on an embedded broker, what a kill of that broker left of a producer's transaction. On any other broker it
// does nothing.
//
// After a kill the embedded broker treats records without a commit marker as aborted, but writes no marker that says so.
// A read_committed consumer skips the records of an aborted producer up to its abort marker; without one it would also
// skip what the same producer commits later, in silence, as far as one fetch reaches.
func Seal(ctx context.Context, cl *kgo.Client, producerID int64, epoch int16, partitions map[string]int32) error {
	adm := kadm.NewClient(cl)
	meta, err := adm.BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("ask broker for its cluster: %w", err)
	}
	if meta.Cluster != embeddedClusterID {
		return nil
	}
	marker := kmsg.NewWriteTxnMarkersRequestMarker()
	marker.ProducerID, marker.ProducerEpoch = producerID, epoch
	for topic, n := range partitions {
		t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		t.Topic = topic
		for p := range n {
			t.Partitions = append(t.Partitions, p)
		}
		marker.Topics = append(marker.Topics, t)
	}
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Markers = append(req.Markers, marker)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("seal transactions: %w", err)
	}
	for _, m := range resp.Markers {
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("seal transactions of %s/%d: %w", t.Topic, p.Partition, err)
				}
			}
		}
	}
	return nil
}
