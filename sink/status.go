package sink

import (
	"sync"
	"sync/atomic"
)

// State is what a partition is doing.
type State string

// The states of a partition.
const (
	StateIdle     State = ""         // not ours
	StateStarting State = "starting" // taking over: fences, checkpoints, start offset
	StateRunning  State = "running"
	StateSweeping State = "sweeping"
	StateWaiting  State = "waiting" // a passing trouble, see LastError
	StateStopped  State = "stopped" // given back
	StateFailed   State = "failed"  // a person has to look, see LastError
)

// Status is what a sink is doing, as of one moment.
type Status struct {
	Partitions []PartitionStatus
	// The sums over the partitions that are ours.
	Lag, Units, Bytes, PassedOver, Swept, Unsupported, DeadLetters int64
	// SkippedFunctions are commands about libraries of functions that the policy left out.
	SkippedFunctions int64
}

// PartitionStatus is what one partition is doing. Counters count from the start of the process.
type PartitionStatus struct {
	Partition int32
	State     State
	// Applied: everything below this Kafka offset is applied. Restart is where a new start would begin to read. End is the
	// end of what is committed in the log.
	Applied, Restart, End int64
	// Lag is End - Applied, in offsets: records and markers.
	Lag int64
	// Units and Bytes that were applied, entries included; Skipped were applied by an earlier run; PassedOver were refused
	// in the unknown window, without consequence; Swept keys were removed, Ghosts would have been under the policy report.
	Units, Bytes, Skipped, PassedOver, Swept, Ghosts int64
	// Unsupported counts what the target cannot have and Config.Unsupported says to leave out.
	Unsupported int64
	// DeadLetters are the events that were written into the topic of dead letters.
	DeadLetters int64
	LastError   string
}

// partitionStat is the live form of PartitionStatus.
type partitionStat struct {
	applied, restart, end                            atomic.Int64
	units, bytes, skipped, passedOver, swept, ghosts atomic.Int64
	unsupported, dead                                atomic.Int64
	// begun: the target has a watermark that vouches for something that was written.
	begun atomic.Bool

	mu    sync.Mutex
	state State
	err   string
}

func (p *partitionStat) setState(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

func (p *partitionStat) setError(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.err = err.Error()
	}
}

func (p *partitionStat) clearError() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = ""
}

// tally is what a parcel has applied.
type tally struct{ units, bytes int64 }

func (t *tally) add(s *shipment) {
	t.units += int64(len(s.units))
	t.bytes += int64(s.bytes)
}

func (p *partitionStat) count(t tally) {
	p.units.Add(t.units)
	p.bytes.Add(t.bytes)
}

func (s *Sink) statOf(partition int32) *partitionStat { return s.stats[partition] }

// Status tells what the sink is doing. It may be called at any time, from any goroutine.
func (s *Sink) Status() Status {
	s.mu.Lock()
	stats := s.stats
	s.mu.Unlock()
	out := Status{SkippedFunctions: s.skippedFunctions.Load()}
	for i, p := range stats {
		ps := PartitionStatus{
			Partition: int32(i), Applied: p.applied.Load(), Restart: p.restart.Load(), End: p.end.Load(),
			Units: p.units.Load(), Bytes: p.bytes.Load(), Skipped: p.skipped.Load(), PassedOver: p.passedOver.Load(),
			Swept: p.swept.Load(), Ghosts: p.ghosts.Load(), Unsupported: p.unsupported.Load(), DeadLetters: p.dead.Load(),
		}
		p.mu.Lock()
		ps.State, ps.LastError = p.state, p.err
		p.mu.Unlock()
		ps.Lag = max(ps.End-ps.Applied, 0)
		if ps.State != StateIdle && ps.State != StateStopped {
			out.Lag += ps.Lag
		}
		out.Units += ps.Units
		out.Bytes += ps.Bytes
		out.PassedOver += ps.PassedOver
		out.Swept += ps.Swept
		out.Unsupported += ps.Unsupported
		out.DeadLetters += ps.DeadLetters
		out.Partitions = append(out.Partitions, ps)
	}
	return out
}
