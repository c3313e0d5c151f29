package sim

import (
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// choppedBytes of a direction are read in pieces, slowBytes of a slow one arrive at a time.
	choppedBytes = 16 << 10
	slowBytes    = 1000
)

// socketBytes is how much a pipe holds before a writer waits.
const socketBytes = 256 << 10

// pipe is one direction.
type pipe struct {
	w *wire
	weather
	mu       sync.Mutex
	segments []segment
	held     int
	written  int
	taken    int
	trouble  trouble
	mute     bool
	last     time.Time     // when the newest segment arrives
	failed   error         // no more can be written; what has arrived can be read
	closed   bool          // by the writer
	ended    bool          // the reader learns of that
	gone     bool          // the reader has closed
	changed  chan struct{} // closed at a change, nil if nobody waits
	readBy   time.Time
	writeBy  time.Time
}

type segment struct {
	due  time.Time
	data []byte
}

func newPipe(w *wire, weather weather, t trouble) *pipe {
	return &pipe{w: w, weather: weather, trouble: t}
}

// wait lets go of the lock until something changes or the time has come (zero: never).
func (p *pipe) wait(until time.Time) {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	c := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	if until.IsZero() {
		<-c
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
}

func (p *pipe) notify() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func passed(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.gone:
			return 0, net.ErrClosed
		case passed(p.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		}
		until := p.readBy
		switch {
		case len(p.segments) > 0:
			due := p.segments[0].due
			if !due.After(time.Now()) {
				return p.take(b), nil
			}
			if until.IsZero() || due.Before(until) {
				until = due
			}
		case p.failed != nil:
			return 0, p.failed
		case p.ended:
			return 0, io.EOF
		}
		p.wait(until)
	}
}

// take reads from the first segment.
func (p *pipe) take(b []byte) int {
	s := &p.segments[0]
	if p.piece > 0 && p.taken < choppedBytes {
		b = b[:min(len(b), p.piece)]
	}
	n := copy(b, s.data)
	p.taken += n
	if s.data = s.data[n:]; len(s.data) == 0 {
		p.segments = p.segments[1:]
	}
	p.held -= n
	p.notify()
	return n
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	reset := false
	for n < len(b) || len(b) == 0 {
		switch {
		case p.closed:
			err = net.ErrClosed
		case p.failed != nil:
			err = p.failed
		case p.gone:
			err = errReset
		case passed(p.writeBy):
			err = os.ErrDeadlineExceeded
		}
		if err != nil || len(b) == 0 {
			break
		}
		if p.held >= socketBytes {
			p.wait(p.writeBy)
			continue
		}
		more := b[n:min(len(b), n+socketBytes-p.held)]
		sent, hit := p.send(more)
		n += sent
		if hit {
			reset, err = true, errReset
			break
		}
	}
	p.mu.Unlock()
	if reset {
		p.w.reset()
	}
	return n, err
}

// send puts bytes on their way. hit says that they met a cut.
func (p *pipe) send(b []byte) (n int, hit bool) {
	if judge := p.w.n.judge; judge != nil && p.written == 0 && p == p.w.up {
		judge(p.w, b)
	}
	if t := p.trouble; t.kind != fine && p.written+len(b) >= t.after {
		head := b[:max(0, min(len(b), t.after-p.written))]
		p.put(head)
		p.trouble = trouble{}
		switch t.kind {
		case cut:
			p.failed = errReset // and what is under way arrives
			p.notify()
			return len(head), true
		case silent:
			p.mute = true
			other := p.w.up
			if p == other {
				other = p.w.down
			}
			// The lock of the other direction is never held while one waits for this one: see fail.
			go func() { // ends at once
				other.mu.Lock()
				defer other.mu.Unlock()
				other.mute = true
			}()
		case delayed:
			p.last = time.Now().Add(t.late)
		case fine:
		}
		b = b[len(head):]
		n = len(head)
	}
	p.put(b)
	return n + len(b), false
}

func (p *pipe) put(b []byte) {
	p.written += len(b)
	if p.mute || len(b) == 0 {
		if p.mute {
			p.held += len(b)
		}
		return
	}
	due := time.Now().Add(p.latency)
	if due.Before(p.last) {
		due = p.last
	}
	p.held += len(b)
	b = slices.Clone(b)
	for len(b) > 0 {
		n := len(b)
		if p.perByte > 0 {
			n = min(n, slowBytes)
			due = due.Add(time.Duration(n) * p.perByte)
		}
		p.segments = append(p.segments, segment{due, b[:n]})
		b = b[n:]
	}
	p.last = due
	p.notify()
}

// fail ends the direction: what is still under way is lost.
func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return
	}
	p.failed = err
	for i, s := range p.segments {
		if s.due.After(time.Now()) {
			p.segments = p.segments[:i]
			break
		}
	}
	p.notify()
}

// finish is the writer's close: what is under way arrives.
func (p *pipe) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.ended = true, !p.mute
	p.notify()
}

// abandon is the reader's close.
func (p *pipe) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.segments, p.held = nil, 0
	p.notify()
}

func (p *pipe) deadline(t time.Time, read bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if read {
		p.readBy = t
	} else {
		p.writeBy = t
	}
	p.notify()
}
