package event

import (
	"encoding/hex"
	"fmt"
)

// ReplIDLen is the length of a replication ID as Redis prints it: hexadecimal digits.
const ReplIDLen = 40

// ReplID names one replication history. The zero value means "none yet".
type ReplID [ReplIDLen / 2]byte

// ParseReplID reads the 40 hexadecimal digits that +FULLRESYNC, +CONTINUE and INFO show.
func ParseReplID(s string) (ReplID, error) {
	var id ReplID
	if len(s) != ReplIDLen {
		return ReplID{}, fmt.Errorf("parse replication ID %q: want %d hexadecimal digits", s, ReplIDLen)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ReplID{}, fmt.Errorf("parse replication ID %q: %w", s, err)
	}
	return id, nil
}

func (id ReplID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether no history is named.
func (id ReplID) IsZero() bool { return id == ReplID{} }

// MarshalText writes the 40 digits, or nothing for the zero value.
func (id ReplID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return []byte{}, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText is the inverse of MarshalText.
func (id *ReplID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*id = ReplID{}
		return nil
	}
	*id, err = ParseReplID(string(b))
	return err
}

// Offset is a byte offset of a replication history, see the package comment.
type Offset int64

// Shard is our own number of a shard: it survives failovers, which change node ids and replication IDs, and is never
// given to another shard. The first is 1.
type Shard uint32

// Generation counts the snapshots that were begun for a shard, complete or not. The first is 1.
type Generation uint32

// Position is a place in the replication history of one shard.
type Position struct {
	ReplID ReplID `json:"replid"`
	Offset Offset `json:"offset"`
}

func (p Position) String() string { return fmt.Sprintf("%s:%d", p.ReplID, p.Offset) }
