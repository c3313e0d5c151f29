package event

import "fmt"

// Mark is the last event of one lane in one partition: what the next one there has to follow.
type Mark struct {
	Generation Generation `json:"g"`
	ReplID     ReplID     `json:"r"`
	// Snapshot is true between SnapshotBegin and SnapshotEnd; Number is valid then.
	Snapshot bool   `json:"s,omitempty"`
	Number   uint64 `json:"n,omitempty"`
	End      Offset `json:"e"`
	Part     uint32 `json:"p,omitempty"`
}

// Adopt sets the mark to e, unchecked: for a reader that begins in the middle.
func (m *Mark) Adopt(e *Event) {
	*m = Mark{Generation: e.Generation, ReplID: e.ReplID, End: e.End, Part: e.Part}
	if e.Kind == SnapshotBegin || e.Kind == Entry {
		m.Snapshot, m.Number = true, e.Number
	}
}

// ChainError tells that an event does not follow the one before it in its lane and partition.
type ChainError struct {
	Shard Shard
	Kind  Kind
	At    Offset
	Why   string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("check chain of shard %d: %s at offset %d %s", e.Shard, e.Kind, e.At, e.Why)
}

// Follow checks that e follows the mark and moves the mark on. The mark is unchanged on error.
//
// A lane that was given up in the middle of a snapshot begins a new generation, so SnapshotBegin may follow anything of
// a lower generation.
func (m *Mark) Follow(e *Event) error {
	fail := func(format string, args ...any) error {
		return &ChainError{Shard: e.Shard, Kind: e.Kind, At: e.End, Why: fmt.Sprintf(format, args...)}
	}
	if e.Kind == SnapshotBegin {
		if e.Generation <= m.Generation {
			return fail("begins generation %d again (the last is %d)", e.Generation, m.Generation)
		}
		*m = Mark{Generation: e.Generation, ReplID: e.ReplID, Snapshot: true, End: e.End}
		return nil
	}
	if e.Generation != m.Generation {
		return fail("is of generation %d, not %d", e.Generation, m.Generation)
	}
	switch e.Kind {
	case Entry:
		if !m.Snapshot {
			return fail("stands outside a snapshot")
		}
		if e.Number != m.Number+1 {
			return fail("has number %d, the one before it %d", e.Number, m.Number)
		}
		m.Number = e.Number
		return nil
	case SnapshotEnd:
		if !m.Snapshot {
			return fail("ends no snapshot")
		}
		if e.Number != m.Number {
			return fail("counts %d entries, seen %d", e.Number, m.Number)
		}
		m.Snapshot, m.Number = false, 0
		return nil
	default:
		return m.followStream(e, fail)
	}
}

func (m *Mark) followStream(e *Event, fail func(string, ...any) error) error {
	if m.Snapshot {
		return fail("stands inside a snapshot")
	}
	if e.Kind == HistoryChange {
		if e.OldReplID != m.ReplID {
			return fail("leaves history %s, the lane is in %s", e.OldReplID, m.ReplID)
		}
	} else if e.ReplID != m.ReplID {
		return fail("is of history %s, not %s", e.ReplID, m.ReplID)
	}
	if e.Prev != m.End {
		return fail("follows offset %d, the one before it ends at %d", e.Prev, m.End)
	}
	// Parts of one transaction share their end: only the part number tells a repetition.
	if e.End == m.End && e.Kind != HistoryChange && (e.Parts == 0 || e.Part <= m.Part) {
		return fail("stands twice")
	}
	m.ReplID, m.End, m.Part = e.ReplID, e.End, e.Part
	return nil
}
