package sink

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redriver/redriver/codec"
)

// Class says what an error means for the partition it happened in. It is read in one place, worker.run.
type Class int

// The classes of errors.
const (
	// Retry: try again after a pause, from what is in memory or from the target.
	Retry Class = iota
	// Resync: the target is not where we left it: start the partition from the target's own records.
	Resync
	// Fenced: another owner has raised the fence of the partition.
	Fenced
	// Stop: a person has to look. The sink ends with the error.
	Stop
)

// RefusedError tells that the target refused a write for good. Nothing behind it is applied in its partition.
type RefusedError struct {
	Partition int32
	Offset    int64
	Command   string
	Key       []byte
	Reply     string
	// Exec tells that the command stood in a transaction whose other commands took effect.
	Exec bool
}

const shownKeyBytes = 120

func (e *RefusedError) Error() string {
	key := e.Key
	dots := ""
	if len(key) > shownKeyBytes {
		key, dots = key[:shownKeyBytes], "..."
	}
	where := ""
	if e.Exec {
		where = " in a transaction, whose other commands took effect,"
	}
	return fmt.Sprintf("apply %s of key %s%s%s from partition %d offset %d: the target refuses: %s (%s)",
		e.Command, strconv.QuoteToASCII(string(key)), dots, where, e.Partition, e.Offset, e.Reply, refusedHint(e.Reply))
}

// Class is Stop.
func (e *RefusedError) Class() Class { return Stop }

// LostError tells that the log no longer holds what the sink has to read.
type LostError struct {
	Topic     string
	Partition int32
	// From is the first offset needed, To the first that is still there.
	From, To int64
	Hint     string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("read %s/%d from offset %d: the log begins at %d, offsets %d to %d are lost to retention (%s)",
		e.Topic, e.Partition, e.From, e.To, e.From, e.To-1, e.Hint)
}

// Class is Stop.
func (e *LostError) Class() Class { return Stop }

// awaitError is a LostError that a snapshot in the log will end.
type awaitError struct{ lost *LostError }

func (e *awaitError) Error() string { return e.lost.Error() }

// Class is Retry.
func (e *awaitError) Class() Class { return Retry }

// StartError tells why a partition must not start.
type StartError struct {
	Partition int32
	Why, Hint string
}

func (e *StartError) Error() string {
	return fmt.Sprintf("start partition %d: %s (%s)", e.Partition, e.Why, e.Hint)
}

// Class is Stop.
func (e *StartError) Class() Class { return Stop }

// OverdueError tells that the sink was away for longer than it holds expiry times.
type OverdueError struct {
	Partition  int32
	Offset     int64
	Late, Hold time.Duration
}

func (e *OverdueError) Error() string {
	return fmt.Sprintf("apply partition %d from offset %d: it was written %s ago, longer than expiry times at the target are held (%s): keys that were "+
		"renewed or changed since may have expired there (begin anew from a newer snapshot, under another name with target.existing.keys: replace; "+
		"or set expiry.overdue: accept, and have redriver verify repair what was lost)",
		e.Partition, e.Offset, e.Late.Round(time.Minute), e.Hold)
}

// Class is Stop.
func (e *OverdueError) Class() Class { return Stop }

// ExistingKeysError tells that a new sink found keys that are not its own.
type ExistingKeysError struct {
	Keys int64
	Key  []byte
}

func (e *ExistingKeysError) Error() string {
	return fmt.Sprintf("start on a target that holds keys, %d and more, such as %s: nothing was written (empty the target, or set target.existing.keys to replace or keep)",
		e.Keys, strconv.QuoteToASCII(string(e.Key[:min(len(e.Key), shownKeyBytes)])))
}

// Class is Stop.
func (e *ExistingKeysError) Class() Class { return Stop }

// SweepError is the breaker: the new generation would remove too much.
type SweepError struct {
	Partition  int32
	Shard      uint32
	Generation uint32
	Ghosts     int64
	Keys       int64
	Max        float64
}

func (e *SweepError) Error() string {
	return fmt.Sprintf("sweep partition %d behind generation %d of shard %d: %d of %d keys at the target would go, more than the allowed part of %g "+
		"(was the source emptied by accident? set sweep.max to 1 to go on, or sweep.policy to report or keep)",
		e.Partition, e.Generation, e.Shard, e.Ghosts, e.Keys, e.Max)
}

// Class is Stop.
func (e *SweepError) Class() Class { return Stop }

// RecordError tells that a record of the log cannot be applied by this version.
type RecordError struct {
	Partition int32
	Offset    int64
	Err       error
}

func (e *RecordError) Error() string {
	_, database := errors.AsType[*DatabaseError](e.Err)
	_, spread := errors.AsType[*SpreadError](e.Err)
	if database || spread {
		return fmt.Sprintf("partition %d offset %d: %v", e.Partition, e.Offset, e.Err)
	}
	hint := "who else writes to this topic? a source with a new topic.prefix makes a clean one"
	if errors.Is(e.Err, codec.ErrVersion) {
		hint = "written by a newer redriver, or by somebody else: upgrade the sink, or use a topic of its own"
	}
	return fmt.Sprintf("read record of partition %d offset %d: %v (%s)", e.Partition, e.Offset, e.Err, hint)
}

func (e *RecordError) Unwrap() error { return e.Err }

// Class is Stop.
func (e *RecordError) Class() Class { return Stop }

// classError gives an error a class.
type classError struct {
	class Class
	err   error
}

func (e *classError) Error() string { return e.err.Error() }
func (e *classError) Unwrap() error { return e.err }
func (e *classError) Class() Class  { return e.class }

func classed(c Class, format string, args ...any) error {
	return &classError{class: c, err: fmt.Errorf(format, args...)}
}

// classOf is the class of an error. What names none, a network error for instance, is tried again.
func classOf(err error) Class {
	var c interface{ Class() Class }
	if errors.As(err, &c) {
		return c.Class()
	}
	return Retry
}

var (
	errTopology = errors.New("the target's topology has changed")
	errLostConn = errors.New("connection to the target lost")
	errStopped  = errors.New("partition was taken away")
	errNotOwner = errors.New("this worker is no member of the group any more")
)
