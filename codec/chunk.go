package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/redriver/redriver/event"
)

const (
	chunkMark = 0x40
	// ChunkHeaderBytes bounds what a chunk's record holds beside its piece.
	ChunkHeaderBytes = 2 + 5 + 10 + 5 + 5
)

// Chunk is a piece of an event that is too large for one record.
type Chunk struct {
	Shard   event.Shard
	Attempt uint64
	Index   uint32
	// Count is how many chunks the event has; 0 in all but the last if that was not known when they were written. The last
	// one always has the true count, Index + 1.
	Count uint32
	// Piece aliases the record's value.
	Piece []byte
}

// First reports whether the event begins here: Piece begins as a record of the whole event would.
func (c *Chunk) First() bool { return c.Index == 0 }

// Last reports whether the event is whole with this chunk.
func (c *Chunk) Last() bool { return c.Count == c.Index+1 }

// IsChunk reports whether a record value is a piece of an event.
func IsChunk(value []byte) bool {
	return len(value) > 1 && value[0] == rawVersion && value[1] == chunkMark
}

// ParseChunk reads the value of a record for which IsChunk is true.
func ParseChunk(value []byte) (Chunk, error) {
	if !IsChunk(value) {
		return Chunk{}, fmt.Errorf("%w: no chunk", ErrMalformed)
	}
	d := decoder{rest: value[2:]}
	c := Chunk{
		Shard:   event.Shard(d.uvarint(maxUint32, "shard")),
		Attempt: d.uvarint(math.MaxUint64, "attempt"),
		Index:   uint32(d.uvarint(maxUint32-1, "index")),
		Count:   uint32(d.uvarint(maxUint32, "count")),
	}
	if c.Count > 0 && c.Index >= c.Count {
		d.fail("index above count")
	}
	if d.fault != "" {
		return Chunk{}, fmt.Errorf("%w: chunk: %s", ErrMalformed, d.fault)
	}
	c.Piece = d.rest
	return c, nil
}

// Chunks is how many records a value of size bytes takes where a record value may have limit bytes.
func Chunks(size, limit int) int {
	if size <= limit {
		return 1
	}
	piece := limit - ChunkHeaderBytes
	return (size + piece - 1) / piece
}

// AppendChunk appends the record value of the i-th of Chunks(len(value), limit) pieces of a value that is there whole.
func AppendChunk(dst, value []byte, shard event.Shard, attempt uint64, i, limit int) []byte {
	n, piece := Chunks(len(value), limit), limit-ChunkHeaderBytes
	dst = appendChunkHeader(dst, shard, attempt, uint32(i), uint32(n))
	return append(dst, value[i*piece:min((i+1)*piece, len(value))]...)
}

// FrameChunk makes the record value of a chunk in place: buf has ChunkHeaderBytes bytes of room and then the piece, and the
// result lies in it. A count of 0 says that more follow.
func FrameChunk(buf []byte, shard event.Shard, attempt uint64, index, count uint32) []byte {
	var room [ChunkHeaderBytes]byte
	header := appendChunkHeader(room[:0], shard, attempt, index, count)
	at := ChunkHeaderBytes - len(header)
	copy(buf[at:], header)
	return buf[at:]
}

func appendChunkHeader(dst []byte, shard event.Shard, attempt uint64, index, count uint32) []byte {
	dst = append(dst, rawVersion, chunkMark)
	dst = binary.AppendUvarint(dst, uint64(shard))
	dst = binary.AppendUvarint(dst, attempt)
	dst = binary.AppendUvarint(dst, uint64(index))
	return binary.AppendUvarint(dst, uint64(count))
}

// Sequence follows the chunks that one partition brings and tells whether each goes on where the one before it ended. It
// keeps no pieces. The zero value has seen none.
type Sequence struct {
	open map[event.Shard]sequence
}

type sequence struct {
	attempt     uint64
	next, count uint32
}

// Add takes the next chunk. Chunk 0 begins an event, whatever was open of its shard. A chunk that does not follow is an
// error and changes nothing.
func (s *Sequence) Add(c *Chunk) error {
	if c.First() {
		if s.open == nil {
			s.open = map[event.Shard]sequence{}
		}
		s.open[c.Shard] = sequence{attempt: c.Attempt, count: c.Count}
	}
	o, ok := s.open[c.Shard]
	if !ok || o.attempt != c.Attempt || o.next != c.Index || o.count != c.Count && (o.count > 0 || !c.Last()) {
		return fmt.Errorf("%w: chunk %d of %d of shard %d does not follow the one before", ErrMalformed, c.Index, c.Count, c.Shard)
	}
	if c.Last() {
		delete(s.open, c.Shard)
		return nil
	}
	o.next++
	s.open[c.Shard] = o
	return nil
}

// Drop forgets an unfinished event of the shard, because another record of it arrived.
func (s *Sequence) Drop(shard event.Shard) { delete(s.open, shard) }

// Open reports whether an event is unfinished: a reader that restarts now has to begin before it.
func (s *Sequence) Open() bool { return len(s.open) > 0 }

// Joiner gathers the chunks that one partition brings. MaxBytes bounds one joined value. The zero value joins nothing.
type Joiner struct {
	MaxBytes int
	seq      Sequence
	values   map[event.Shard]*bytes.Buffer
}

// Add takes a chunk. With the last of an event it returns the whole value and true.
func (j *Joiner) Add(chunk []byte) (value []byte, done bool, err error) {
	c, err := ParseChunk(chunk)
	if err != nil {
		return nil, false, err
	}
	if err := j.seq.Add(&c); err != nil {
		return nil, false, err
	}
	if c.First() {
		if j.values == nil {
			j.values = map[event.Shard]*bytes.Buffer{}
		}
		j.values[c.Shard] = &bytes.Buffer{}
	}
	b := j.values[c.Shard]
	if b.Len()+len(c.Piece) > j.MaxBytes {
		j.Drop(c.Shard)
		return nil, false, fmt.Errorf("join chunks of shard %d: more than %d bytes", c.Shard, j.MaxBytes)
	}
	b.Write(c.Piece)
	if !c.Last() {
		return nil, false, nil
	}
	delete(j.values, c.Shard)
	return b.Bytes(), true, nil
}

// Drop forgets an unfinished event of the shard, because another record of it arrived.
func (j *Joiner) Drop(shard event.Shard) {
	j.seq.Drop(shard)
	delete(j.values, shard)
}

// Has reports whether an event of the shard is unfinished.
func (j *Joiner) Has(shard event.Shard) bool { return j.values[shard] != nil }

// Open reports whether an event is unfinished: a reader that restarts now has to begin before it.
func (j *Joiner) Open() bool { return j.seq.Open() }
