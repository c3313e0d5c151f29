package spool

import (
	"fmt"
	"io"
)

// Reader reads a section from a place on. It does not block: see ErrEmpty and Wait.
type Reader struct {
	s     *Spool
	at    Place
	cache block  // a block read back from disk
	clock cursor // at what was read last
}

// Reader opens a reader.
func (s *Spool) Reader(at Place) *Reader { return &Reader{s: s, at: at} }

// Place is where the next Read begins.
func (r *Reader) Place() Place { return r.at }

// Stamp is when the bytes were read that the last Read returned; zero if nobody said so.
func (r *Reader) Stamp() Stamp { return r.clock.stamp }

// Read copies bytes that are there, all of one stamp. At the end of a section that is done it returns io.EOF, or
// ErrBroken.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		n, b, err := r.readMemory(p)
		if n > 0 || err != nil {
			return n, err
		}
		if err := r.load(b); err != nil {
			return 0, err
		}
	}
}

// readMemory reads from memory or from the cached block; else it returns the block to load. The file that it names is
// not removed meanwhile, because only this reader's lane trims.
func (r *Reader) readMemory(p []byte) (n int, load block, err error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	sec := r.s.find(r.at.Section)
	if sec != nil && sec.Broken && r.at.Byte < sec.Trimmed {
		return 0, block{}, ErrBroken
	}
	if sec == nil || r.at.Byte < sec.Trimmed || r.at.Byte > sec.Bytes {
		return 0, block{}, fmt.Errorf("read section %d at %d: %w", r.at.Section, r.at.Byte, ErrGone)
	}
	if r.at.Byte == sec.Bytes {
		switch {
		case sec.Broken:
			return 0, block{}, ErrBroken
		case sec.Done:
			return 0, block{}, io.EOF
		case r.s.closed:
			return 0, block{}, ErrClosed
		}
		return 0, block{}, ErrEmpty
	}
	for _, b := range sec.blocks {
		if r.at.Byte >= b.start+b.size {
			continue
		}
		data, times := b.data, b.times.bytes
		if data == nil {
			if r.cache.file != b.file || r.cache.at != b.at || r.cache.data == nil {
				return 0, *b, nil
			}
			data, times = r.cache.data[:b.size], r.cache.times.bytes
		}
		from := r.at.Byte - b.start
		n = copy(p, data[from:r.clock.seek(Place{r.at.Section, b.start}, times, from, b.size)])
		r.at.Byte += int64(n)
		return n, block{}, nil
	}
	return 0, block{}, fmt.Errorf("read section %d at %d: %w", r.at.Section, r.at.Byte, ErrGone)
}

func (r *Reader) load(b block) error {
	data, err := b.file.readBlock(b.at, r.cache.data[:0])
	if err != nil {
		return fmt.Errorf("read spool block: %w", err)
	}
	times := r.cache.times.bytes[:0]
	if b.timesAt > 0 {
		if times, err = b.file.readBlock(b.timesAt, times); err != nil {
			return fmt.Errorf("read times of spool block: %w", err)
		}
	}
	r.cache = b
	r.cache.data, r.cache.times.bytes = data, times
	return nil
}
