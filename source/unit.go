package source

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/command"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/source/spool"
)

const (
	unitBufferBytes = 256 << 10
	// keepBufferBytes is what a buffer that a large unit made grow may keep afterwards.
	keepBufferBytes = 4 << 20
	// keepArgs is the same in arguments and commands.
	keepArgs = 64 << 10
	// collectBytes is how large a unit has to be for its memory to be looked for among what was let go of.
	collectBytes = 64 << 20
	headArgs     = 64
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
	// large: of commands with many arguments, args has the first headArgs alone.
	large bool
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
//
// A unit that is not there whole is scanned, and parsed when its end is there. One that outgrows the buffer is not kept
// meanwhile: it lies in the spool, and is read from there a second time, into a buffer of its size. So it is in memory
// once, and not before it is complete.
type unitReader struct {
	src      unitBytes
	maxBytes int
	// reopen reads the stream from an offset on; nil keeps what is scanned.
	reopen  func(at event.Offset) unitBytes
	scan    *unitScan // of the unit at pos, if that is not whole
	passed  bool      // the unit at pos was not kept at first: it is large
	passing bool      // what is scanned is not kept: buf holds the newest of it alone
	large   int64     // size of the unit that was scanned last
	room    int       // of buf to begin with
	buf     []byte
	pos     int          // of the next unit in buf
	off     event.Offset // at pos
	stamps  []stampAt    // of what is in buf, by offset
	unit    streamUnit
}

// stampAt says from which offset on bytes have a stamp.
type stampAt struct {
	offset event.Offset
	stamp  spool.Stamp
}

func newUnitReader(src unitBytes, at event.Offset, maxBytes int) *unitReader {
	return &unitReader{src: src, off: at, maxBytes: maxBytes, room: unitBufferBytes}
}

// next returns the next unit. spool.ErrEmpty says that it has not arrived whole; io.EOF that the section ends here.
func (r *unitReader) next() (*streamUnit, error) {
	for whole := false; ; {
		if r.scan == nil {
			n, err := r.parse(r.buf[r.pos:])
			if err == nil {
				r.unit.begin, r.unit.end, r.unit.stamp = r.off, r.off+event.Offset(n), r.stampOf(r.off)
				r.pos += n
				r.off, r.passed = r.unit.end, false
				return &r.unit, nil
			}
			if !errors.Is(err, resp.ErrIncomplete) || whole {
				return nil, fmt.Errorf("parse stream behind offset %d: %w", r.off, err)
			}
			r.scan = &unitScan{}
		}
		var err error
		if whole, err = r.look(); err != nil {
			return nil, err
		}
		if !whole {
			err = r.fill()
		} else if r.scan = nil; r.passing {
			err = r.load()
		}
		if err != nil {
			return nil, err
		}
	}
}

// look scans what is new in the buffer and tells whether the unit is complete with it.
func (r *unitReader) look() (done bool, err error) {
	at := r.pos
	if !r.passing {
		at += int(r.scan.size)
	}
	if at == len(r.buf) {
		return false, nil
	}
	_, done, err = r.scan.feed(r.buf[at:])
	if err != nil {
		return false, fmt.Errorf("parse stream behind offset %d: %w", r.off, err)
	}
	if r.scan.announced() > int64(r.maxBytes) {
		return false, r.tooLarge()
	}
	if done {
		r.large = r.scan.size
	}
	return done, nil
}

// command parses one command, of a large unit no more arguments than tell what it is about: each takes as much as its slice.
func (r *unitReader) command(b []byte) (size int, args [][]byte, err error) {
	if !r.passed {
		return resp.ParseCommand(b, r.unit.args)
	}
	first := len(r.unit.args)
	size, total, args, err := resp.ParseCommandHead(b, r.unit.args, headArgs)
	if err != nil || total <= headArgs {
		return size, args, err
	}
	if info, ok := command.Lookup(args[first]); ok && info.KeysWithin(headArgs) {
		return size, args, nil
	}
	return resp.ParseCommand(b, r.unit.args)
}

func (r *unitReader) tooLarge() error {
	return stop(fmt.Errorf("read unit behind offset %d: larger than %d bytes: raise unit.max.bytes, and event.max.bytes of the sinks with it", r.off, r.maxBytes))
}

// load reads a unit, which is complete and was not kept, into a buffer of its size.
func (r *unitReader) load() error {
	r.passing, r.passed = false, true
	r.stamps = append(r.stamps[:0], stampAt{r.off, r.stampOf(r.off)})
	r.src = r.reopen(r.off)
	if r.buf, r.pos = nil, 0; r.large >= collectBytes {
		// The buffer of the large unit before this one is garbage that may not have been met yet: do not have two of them.
		runtime.GC()
	}
	r.buf, r.pos = make([]byte, 0, r.large), 0
	for len(r.buf) < cap(r.buf) {
		if err := r.read(); err != nil {
			return fmt.Errorf("read unit behind offset %d again: %w", r.off, err)
		}
	}
	return nil
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
	if cap(u.args) > keepArgs || cap(u.commands) > keepArgs || u.large {
		u.args, u.commands = nil, nil // they would keep the buffer of the last unit
	}
	u.commands, u.args, u.atomic, u.large = u.commands[:0], u.args[:0], false, r.passed
	for n := 0; ; {
		first := len(u.args)
		size, args, err := r.command(b[n:])
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
		case resp.IsWord(name, "MULTI") && !u.atomic:
			u.atomic = true
			u.args = u.args[:first]
			continue
		case resp.IsWord(name, "EXEC") && u.atomic:
			u.args = u.args[:first]
			return n, nil
		}
		u.commands = append(u.commands, streamCommand{first: first, n: len(u.args) - first, raw: raw})
		if !u.atomic {
			return n, nil
		}
	}
}

// fill reads more into the buffer, which grows as long as a unit is kept.
func (r *unitReader) fill() error {
	if r.pos > 0 {
		rest := r.buf[r.pos:]
		if len(rest) == 0 && cap(r.buf) > keepBufferBytes {
			r.buf = nil
		}
		r.buf = append(r.buf[:0], rest...)
		r.pos = 0
	}
	if !r.passing && len(r.buf) >= keepBufferBytes && r.reopen != nil && r.scan != nil {
		r.passing = true
	}
	if r.passing {
		r.buf = r.buf[:0]
	}
	have := len(r.buf)
	switch {
	case cap(r.buf) == 0:
		r.buf = make([]byte, 0, r.room)
	case have == cap(r.buf):
		if have >= r.maxBytes {
			return r.tooLarge()
		}
		r.buf = append(make([]byte, 0, min(2*have, r.maxBytes)), r.buf...)
	}
	for len(r.buf) < cap(r.buf) {
		if err := r.read(); err != nil {
			if len(r.buf) > have {
				return nil // look at what came first
			}
			return err
		}
	}
	return nil
}

// read reads once into what is free of the buffer.
func (r *unitReader) read() error {
	n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
	if n > 0 {
		at := event.Offset(len(r.buf))
		if r.passing {
			at += event.Offset(r.scan.size)
		}
		r.stamped(r.off+at, r.src.Stamp())
	}
	r.buf = r.buf[:len(r.buf)+n]
	return err
}

// stamped notes what stamp the bytes behind an offset have.
func (r *unitReader) stamped(off event.Offset, s spool.Stamp) {
	if n := len(r.stamps); n == 0 || r.stamps[n-1].stamp != s {
		r.stamps = append(r.stamps, stampAt{off, s})
	}
}
