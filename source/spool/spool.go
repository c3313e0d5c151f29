package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redriver/redriver/event"
)

// Kind says what a section's bytes are.
type Kind byte

const (
	// Snapshot is an RDB.
	Snapshot Kind = 1
	// Stream is a stretch of one replication history.
	Stream Kind = 2
)

// Header describes a section.
type Header struct {
	Kind   Kind
	ReplID event.ReplID
	// Offset is the offset before the stream's first byte, or the one that the snapshot stands for.
	Offset event.Offset
}

// Place is a byte in the spool: the bytes of a section are numbered from 0.
type Place struct {
	Section uint64
	Byte    int64
}

// Section is what the spool knows of a section.
type Section struct {
	Number uint64
	Header
	// Bytes is how much of it has arrived, Done whether no more will. Broken: it ended before it was whole, or lies behind
	// such a one. What lies before Trimmed is let go of.
	Bytes        int64
	Trimmed      int64
	Done, Broken bool
}

// First is the replication offset before the first byte of a stream section that is still held.
func (s Section) First() event.Offset { return s.Offset + event.Offset(s.Trimmed) }

// End is the replication offset behind the last byte of a stream section.
func (s Section) End() event.Offset { return s.Offset + event.Offset(s.Bytes) }

// Errors of reading and writing.
var (
	// ErrEmpty: nothing to read now; more will come.
	ErrEmpty = errors.New("nothing in the spool yet")
	// ErrBroken: the section ended before it was whole.
	ErrBroken = errors.New("section of the spool is incomplete")
	// ErrGone: the place was trimmed, cut off or never held.
	ErrGone = errors.New("place is not in the spool")
	// ErrDamaged: bytes that were written to disk do not read back.
	ErrDamaged = errors.New("checksum does not match")
	// ErrClosed: the spool is closed.
	ErrClosed = errors.New("spool is closed")
)

// Config of a spool. Zero values take the defaults.
type Config struct {
	Dir string
	// MemoryBytes held before blocks go to disk, 16 MiB by default.
	MemoryBytes int64
	// DiskBytes used before Append waits, 8 GiB by default.
	DiskBytes int64
	Logger    *slog.Logger
}

const (
	defaultMemoryBytes = 16 << 20
	defaultDiskBytes   = 8 << 30
	blockBytes         = 256 << 10
	minMemoryBlocks    = 4
	diskRetry          = time.Second
)

// Spool is described in the package comment.
type Spool struct {
	cfg Config
	log *slog.Logger

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change that somebody may wait for
	waiting  bool
	closed   bool
	sections []*section // oldest first
	next     uint64     // number of the next section
	memory   int64      // bytes of capacity of blocks in memory
	free     [][]byte   // buffers of blocks that were let go
	disk     disk
}

type section struct {
	Section
	blocks []*block // without holes; the last one may be open
	// segments have its blocks that lie on disk, oldest first. The last one is written to if it is of this process: written.
	segments []*segment
	written  bool
	stalled  string // why appending to it waits; "" while it does not
}

// block is a run of bytes. data and times are nil once the block lies on disk alone.
type block struct {
	start, size int64
	data        []byte
	times       timeline
	file        *segment
	at          int64 // of its record in the file
	timesAt     int64 // of the record of its times, which lies before it; 0 where there is none
}

// Open recovers what the folder holds.
func Open(cfg Config) (*Spool, error) {
	if cfg.MemoryBytes == 0 {
		cfg.MemoryBytes = defaultMemoryBytes
	}
	cfg.MemoryBytes = max(cfg.MemoryBytes, minMemoryBlocks*blockBytes)
	if cfg.DiskBytes == 0 {
		cfg.DiskBytes = defaultDiskBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Spool{cfg: cfg, log: cfg.Logger, changed: make(chan struct{}), next: 1}
	s.disk.dir, s.disk.limit = cfg.Dir, min(maxSegmentBytes, cfg.DiskBytes/minSegments)
	sections, err := s.disk.recovered()
	if err != nil {
		return nil, fmt.Errorf("recover spool in %s: %w", cfg.Dir, err)
	}
	s.sections = sections
	for _, sec := range sections {
		s.next = sec.Number + 1
	}
	return s, nil
}

// Sections lists what is held, oldest first.
func (s *Spool) Sections() []Section {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Section, len(s.sections))
	for i, sec := range s.sections {
		out[i] = sec.Section
	}
	return out
}

// Section describes one section.
func (s *Spool) Section(number uint64) (Section, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec := s.find(number); sec != nil {
		return sec.Section, true
	}
	return Section{}, false
}

// Last describes the newest section.
func (s *Spool) Last() (Section, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec := s.last(); sec != nil {
		return sec.Section, true
	}
	return Section{}, false
}

// Bytes is how many bytes wait: received and not trimmed.
func (s *Spool) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held()
}

func (s *Spool) held() (n int64) {
	for _, sec := range s.sections {
		n += sec.Bytes - sec.Trimmed
	}
	return n
}

// Capacity is how many bytes memory and disk hold together.
func (s *Spool) Capacity() int64 { return s.cfg.MemoryBytes + s.cfg.DiskBytes }

// DiskBytes is how many bytes of disk are used.
func (s *Spool) DiskBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disk.used
}

// Begin opens a section behind all others. A snapshot that is still open is broken, with what is open behind it;
// another section is done.
func (s *Spool) Begin(h Header) (number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	broken := false
	for _, sec := range s.sections {
		if !sec.Done {
			broken = broken || sec.Kind == Snapshot
			sec.Done, sec.Broken = true, broken
		}
	}
	return s.begin(h)
}

func (s *Spool) begin(h Header) (number uint64, err error) {
	if s.closed {
		return 0, ErrClosed
	}
	sec := &section{Section: Section{Number: s.next, Header: h}}
	s.next++
	s.sections = append(s.sections, sec)
	s.signal()
	return sec.Number, nil
}

// Done closes the newest section: it is whole.
func (s *Spool) Done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete(s.last())
}

func (s *Spool) complete(sec *section) {
	if sec != nil {
		sec.Done = true
		s.signal()
	}
}

// Append is AppendAt for bytes of which it does not matter when they came.
func (s *Spool) Append(ctx context.Context, p []byte) error { return s.AppendAt(ctx, p, Stamp{}) }

// AppendAt adds bytes to the newest section, with when they were read. While memory and disk are full it waits.
func (s *Spool) AppendAt(ctx context.Context, p []byte, at Stamp) error {
	return s.append(ctx, s.last, p, at)
}

func (s *Spool) append(ctx context.Context, to func() *section, p []byte, at Stamp) error {
	for len(p) > 0 {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		n, retry, err := s.appendSome(to(), p, at)
		p = p[n:]
		if n > 0 {
			s.signal()
		}
		changed := s.wait()
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-time.After(retry):
		}
	}
	return nil
}

// appendSome copies what fits now. With nothing taken, retry is when to look again even if nobody signals.
func (s *Spool) appendSome(sec *section, p []byte, at Stamp) (n int, retry time.Duration, err error) {
	if sec == nil || sec.Done {
		return 0, 0, errors.New("append to spool: no open section")
	}
	b := sec.tail()
	if b == nil {
		if why := s.makeRoom(s.share(sec)); why != "" {
			s.stall(sec, why)
			return 0, diskRetry, nil
		}
		b = &block{start: sec.Bytes, data: s.buffer()}
		s.memory += blockBytes
		sec.blocks = append(sec.blocks, b)
	}
	if sec.stalled != "" {
		sec.stalled = ""
		s.log.Info("the spool takes bytes again")
	}
	n = min(len(p), cap(b.data)-len(b.data))
	b.times.add(b.size, at)
	b.data = append(b.data, p[:n]...)
	b.size = int64(len(b.data))
	sec.Bytes += int64(n)
	return n, 0, nil
}

// makeRoom makes room for one block in memory, or says why it cannot.
func (s *Spool) makeRoom(of share) (why string) {
	full := s.held()+blockBytes > of.all
	for !full && s.memory+blockBytes > of.memory {
		before := s.memory
		if err := s.spillOldest(); err != nil {
			return "its disk cannot be used: " + err.Error()
		}
		full = s.memory == before
	}
	if full {
		return fmt.Sprintf("its %d bytes of memory and %d bytes of disk are full", of.memory, of.all-of.memory)
	}
	return ""
}

// stall says why Append waits, once for each reason in a row.
func (s *Spool) stall(sec *section, why string) {
	if sec.stalled != why {
		sec.stalled = why
		s.log.Warn("the spool takes no more, the master has to buffer", slog.String("dir", s.cfg.Dir), slog.String("why", why))
	}
}

// Stalled is why Append waits, "" while it does not.
func (s *Spool) Stalled() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sec := range s.sections {
		if !sec.Done && sec.stalled != "" {
			return sec.stalled
		}
	}
	return ""
}

func (s *Spool) buffer() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return make([]byte, 0, blockBytes)
}

func (s *Spool) release(b *block) {
	if b.data != nil {
		s.memory -= blockBytes
		if len(s.free) < minMemoryBlocks {
			s.free = append(s.free, b.data[:0])
		}
		b.data, b.times = nil, timeline{}
	}
}

// tail is the block that still takes bytes, if any.
func (sec *section) tail() *block {
	if n := len(sec.blocks); n > 0 {
		if b := sec.blocks[n-1]; b.data != nil && b.file == nil && len(b.data) < cap(b.data) {
			return b
		}
	}
	return nil
}

// spillOldest writes the oldest block that lies in memory alone and lets its memory go. A nil error and an unchanged
// memory say that the disk is full.
func (s *Spool) spillOldest() error {
	for _, sec := range s.sections {
		for _, b := range sec.blocks {
			if b.data == nil {
				continue
			}
			if s.disk.used+b.size > s.cfg.DiskBytes {
				return nil
			}
			if err := s.disk.writeBlock(sec, b); err != nil {
				return err
			}
			s.release(b)
			return nil
		}
	}
	return nil
}

// Trim lets go of everything before the place.
func (s *Spool) Trim(at Place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for len(s.sections) > 0 && s.sections[0].Number < at.Section {
		s.drop(s.sections[0])
		errs = append(errs, s.disk.removeUnused(s.sections[0]))
		s.sections = s.sections[1:]
	}
	sec := s.find(at.Section)
	if sec != nil && at.Byte > sec.Trimmed {
		sec.Trimmed = min(at.Byte, sec.Bytes)
		i := 0
		for ; i < len(sec.blocks) && sec.blocks[i].start+sec.blocks[i].size <= sec.Trimmed; i++ {
			s.forget(sec.blocks[i])
		}
		sec.blocks = sec.blocks[i:]
	}
	if sec != nil {
		errs = append(errs, s.disk.removeUnused(sec))
	}
	s.signal()
	return errors.Join(errs...)
}

func (s *Spool) drop(sec *section) {
	for _, b := range sec.blocks {
		s.forget(b)
	}
	sec.blocks = nil
}

func (s *Spool) forget(b *block) {
	s.release(b)
	b.forgetFile()
}

func (b *block) forgetFile() {
	if b.file != nil {
		b.file.blocks--
		b.file = nil
	}
}

// Reset lets go of everything.
func (s *Spool) Reset() error {
	s.mu.Lock()
	next := s.next
	s.mu.Unlock()
	return s.Trim(Place{Section: next})
}

// Cut ends the newest section, a stream, at offset and lets go of what lies beyond: those bytes are of a history that
// the shard left. What was read of them must not be published.
func (s *Spool) Cut(offset event.Offset) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec := s.last()
	if sec == nil || sec.Kind != Stream || offset < sec.Offset || offset > sec.End() {
		return fmt.Errorf("cut spool at offset %d: %w", offset, ErrGone)
	}
	onDisk := sec.cut(int64(offset-sec.Offset), s.forget)
	sec.Done = true
	s.signal()
	if !onDisk {
		return nil
	}
	return s.disk.writeEnd(sec)
}

// cut ends the section at size and tells whether any of what it dropped lies on disk, where it would be found again.
func (sec *section) cut(size int64, forget func(*block)) (onDisk bool) {
	for n := len(sec.blocks); n > 0; n-- {
		b := sec.blocks[n-1]
		if b.start+b.size <= size {
			break
		}
		onDisk = onDisk || b.file != nil
		if b.start >= size {
			forget(b)
			sec.blocks = sec.blocks[:n-1]
			continue
		}
		b.size = size - b.start
		if b.data != nil {
			b.data = b.data[:b.size]
		}
	}
	sec.Bytes = min(sec.Bytes, size)
	return onDisk
}

// Close writes what lies in memory alone, as far as the disk has room, and gives up the files. What is held survives.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.signal()
	for {
		before := s.memory
		err := s.spillOldest()
		if err == nil && s.memory != before {
			continue
		}
		errs := []error{err}
		for _, sec := range s.sections {
			for _, g := range sec.segments {
				errs = append(errs, g.file.Close())
			}
		}
		return errors.Join(errs...)
	}
}

func (s *Spool) last() *section {
	if len(s.sections) == 0 {
		return nil
	}
	return s.sections[len(s.sections)-1]
}

func (s *Spool) find(number uint64) *section {
	for _, sec := range s.sections {
		if sec.Number == number {
			return sec
		}
	}
	return nil
}

// wait returns a channel that the next signal closes. Called with mu held.
func (s *Spool) wait() <-chan struct{} {
	s.waiting = true
	return s.changed
}

func (s *Spool) signal() {
	if s.waiting {
		close(s.changed)
		s.changed, s.waiting = make(chan struct{}), false
	}
}

// Wait returns when the spool has changed since a read said ErrEmpty at the place, or at once if there is more to read.
func (s *Spool) Wait(ctx context.Context, at Place) error {
	s.mu.Lock()
	if sec := s.find(at.Section); s.closed || sec == nil || at.Byte < sec.Bytes || sec.Done {
		s.mu.Unlock()
		return nil
	}
	changed := s.wait()
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
		return nil
	}
}

// WaitSection returns the first section behind number, when there is one.
func (s *Spool) WaitSection(ctx context.Context, number uint64) (Section, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return Section{}, ErrClosed
		}
		for _, sec := range s.sections {
			if sec.Number > number {
				found := sec.Section
				s.mu.Unlock()
				return found, nil
			}
		}
		changed := s.wait()
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return Section{}, context.Cause(ctx)
		case <-changed:
		}
	}
}
