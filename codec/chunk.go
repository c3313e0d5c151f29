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
	// chunkHeaderBytes bounds what a chunk's record holds beside its piece.
	chunkHeaderBytes = 2 + 5 + 10 + 5 + 5
)

// IsChunk reports whether a record value is a piece of an event.
func IsChunk(value []byte) bool {
	return len(value) > 1 && value[0] == rawVersion && value[1] == chunkMark
}

// Chunks is how many records a value of size bytes takes where a record value may have limit bytes.
func Chunks(size, limit int) int {
	if size <= limit {
		return 1
	}
	piece := limit - chunkHeaderBytes
	return (size + piece - 1) / piece
}

// AppendChunk appends the record value of the i-th of Chunks(len(value), limit) pieces.
func AppendChunk(dst, value []byte, shard event.Shard, attempt uint64, i, limit int) []byte {
	n, piece := Chunks(len(value), limit), limit-chunkHeaderBytes
	dst = append(dst, rawVersion, chunkMark)
	dst = binary.AppendUvarint(dst, uint64(shard))
	dst = binary.AppendUvarint(dst, attempt)
	dst = binary.AppendUvarint(dst, uint64(i))
	dst = binary.AppendUvarint(dst, uint64(n))
	return append(dst, value[i*piece:min((i+1)*piece, len(value))]...)
}

// Joiner gathers the chunks that one partition brings. MaxBytes bounds one joined value. The zero value joins nothing.
type Joiner struct {
	MaxBytes int
	open     map[event.Shard]*joining
}

type joining struct {
	attempt, next, count uint64
	value                bytes.Buffer
}

// Add takes a chunk. With the last of an event it returns the whole value and true.
func (j *Joiner) Add(chunk []byte) (value []byte, done bool, err error) {
	d := decoder{rest: chunk[2:]}
	shard := event.Shard(d.uvarint(maxUint32, "shard"))
	attempt := d.uvarint(math.MaxUint64, "attempt")
	i, n := d.uvarint(maxUint32, "index"), d.uvarint(maxUint32, "count")
	if d.fault != "" || i >= n {
		return nil, false, fmt.Errorf("%w: chunk: %s", ErrMalformed, d.fault)
	}
	if j.open == nil {
		j.open = map[event.Shard]*joining{}
	}
	if i == 0 {
		j.open[shard] = &joining{attempt: attempt, count: n}
	}
	o := j.open[shard]
	if o == nil || o.attempt != attempt || o.count != n || o.next != i {
		return nil, false, fmt.Errorf("%w: chunk %d of %d of shard %d does not follow the one before", ErrMalformed, i, n, shard)
	}
	if o.value.Len()+len(d.rest) > j.MaxBytes {
		return nil, false, fmt.Errorf("join chunks of shard %d: more than %d bytes", shard, j.MaxBytes)
	}
	o.value.Write(d.rest)
	if o.next++; o.next < n {
		return nil, false, nil
	}
	delete(j.open, shard)
	return o.value.Bytes(), true, nil
}

// Drop forgets an unfinished event of the shard, because another record of it arrived.
func (j *Joiner) Drop(shard event.Shard) { delete(j.open, shard) }

// Open reports whether an event is unfinished: a reader that restarts now has to begin before it.
func (j *Joiner) Open() bool { return len(j.open) > 0 }
