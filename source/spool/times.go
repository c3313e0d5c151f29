package spool

import "encoding/binary"

// Stamp is when bytes of a stream were read. Both are Unix times in milliseconds, 0 where they are not known.
type Stamp struct {
	// CapturedMs is the worker's clock.
	CapturedMs int64
	// SourceMs is the master's clock when it had carried out what the bytes say.
	SourceMs int64
}

// timeline has the stamps of a block: for each that differs from the one before it, how many bytes further it begins, and
// how much later it is by both clocks, as varints. The first one begins at byte 0 and counts from 0.
type timeline struct {
	bytes []byte
	from  int64
	last  Stamp
}

// add says that what comes behind size bytes of the block has that stamp.
func (t *timeline) add(size int64, at Stamp) {
	if at == t.last || len(t.bytes) > blockBytes-3*binary.MaxVarintLen64 {
		return
	}
	t.bytes = binary.AppendUvarint(t.bytes, uint64(size-t.from))
	t.bytes = binary.AppendVarint(t.bytes, at.CapturedMs-t.last.CapturedMs)
	t.bytes = binary.AppendVarint(t.bytes, at.SourceMs-t.last.SourceMs)
	t.from, t.last = size, at
}

// cursor walks along a timeline.
type cursor struct {
	block Place // whose timeline it is
	read  int   // bytes of the timeline
	from  int64 // where the stamp begins
	stamp Stamp
}

// seek goes to the stamp of byte at and returns where the next one begins, size if there is none.
func (c *cursor) seek(block Place, times []byte, at, size int64) (end int64) {
	if c.block != block || at < c.from {
		*c = cursor{block: block}
	}
	for {
		skip, n := binary.Uvarint(times[c.read:])
		captured, m := binary.Varint(times[c.read+max(n, 0):])
		source, l := binary.Varint(times[c.read+max(n, 0)+max(m, 0):])
		next := c.from + int64(skip)
		switch {
		case n <= 0 || m <= 0 || l <= 0 || next >= size: // the last one; or what comes was cut off
			return size
		case next > at:
			return next
		}
		c.read += n + m + l
		c.from = next
		c.stamp.CapturedMs += captured
		c.stamp.SourceMs += source
	}
}
