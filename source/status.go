package source

import (
	"sync"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

// Stage is what a shard's link and lane are doing.
type Stage string

// The stages, in the order in which a shard passes them.
const (
	StageStarting   Stage = "starting"
	StageConnecting Stage = "connecting"
	StageParked     Stage = "waiting before the next resynchronisation"
	StageWaiting    Stage = "waiting for the snapshot"
	StageReceiving  Stage = "snapshot"
	StageStreaming  Stage = "streaming"
)

// Snapshot of a shard's state, for logs, progress and status.
type Snapshot struct {
	Shard      event.Shard
	Master     string // the node that is joined: a replica of it where so configured
	Slots      string
	Stage      Stage
	Generation event.Generation
	// SnapshotBytes of SnapshotSize (-1: the master does not tell) have arrived, SnapshotEntries of it are published.
	SnapshotBytes, SnapshotSize int64
	SnapshotEntries             uint64
	// Committed is the position in Kafka.
	Committed event.Position
	// ReceivedBytes of the stream and Units published since the start; Entries likewise.
	ReceivedBytes  int64
	Units, Entries uint64
	// NotCarried counts commands of the stream that are no writes of keys and not in the log: PUBLISH and the like.
	NotCarried uint64
	// SkippedAux counts pieces of modules' data that belongs to no key and was left out of snapshots.
	SkippedAux uint64
	// MadeAbsolute counts commands of the stream that came with a time to live and are in the log with a point in time.
	MadeAbsolute uint64
	// ClockSkew is how far the master's clock was ahead of ours when the link began to stream, known to within ClockError.
	ClockSkew, ClockError time.Duration
	// SpoolBytes wait between link and Kafka.
	SpoolBytes int64
	// LastCommit is when the last transaction was committed.
	LastCommit time.Time
	Commits    uint64
	// LastError of link or lane, while it lasts.
	LastError string
}

// ShardStatus gathers a shard's state from its goroutines.
type ShardStatus struct {
	mu sync.Mutex
	s  Snapshot
}

func (t *ShardStatus) update(fn func(*Snapshot)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fn(&t.s)
}

func (t *ShardStatus) read() Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.s
}

func (t *ShardStatus) stage(s Stage) { t.update(func(n *Snapshot) { n.Stage = s }) }

func (t *ShardStatus) linkLost(err error) {
	t.update(func(n *Snapshot) { n.LastError = err.Error() })
}

// parked: resynchronising waits, because of err.
func (t *ShardStatus) parked(err error) {
	t.update(func(n *Snapshot) { n.Stage, n.LastError = StageParked, err.Error() })
}

func (t *ShardStatus) linked(addr string, skew, within time.Duration) {
	t.update(func(n *Snapshot) {
		n.Master, n.Stage, n.LastError = addr, StageStreaming, ""
		n.ClockSkew, n.ClockError = skew, within
	})
}

func (t *ShardStatus) received(bytes int64) { t.update(func(n *Snapshot) { n.ReceivedBytes += bytes }) }

func (t *ShardStatus) snapshotSize(size int64) {
	t.update(func(n *Snapshot) { n.SnapshotSize, n.SnapshotBytes, n.SnapshotEntries = size, 0, 0 })
}

func (t *ShardStatus) snapshotReceived(bytes int64) {
	t.update(func(n *Snapshot) { n.SnapshotBytes += bytes })
}

func (t *ShardStatus) laneFailed(err error) {
	t.update(func(n *Snapshot) { n.LastError = err.Error() })
}

func (t *ShardStatus) owns(slots *slot.Set) { t.update(func(n *Snapshot) { n.Slots = slots.String() }) }
