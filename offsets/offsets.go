package offsets

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/redriver/redriver/event"
)

const (
	// Partitions of the offsets topic: the registry has one, each lane one of the others to itself as far as they go, so
	// that a lane's open transaction holds back no other lane's start.
	Partitions = 64

	formatVersion = 1

	kindRegistry = "registry"
	kindPosition = "position"
	kindSnapshot = "snapshot"
)

// Topic is the name of the offsets topic of a prefix, ChangesTopic that of the data.
func Topic(prefix string) string { return prefix + ".offsets" }

// ChangesTopic is the name of the data topic of a prefix.
func ChangesTopic(prefix string) string { return prefix + ".changes" }

// DeadTopic is the name of the topic that sinks write what their targets cannot have into, if they are told to.
func DeadTopic(prefix string) string { return prefix + ".dead" }

// RegistryPartition holds the registry.
const RegistryPartition int32 = 0

// LanePartition is the partition that holds a lane's positions.
func LanePartition(s event.Shard) int32 {
	return 1 + int32((int64(s)-1)%(Partitions-1))
}

// TransactionalID is what a lane commits under.
func TransactionalID(connector string, s event.Shard) string {
	return fmt.Sprintf("%s-%d", connector, s)
}

// Registry is the connector's list of shards.
type Registry struct {
	Version int `json:"v"`
	// TopicID and Partitions are those of the data topic when the connector first started: the mapping of slots to
	// partitions is fixed for the life of the log.
	TopicID    string `json:"topic_id"`
	Partitions int32  `json:"partitions"`
	// Owner is a random name of the worker that publishes. Another one that wakes up after a pause finds that it is not
	// its own any more, and ends instead of fencing its successor.
	Owner  string  `json:"owner"`
	Shards []Known `json:"shards"`
}

// Known is what a shard is recognised by.
type Known struct {
	Shard   event.Shard `json:"shard"`
	ShardID string      `json:"shard_id,omitempty"`
	// NodeIDs of the master and its replicas, ReplIDs newest first.
	NodeIDs []string       `json:"node_ids"`
	ReplIDs []event.ReplID `json:"repl_ids"`
	Slots   string         `json:"slots"`
	// Gone is set once no master answers to the shard any more. Its number is never given again.
	Gone bool `json:"gone,omitempty"`
}

// Position is how far a lane is published.
type Position struct {
	Version    int              `json:"v"`
	Shard      event.Shard      `json:"shard"`
	Generation event.Generation `json:"generation"`
	event.Position
	// DB is the database that the stream has selected at Offset.
	DB uint32 `json:"db"`
	// Slots are those that the generation covers: what the lane publishes lies in them.
	Slots string `json:"slots"`
	// Snapshot is set from the reservation of a generation until all of it is committed.
	Snapshot *Progress `json:"snapshot,omitempty"`
	// Renew asks for a new generation. It is set by an operator's command, and gone with the reservation of the next one.
	Renew   bool   `json:"renew,omitempty"`
	TopicID string `json:"topic_id"`
	// Marks is the end of the lane's chain in each partition, this transaction included; Ends is where those partitions
	// ended in Kafka before this transaction: a start check reads the log from there.
	Marks map[int32]event.Mark `json:"marks"`
	Ends  map[int32]int64      `json:"ends"`
	// Wrote lists the partitions in which this transaction wrote.
	Wrote []int32 `json:"wrote"`
	// Chunks counts this transaction's records that are chunks, by partition. Its first and its last event may lie in
	// other transactions too, and the last one may be whole only in a later one: Marks have it then.
	Chunks map[int32]uint32 `json:"chunks,omitempty"`
	// TimeMs is when the position was written, Unix milliseconds of the worker's clock.
	TimeMs int64 `json:"time_ms"`
}

// Progress of a snapshot.
type Progress struct {
	// Entries of the snapshot that are published whole.
	Entries uint64 `json:"entries"`
}

// Boundary is a complete snapshot in the log: a consumer that starts there gets the full state, then the changes.
type Boundary struct {
	Version    int              `json:"v"`
	Shard      event.Shard      `json:"shard"`
	Generation event.Generation `json:"generation"`
	event.Position
	// Begin is the Kafka offset of the snapshot's begin in each partition of the lane.
	Begin   map[int32]int64 `json:"begin"`
	Entries uint64          `json:"entries"`
	TimeMs  int64           `json:"time_ms"`
	TopicID string          `json:"topic_id"`
}

// Time is when the snapshot was complete.
func (b Boundary) Time() time.Time { return time.UnixMilli(b.TimeMs) }

// RegistryRecord encodes the registry.
func RegistryRecord(connector string, r Registry) (key, value []byte, err error) {
	r.Version = formatVersion
	return record(r, connector, kindRegistry)
}

// PositionRecord encodes a position.
func PositionRecord(connector string, p Position) (key, value []byte, err error) {
	p.Version = formatVersion
	return record(p, connector, kindPosition, p.Shard)
}

// BoundaryRecord encodes a boundary.
func BoundaryRecord(connector string, b Boundary) (key, value []byte, err error) {
	b.Version = formatVersion
	return record(b, connector, kindSnapshot, b.Shard, b.Generation)
}

func record(v any, key ...any) ([]byte, []byte, error) {
	k, err := json.Marshal(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode offsets key: %w", err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, nil, fmt.Errorf("encode offsets record %s: %w", k, err)
	}
	return k, b, nil
}
