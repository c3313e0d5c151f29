package source

import (
	"github.com/redriver/redriver/codec"
)

// chunksInFlight bounds the chunks of a lane that are gathered, or handed to the client and not in Kafka yet.
const chunksInFlight = 8

// chunkPool has the memory of chunks, so that an event of any size passes in that of a few.
type chunkPool struct {
	free  chan []byte // bound chunksInFlight; nil stands for one that is to be made
	bytes int         // of each
}

func newChunkPool(bytes int) *chunkPool {
	c := &chunkPool{free: make(chan []byte, chunksInFlight), bytes: bytes}
	for range chunksInFlight {
		c.free <- nil
	}
	return c
}

// take waits until a chunk is free. The client settles every record that it was given, if only with an error.
func (c *chunkPool) take() []byte {
	b := <-c.free
	if b == nil {
		b = make([]byte, c.bytes)
	}
	return b
}

// put takes a chunk back. One whose record failed may still be looked at by the client: another one takes its place.
func (c *chunkPool) put(b []byte, err error) {
	if err != nil {
		b = nil
	}
	c.free <- b
}

// cutting is an event on its way into chunks.
type cutting struct {
	partition int32
	key       []byte
	buf       []byte // codec.ChunkHeaderBytes of room, then the piece
	n         int    // bytes of buf in use
	limit     int    // of n
	index     uint32
	count     uint32 // 0 if that is not known yet
	// inParts: the event may be committed in parts, by emitter.between.
	inParts bool
}

// beginCut begins an event that may become chunks, count of them, or 0 if that is not known. Its encoding is handed to cut
// piece by piece.
func (m *emitter) beginCut(p int32, key []byte, count int) {
	m.cutting = cutting{partition: p, key: key, count: uint32(count), limit: m.chunkLimit(key), inParts: m.cutting.inParts}
	m.nextChunk()
}

// chunkLimit is how large the value of a chunk's record may be.
func (m *emitter) chunkLimit(key []byte) int { return min(m.maxValue-len(key), m.chunks.bytes) }

func (m *emitter) nextChunk() { m.cutting.buf, m.cutting.n = m.chunks.take(), codec.ChunkHeaderBytes }

// cut takes the next bytes of the event. The last chunk stays behind for endCut, which alone knows that it is the last.
func (m *emitter) cut(b []byte) {
	c := &m.cutting
	for len(b) > 0 {
		if c.n == c.limit {
			m.chunk(c.count)
			if c.inParts {
				m.between()
			}
			m.nextChunk()
		}
		n := copy(c.buf[c.n:c.limit], b)
		c.n += n
		b = b[n:]
	}
}

// endCut ends the event. One that fits a record after all becomes one.
func (m *emitter) endCut() {
	if c := &m.cutting; c.index > 0 {
		m.chunk(c.index + 1)
	} else {
		m.chunked(c.partition, c.key, c.buf[codec.ChunkHeaderBytes:c.n], c.buf, false)
	}
	m.cutting.buf = nil
}

// dropCut gives an event up. Readers drop what is in the log of it when they see what comes next.
func (m *emitter) dropCut() {
	if m.cutting.buf != nil {
		m.chunks.put(m.cutting.buf, nil)
		m.cutting.buf = nil
	}
}

func (m *emitter) chunk(count uint32) {
	c := &m.cutting
	m.chunked(c.partition, c.key, codec.FrameChunk(c.buf[:c.n], m.e.Shard, m.attempt, c.index, count), c.buf, true)
	c.index++
}
