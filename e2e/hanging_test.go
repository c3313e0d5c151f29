package e2e_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// forgottenLine is what a source says of each partition in which it ended a transaction that hung.
const forgottenLine = "Kafka had forgotten to end a transaction"

// hang leaves a transaction in partitions that its coordinator knows nothing of, so that nobody ends it.
func (f *underFaults) hang(t *testing.T, id, topic string, partitions ...int32) {
	t.Helper()
	// From 12 on the broker itself tells the coordinator of a produce request.
	const version = 11
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.Produce), version)
	cl := f.client(t, kgo.TransactionalID(id), kgo.MaxVersions(versions))
	producerID, epoch, err := cl.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis = &id, -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = p, batch(producerID, epoch, "key", "never to be seen")
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	f.verify(t, "false")
	defer f.verify(t, "true")
	f.w.Eventually(patience, "the broker takes what its coordinator knows nothing of", func() error {
		resp, err := cl.Broker(1).Request(t.Context(), req)
		if err != nil {
			return err
		}
		for _, rt := range resp.(*kmsg.ProduceResponse).Topics {
			for _, rp := range rt.Partitions {
				err = errors.Join(err, kerr.ErrorForCode(rp.ErrorCode))
			}
		}
		return err
	})
}

// verify sets whether the broker asks the coordinator about a transaction that is new to it.
func (f *underFaults) verify(t *testing.T, enable string) {
	t.Helper()
	done, err := f.adm.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "transaction.partition.verification.enable", Value: &enable}})
	if err != nil || len(done) != 1 || done[0].Err != nil {
		t.Fatal(err, done)
	}
}

// batch holds one record of a transaction (https://kafka.apache.org/documentation/#messageformat).
func batch(producerID int64, epoch int16, key, value string) []byte {
	rec := []byte{0, 0, 0} // attributes, deltas of time and offset
	for _, field := range []string{key, value} {
		rec = append(binary.AppendVarint(rec, int64(len(field))), field...)
	}
	rec = append(rec, 0) // headers
	now := time.Now().UnixMilli()
	const (
		transactional = 1 << 4
		afterLength   = 12
		afterCRC      = 21
	)
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: transactional, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: producerID, ProducerEpoch: epoch, NumRecords: 1, Records: append(binary.AppendVarint(nil, int64(len(rec))), rec...),
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-afterLength))
	binary.BigEndian.PutUint32(out[afterCRC-4:], crc32.Checksum(out[afterCRC:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}
