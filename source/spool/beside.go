package spool

import (
	"context"
	"errors"
)

// A master that sends a snapshot by a connection of its own sends the stream behind it at the same time. Then two sections
// are open: the snapshot, and beside it the stream, of which nobody reads before the snapshot is whole.

// BeginBeside opens a section behind the newest one, which stays open: AppendTo goes on with it and Complete ends it.
func (s *Spool) BeginBeside(h Header) (number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begin(h)
}

// AppendTo is Append for a section that need not be the newest one.
func (s *Spool) AppendTo(ctx context.Context, number uint64, p []byte) error {
	return s.append(ctx, func() *section { return s.find(number) }, p, Stamp{})
}

// Complete closes a section: it is whole.
func (s *Spool) Complete(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete(s.find(number))
}

// Break ends all sections that are open and lets go of what they hold: what one lacks makes the ones behind it worthless.
func (s *Spool) Break() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, sec := range s.sections {
		if !sec.Done {
			sec.Done, sec.Broken, sec.Trimmed = true, true, sec.Bytes
			s.drop(sec)
			errs = append(errs, s.disk.removeUnused(sec))
		}
	}
	s.signal()
	return errors.Join(errs...)
}

// share is how many bytes may be held before a section takes no more: in memory, and in all.
type share struct{ memory, all int64 }

// share leaves a section that an older one is waited for a part of the spool. Without the rest, the older one could neither
// grow nor be read to its end, and so nothing would ever be let go of.
func (s *Spool) share(of *section) share {
	whole := share{memory: s.cfg.MemoryBytes, all: s.Capacity()}
	for _, sec := range s.sections {
		if sec == of {
			break
		}
		if !sec.Done {
			return share{memory: whole.memory / 4 * 3, all: whole.all / 4 * 3}
		}
	}
	return whole
}
