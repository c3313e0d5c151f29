package resp

import (
	"errors"
	"fmt"
	"io"
)

const (
	// minReadBytes is the room below which the buffer is moved to its front before
	// a read.
	minReadBytes = 4 << 10
	// calmReads is how many reads in a row must have needed little before a grown
	// buffer is given back: a run of large values shall not allocate each time.
	calmReads = 64
	// maxEmptyReads is how many reads may bring nothing, as in bufio.
	maxEmptyReads = 100
)

// buffer holds what was read from src and not yet taken: data[from:to].
type buffer struct {
	src      io.Reader
	size     int
	data     []byte
	from, to int
	calm     int   // reads since the first size was last not enough
	offset   int64 // of data[from] in the stream
	failed   error // a protocol error: it stays
	late     error // an error that came together with bytes
}

func newBuffer(src io.Reader, size int) buffer {
	return buffer{src: src, size: size, data: make([]byte, size)}
}

// Offset returns the number of bytes of the stream that are consumed: those of all
// commands or replies returned, and of the keep-alives before them.
func (b *buffer) Offset() int64 { return b.offset }

// Buffered returns the number of bytes that are read and not consumed.
func (b *buffer) Buffered() int { return b.to - b.from }

// Rest returns the bytes that are read and not consumed, valid until the next read.
// Whoever reads on from the source by other means begins with these.
func (b *buffer) Rest() []byte { return b.data[b.from:b.to:b.to] }

func (b *buffer) unread() []byte { return b.data[b.from:b.to] }

func (b *buffer) take(n int) {
	b.from += n
	b.offset += int64(n)
}

// fail makes a parser's error one of the stream, and lasting.
func (b *buffer) fail(verb string, err error) error {
	if p, ok := errors.AsType[*ProtocolError](err); ok {
		p.Offset += b.offset
	}
	b.failed = fmt.Errorf("%s: %w", verb, err)
	return b.failed
}

// fill reads at least one byte more. want is what the command or reply at from
// needs as far as is known: it bounds growth from above, never from below.
//
// An error of the source loses nothing: after a deadline the caller may try again.
func (b *buffer) fill(verb string, want int) error {
	b.makeRoom(want)
	for range maxEmptyReads {
		if err := b.late; err != nil {
			b.late = nil
			return b.readError(verb, err)
		}
		n, err := b.src.Read(b.data[b.to:])
		if n < 0 || n > len(b.data)-b.to {
			return fmt.Errorf("%s: source returned count %d", verb, n)
		}
		b.to += n
		if n > 0 {
			b.late = err
			return nil
		}
		if err != nil {
			return b.readError(verb, err)
		}
	}
	return fmt.Errorf("%s: %w", verb, io.ErrNoProgress)
}

func (b *buffer) readError(verb string, err error) error {
	if errors.Is(err, io.EOF) {
		if b.Buffered() == 0 {
			return io.EOF
		}
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// makeRoom leaves at least one byte free after to.
func (b *buffer) makeRoom(want int) {
	have := b.to - b.from
	if b.calm++; max(have, want) > b.size/2 {
		b.calm = 0
	}
	switch {
	case len(b.data) > b.size && b.calm >= calmReads:
		b.move(b.size)
	case b.from > 0 && (have == 0 || len(b.data)-b.to < minReadBytes):
		b.move(len(b.data))
	}
	if b.to < len(b.data) {
		return
	}
	size := 2 * len(b.data)
	if want > len(b.data)+b.size { // within a large argument: no more than it needs
		size = min(size, want+b.size)
	}
	b.move(size)
}

// move brings what is unread to the front of a buffer of that size.
func (b *buffer) move(size int) {
	data := b.data
	if size != len(data) {
		data = make([]byte, size)
	}
	b.to = copy(data, b.data[b.from:b.to])
	b.data, b.from = data, 0
}
