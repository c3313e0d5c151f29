package offsets

import (
	"encoding/json"
	"errors"
	"fmt"
)

// State is what the offsets topic says of one connector, or of all that share it.
type State struct {
	Registry   *Registry
	Positions  map[positionKey]Position
	Boundaries map[boundaryKey]Boundary
}

type positionKey struct {
	connector string
	shard     uint32
}

type boundaryKey struct {
	connector         string
	shard, generation uint32
}

// ErrNewer says that a record was written by a newer version.
var ErrNewer = errors.New("record of the offsets topic has a newer format")

// ErrForeign says that a record of the offsets topic is not ours.
var ErrForeign = errors.New("record of the offsets topic is not ours")

// Apply takes one record of the topic, in order: the last of a key holds, an empty value removes.
func (s *State) Apply(connector string, key, value []byte) error {
	var k []json.RawMessage
	var name, kind string
	if err := json.Unmarshal(key, &k); err != nil || len(k) < 2 {
		return fmt.Errorf("%w: key %.80q", ErrForeign, key)
	}
	if json.Unmarshal(k[0], &name) != nil || json.Unmarshal(k[1], &kind) != nil {
		return fmt.Errorf("%w: key %.80q", ErrForeign, key)
	}
	if connector != "" && name != connector {
		return nil
	}
	var version struct {
		V int `json:"v"`
	}
	if len(value) > 0 {
		if err := json.Unmarshal(value, &version); err != nil {
			return fmt.Errorf("%w: value of %s: %w", ErrForeign, key, err)
		}
		if version.V != formatVersion {
			return fmt.Errorf("%w: %s has version %d, this is version %d: use a newer redriver", ErrNewer, key, version.V, formatVersion)
		}
	}
	return s.apply(name, kind, k, value)
}

func (s *State) apply(name, kind string, k []json.RawMessage, value []byte) error {
	numbers := make([]uint32, len(k)-2)
	for i := range numbers {
		if err := json.Unmarshal(k[i+2], &numbers[i]); err != nil {
			return fmt.Errorf("%w: key of kind %s: %w", ErrForeign, kind, err)
		}
	}
	switch {
	case kind == kindRegistry && len(numbers) == 0:
		s.Registry = nil
		if len(value) > 0 {
			s.Registry = &Registry{}
			return decode(value, s.Registry)
		}
	case kind == kindPosition && len(numbers) == 1:
		return put(&s.Positions, positionKey{name, numbers[0]}, value)
	case kind == kindSnapshot && len(numbers) == 2:
		return put(&s.Boundaries, boundaryKey{name, numbers[0], numbers[1]}, value)
	default:
		return fmt.Errorf("%w: kind %q", ErrForeign, kind)
	}
	return nil
}

func put[K comparable, V any](m *map[K]V, k K, value []byte) error {
	if len(value) == 0 {
		delete(*m, k)
		return nil
	}
	var v V
	if err := decode(value, &v); err != nil {
		return err
	}
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
	return nil
}

func decode(value []byte, into any) error {
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return nil
}

// Position of a lane, if it has one.
func (s *State) Position(connector string, shard uint32) (Position, bool) {
	p, ok := s.Positions[positionKey{connector, shard}]
	return p, ok
}

// Boundary is that of a shard's complete snapshot. It must be written by one source alone, as for Newest.
func (s *State) Boundary(shard, g uint32) (Boundary, bool) {
	for k, b := range s.Boundaries {
		if k.shard == shard && uint32(b.Generation) == g {
			return b, true
		}
	}
	return Boundary{}, false
}

// Newest is the newest complete snapshot of each shard. Shards of two connectors on one prefix are kept apart by their
// connector, so a sink's prefix must be written by one source alone.
func (s *State) Newest() map[uint32]Boundary {
	newest := map[uint32]Boundary{}
	for k, b := range s.Boundaries {
		if n, ok := newest[k.shard]; !ok || b.Generation > n.Generation {
			newest[k.shard] = b
		}
	}
	return newest
}
