package source

import (
	"errors"
	"fmt"
	"io"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/source/spool"
)

const (
	unitBufferBytes = 256 << 10
	// keepBufferBytes is what a buffer that a large unit made grow may keep afterwards.
	keepBufferBytes = 4 << 20
)

// streamCommand is one command as it lies in the buffer.
type streamCommand struct {
	first, n int // its arguments in unitReader.args
	raw      []byte
}

// streamUnit is what takes effect together, as the stream shows it. It is valid until the next call of next.
type streamUnit struct {
	begin, end event.Offset
	atomic     bool
	commands   []streamCommand
	args       [][]byte // of all commands
	// stamp is when its first byte was read: none of it can have been carried out later.
	stamp spool.Stamp
}

func (u *streamUnit) argsOf(c streamCommand) [][]byte { return u.args[c.first : c.first+c.n] }

// unitBytes is where a unitReader reads: a section of the spool, or several that join.
type unitBytes interface {
	Read(p []byte) (int, error)
	// Stamp of the bytes of the last Read.
	Stamp() spool.Stamp
	Place() spool.Place
}

// joined reads the ends of sections and then the one that goes on from them.
type joined struct {
	heads []*spool.Reader
	tail  *spool.Reader
	stamp spool.Stamp
}

func (j *joined) Read(p []byte) (int, error) {
	for len(j.heads) > 0 {
		n, err := j.heads[0].Read(p)
		if !errors.Is(err, io.EOF) {
			j.stamp = j.heads[0].Stamp()
			return n, err
		}
		j.heads = j.heads[1:]
	}
	n, err := j.tail.Read(p)
	j.stamp = j.tail.Stamp()
	return n, err
}

func (j *joined) Stamp() spool.Stamp { return j.stamp }

// Place of the section that is still written to.
func (j *joined) Place() spool.Place { return j.tail.Place() }

// unitReader cuts the stream into units. It is a pure machine over its buffer: fill is the only way in, and nothing is
// consumed until a unit is whole, so that every place between two units is a place to resume at.
type unitReader struct {
	src      unitBytes
	maxBytes int
	buf      []byte
	pos      int          // of the next unit in buf
	off      event.Offset // at pos
	stamps   []stampAt    // of what is in buf, by offset
	unit     streamUnit
}

// stampAt says from which offset on bytes have a stamp.
type stampAt struct {
	offset event.Offset
	stamp  spool.Stamp
}

func newUnitReader(src unitBytes, at event.Offset, maxBytes int) *unitReader {
	return &unitReader{src: src, off: at, maxBytes: maxBytes, buf: make([]byte, 0, unitBufferBytes)}
}

// next returns the next unit. spool.ErrEmpty says that it has not arrived whole; io.EOF that the section ends here.
func (r *unitReader) next() (*streamUnit, error) {
	for {
		n, err := r.parse(r.buf[r.pos:])
		if err == nil {
			r.unit.begin, r.unit.end, r.unit.stamp = r.off, r.off+event.Offset(n), r.stampOf(r.off)
			r.pos += n
			r.off = r.unit.end
			return &r.unit, nil
		}
		if !errors.Is(err, resp.ErrIncomplete) {
			return nil, fmt.Errorf("parse stream behind offset %d: %w", r.off, err)
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// stampOf returns the stamp of the byte behind an offset, which never goes back.
func (r *unitReader) stampOf(off event.Offset) spool.Stamp {
	for len(r.stamps) > 1 && r.stamps[1].offset <= off {
		r.stamps = r.stamps[1:]
	}
	return r.stamps[0].stamp
}

// parse reads one unit from the start of b and returns its length.
func (r *unitReader) parse(b []byte) (int, error) {
	u := &r.unit
	u.commands, u.args, u.atomic = u.commands[:0], u.args[:0], false
	for n := 0; ; {
		first := len(u.args)
		size, args, err := resp.ParseCommand(b[n:], u.args)
		if err != nil {
			return 0, err
		}
		u.args = args
		raw := b[n : n+size]
		n += size
		if len(args) == first { // a keep-alive
			if u.atomic {
				continue
			}
			return n, nil
		}
		switch name := args[first]; {
		case equalFold(name, "MULTI") && !u.atomic:
			u.atomic = true
			u.args = u.args[:first]
			continue
		case equalFold(name, "EXEC") && u.atomic:
			u.args = u.args[:first]
			return n, nil
		}
		u.commands = append(u.commands, streamCommand{first: first, n: len(u.args) - first, raw: raw})
		if !u.atomic {
			return n, nil
		}
	}
}

// fill reads more. While a unit stays incomplete the buffer doubles, so that parsing it again costs no more than twice
// its size in all.
func (r *unitReader) fill() error {
	if r.pos > 0 {
		rest := r.buf[r.pos:]
		if len(rest) == 0 && cap(r.buf) > keepBufferBytes {
			r.buf = make([]byte, 0, unitBufferBytes)
		}
		r.buf = append(r.buf[:0], rest...)
		r.pos = 0
	}
	have := len(r.buf)
	if have == cap(r.buf) {
		if have >= r.maxBytes {
			return stop(fmt.Errorf("read unit behind offset %d: larger than %d bytes: raise unit.max.bytes", r.off, r.maxBytes))
		}
		r.buf = append(make([]byte, 0, min(2*have, r.maxBytes)), r.buf...)
	}
	for len(r.buf) < cap(r.buf) {
		n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
		if n > 0 {
			r.stamped(r.off+event.Offset(len(r.buf)), r.src.Stamp())
		}
		r.buf = r.buf[:len(r.buf)+n]
		if err != nil {
			if len(r.buf) > have {
				return nil // parse what came first
			}
			return err
		}
	}
	return nil
}

// stamped notes what stamp the bytes behind an offset have.
func (r *unitReader) stamped(off event.Offset, s spool.Stamp) {
	if n := len(r.stamps); n == 0 || r.stamps[n-1].stamp != s {
		r.stamps = append(r.stamps, stampAt{off, s})
	}
}

// equalFold compares a command name with one in capitals, without allocating.
func equalFold(b []byte, capitals string) bool {
	if len(b) != len(capitals) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != capitals[i] {
			return false
		}
	}
	return true
}
