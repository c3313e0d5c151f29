package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/redriver/redriver/event"
)

const (
	// A segment is removed as a whole: several have to fit the disk's share.
	maxSegmentBytes = 64 << 20
	minSegments     = 4

	segmentSuffix = ".spool"
	recordHeader  = 4 + 1 + 8 + 8 + 4

	recordSection = 1
	recordBlock   = 2
	recordEnd     = 3
	recordTimes   = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// disk writes records to the segments of sections and removes those of which no block is held. Guarded by the spool's mutex.
type disk struct {
	dir    string
	limit  int64  // of a segment
	number uint64 // of the newest segment
	used   int64
	buf    []byte
}

type segment struct {
	file   *os.File
	size   int64
	blocks int // held blocks
}

func (d *disk) writeBlock(sec *section, b *block) error {
	g, err := d.current(sec)
	if err != nil {
		return err
	}
	buf := d.buf[:0]
	if g.size == 0 {
		buf = appendSection(buf, sec)
	}
	timesAt := int64(0)
	if len(b.times.bytes) > 0 {
		timesAt = g.size + int64(len(buf))
		buf = appendRecord(buf, recordTimes, sec.Number, b.start, b.times.bytes)
	}
	at := g.size + int64(len(buf))
	buf = appendRecord(buf, recordBlock, sec.Number, b.start, b.data)
	d.buf = buf
	if _, err := g.file.WriteAt(buf, g.size); err != nil {
		return fmt.Errorf("write spool segment: %w", err)
	}
	g.size += int64(len(buf))
	d.used += int64(len(buf))
	g.blocks++
	b.file, b.at, b.timesAt = g, at, timesAt
	return nil
}

// writeEnd makes a section that was cut stay cut.
func (d *disk) writeEnd(sec *section) error {
	if len(sec.segments) == 0 {
		return nil
	}
	g, err := d.current(sec)
	if err != nil {
		return err
	}
	d.buf = d.buf[:0]
	if g.size == 0 {
		d.buf = appendSection(d.buf, sec)
	}
	d.buf = appendRecord(d.buf, recordEnd, sec.Number, sec.Bytes, nil)
	if _, err := g.file.WriteAt(d.buf, g.size); err != nil {
		return fmt.Errorf("write spool segment: %w", err)
	}
	g.size += int64(len(d.buf))
	d.used += int64(len(d.buf))
	return nil
}

func appendSection(dst []byte, sec *section) []byte {
	return appendRecord(dst, recordSection, sec.Number, int64(sec.Offset), append([]byte{byte(sec.Kind)}, sec.ReplID[:]...))
}

func appendRecord(dst []byte, kind byte, section uint64, number int64, data []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, kind)
	dst = binary.BigEndian.AppendUint64(dst, section)
	dst = binary.BigEndian.AppendUint64(dst, uint64(number))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(data)))
	dst = append(dst, data...)
	binary.BigEndian.PutUint32(dst[start:], crc32.Checksum(dst[start+4:], castagnoli))
	return dst
}

// current is the segment of the section to write to. Each repeats the section's header, because the older ones are removed
// before it.
func (d *disk) current(sec *section) (*segment, error) {
	if n := len(sec.segments); n > 0 && sec.written && sec.segments[n-1].size < d.limit {
		return sec.segments[n-1], nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool folder: %w", err)
	}
	d.number++
	f, err := os.OpenFile(filepath.Join(d.dir, fmt.Sprintf("%016x%s", d.number, segmentSuffix)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		if !errors.Is(err, fs.ErrExist) {
			d.number--
		}
		return nil, fmt.Errorf("make spool segment: %w", err)
	}
	g := &segment{file: f}
	sec.segments, sec.written = append(sec.segments, g), true
	return g, nil
}

// removeUnused removes the section's oldest segments of which nothing is held: not one in the middle, which may say where
// the section was cut. When nothing at all is held, the one that is written to goes too, so that an idle spool leaves no
// file and no stale section behind.
func (d *disk) removeUnused(sec *section) error {
	var errs []error
	for len(sec.segments) > 0 && sec.segments[0].blocks == 0 {
		errs = append(errs, d.remove(sec.segments[0]))
		sec.segments = sec.segments[1:]
	}
	return errors.Join(errs...)
}

func (d *disk) remove(g *segment) error {
	d.used -= g.size
	err := g.file.Close()
	if gone := os.Remove(g.file.Name()); !errors.Is(gone, fs.ErrNotExist) { // somebody was faster
		err = errors.Join(err, gone)
	}
	return err
}

// readBlock reads the record at, checks it and returns its bytes in dst.
func (g *segment) readBlock(at int64, dst []byte) ([]byte, error) {
	var head [recordHeader]byte
	if _, err := g.file.ReadAt(head[:], at); err != nil {
		return nil, fmt.Errorf("read %s: %w", g.file.Name(), err)
	}
	size := int(binary.BigEndian.Uint32(head[21:]))
	if size > blockBytes {
		return nil, fmt.Errorf("read %s at %d: %w", g.file.Name(), at, ErrDamaged)
	}
	dst = slices.Grow(dst, blockBytes)[:size]
	if _, err := g.file.ReadAt(dst, at+recordHeader); err != nil {
		return nil, fmt.Errorf("read %s: %w", g.file.Name(), err)
	}
	sum := crc32.Update(crc32.Checksum(head[4:], castagnoli), castagnoli, dst)
	if sum != binary.BigEndian.Uint32(head[:]) {
		return nil, fmt.Errorf("read %s at %d: %w", g.file.Name(), at, ErrDamaged)
	}
	return dst, nil
}

// recovered reads all segments in order, up to the first record that does not follow. What holds nothing of use is removed.
func (d *disk) recovered() ([]*section, error) {
	names, err := filepath.Glob(filepath.Join(d.dir, "*"+segmentSuffix))
	if err != nil {
		return nil, fmt.Errorf("list spool segments: %w", err)
	}
	slices.Sort(names)
	r := recovery{}
	var errs []error
	for _, name := range names {
		if _, err := fmt.Sscanf(filepath.Base(name), "%016x", &d.number); err != nil {
			return nil, fmt.Errorf("read name of spool segment %s: %w", name, err)
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open spool segment: %w", err)
		}
		g := &segment{file: f}
		if !r.done {
			r.segment(g)
		}
		d.used += g.size
		if r.of == nil {
			errs = append(errs, d.remove(g))
			continue
		}
		r.of.segments = append(r.of.segments, g)
		r.of = nil
	}
	broken := false
	for _, sec := range r.sections {
		// A stream may go on where it ends; a snapshot that was cut off cannot, and without it what lies behind is worth nothing.
		broken = broken || sec.Kind == Snapshot
		sec.Done, sec.Broken = true, broken
		errs = append(errs, d.removeUnused(sec))
	}
	return r.sections, errors.Join(errs...)
}

type recovery struct {
	sections []*section // by number
	of       *section   // whose segment is read; nil before its header
	done     bool
	// times is where the times of the block lie that begins at timesFor; 0 for none.
	times, timesFor int64
}

func (r *recovery) segment(g *segment) {
	var head [recordHeader]byte
	for {
		if _, err := g.file.ReadAt(head[:], g.size); err != nil {
			r.done = !errors.Is(err, io.EOF)
			return
		}
		data, err := g.readBlock(g.size, nil)
		if err != nil || !r.record(g, head, data) {
			r.done = true
			return
		}
		g.size += recordHeader + int64(len(data))
	}
}

// record takes one record, or says that it does not follow.
func (r *recovery) record(g *segment, head [recordHeader]byte, data []byte) bool {
	number, at := binary.BigEndian.Uint64(head[5:]), int64(binary.BigEndian.Uint64(head[13:]))
	if head[4] == recordSection {
		return r.header(number, event.Offset(at), data)
	}
	sec := r.of
	if sec == nil || sec.Number != number {
		return false
	}
	switch head[4] {
	case recordBlock:
		if len(sec.blocks) == 0 {
			sec.Bytes, sec.Trimmed = at, at
		}
		if sec.Bytes != at {
			return false
		}
		b := &block{start: at, size: int64(len(data)), file: g, at: g.size}
		if r.timesFor == at {
			b.timesAt = r.times
		}
		r.times = 0
		sec.blocks = append(sec.blocks, b)
		sec.Bytes += int64(len(data))
		g.blocks++
	case recordTimes:
		// The block follows in the same segment: both are written at once.
		r.times, r.timesFor = g.size, at
	case recordEnd:
		sec.cut(at, (*block).forgetFile)
	default:
		return false
	}
	return true
}

// header begins a segment: it says whose it is. The first segments of two sections that were open at once may be in either
// order.
func (r *recovery) header(number uint64, offset event.Offset, data []byte) bool {
	if r.of != nil || len(data) != 1+len(event.ReplID{}) {
		return false
	}
	i, found := slices.BinarySearchFunc(r.sections, number, func(s *section, n uint64) int { return cmp.Compare(s.Number, n) })
	if !found {
		h := Header{Kind: Kind(data[0]), ReplID: event.ReplID(data[1:]), Offset: offset}
		r.sections = slices.Insert(r.sections, i, &section{Section: Section{Number: number, Header: h}})
	}
	r.of, r.times = r.sections[i], 0
	return true
}
