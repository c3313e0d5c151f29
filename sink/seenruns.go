package sink

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// seenRuns are the fingerprints of a set on disk, in sorted runs: a main run, and fresh ones, of which mergeRuns become a part of the
// main run. A fingerprint may stand in several of them. They need 8 bytes for each distinct one, twice that while they are
// merged, and as much as mergeRuns tables of a set.
type seenRuns struct {
	main, fresh runFile
	// pulse is called now and then while runs are merged, and ends that by an error.
	pulse func() error
}

// runFile is sorted runs of fingerprints, 8 bytes each, little endian, one behind the other in a file that has no name, and is gone
// with the process.
type runFile struct {
	dir  string
	file *os.File
	size int64
	runs []seenRun
}

// seenRun is n fingerprints at an offset of the file, and their sum.
type seenRun struct {
	at, n int64
	sum   uint64
}

const (
	mergeRuns    = 32
	runReadBytes = 4 << 10
	runWriteSize = 64 << 10
	pulseEvery   = 1 << 16 // fingerprints
)

// SpillError tells that fingerprints of a snapshot's keys could not be written to disk, or read.
type SpillError struct {
	Dir string
	Err error
}

func (e *SpillError) Error() string {
	return fmt.Sprintf("keep fingerprints of a snapshot's keys in %s: %v (data.dir, or the folder for temporary files where that cannot be written, "+
		"needs room for 16 bytes of each key; or raise sweep.memory.bytes)", e.Dir, e.Err)
}

func (e *SpillError) Unwrap() error { return e.Err }

// Class is Resync: the snapshot is read again from its begin.
func (e *SpillError) Class() Class { return Resync }

var errRunDamaged = errors.New("what was read is not what was written")

func (r *seenRuns) close() {
	r.main.close()
	r.fresh.close()
}

func (r *seenRuns) isEmpty() bool { return len(r.main.runs)+len(r.fresh.runs) == 0 }

// add writes a run of sorted fingerprints.
func (r *seenRuns) add(dir string, sorted []uint64) error {
	i := 0
	if err := r.fresh.write(dir, func() (uint64, bool, error) {
		if i == len(sorted) {
			return 0, false, nil
		}
		i++
		return sorted[i-1], true, nil
	}); err != nil {
		return err
	}
	if len(r.fresh.runs) < mergeRuns {
		return nil
	}
	return r.collapse(dir)
}

// collapse makes one run of all.
func (r *seenRuns) collapse(dir string) error {
	m, err := r.merge()
	if err != nil {
		return err
	}
	var all runFile
	if err := all.write(dir, m.next); err != nil {
		all.close()
		return err
	}
	r.main.close()
	r.main = all
	return r.fresh.empty()
}

// merge reads all runs as if they were one, without what is there twice.
func (r *seenRuns) merge() (*seenMerge, error) {
	m := &seenMerge{pulse: r.pulse}
	for _, f := range []*runFile{&r.main, &r.fresh} {
		for _, run := range f.runs {
			h := &runHead{dir: f.dir, in: bufio.NewReaderSize(io.NewSectionReader(f.file, run.at, run.n*fingerprintBytes), runReadBytes), left: run.n, sum: run.sum}
			if err := h.advance(); err != nil {
				return nil, err
			}
			m.heads = append(m.heads, h)
		}
	}
	heap.Init(&m.heads)
	return m, nil
}

func (f *runFile) close() {
	if f.file != nil {
		f.file.Close() // it has no name, so nobody else reads it
	}
	*f = runFile{}
}

// open makes the file: in the folder, or where that cannot be written in the system's own for such files.
func (f *runFile) open(dir string) error {
	file, err := createUnnamed(dir)
	if err != nil {
		var other error
		if file, other = createUnnamed(os.TempDir()); other != nil {
			return &SpillError{dir, errors.Join(err, other)}
		}
		dir = os.TempDir()
	}
	f.file, f.dir = file, dir
	return nil
}

// createUnnamed makes a file that nobody else finds.
func createUnnamed(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "redriver-seen-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// write appends a run. What a failed write has left is overwritten by the next.
func (f *runFile) write(dir string, next func() (uint64, bool, error)) error {
	if f.file == nil {
		if err := f.open(dir); err != nil {
			return err
		}
	}
	run := seenRun{at: f.size}
	out := bufio.NewWriterSize(io.NewOffsetWriter(f.file, f.size), runWriteSize)
	var b [fingerprintBytes]byte
	for {
		h, ok, err := next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		binary.LittleEndian.PutUint64(b[:], h)
		if _, err := out.Write(b[:]); err != nil {
			return &SpillError{f.dir, err}
		}
		run.n++
		run.sum += h
	}
	if err := out.Flush(); err != nil {
		return &SpillError{f.dir, err}
	}
	f.size += run.n * fingerprintBytes
	f.runs = append(f.runs, run)
	return nil
}

// empty gives its room back.
func (f *runFile) empty() error {
	f.size, f.runs = 0, f.runs[:0]
	if err := f.file.Truncate(0); err != nil {
		return &SpillError{f.dir, err}
	}
	return nil
}

// seenMerge hands out the fingerprints of several runs in order, each once.
type seenMerge struct {
	heads runHeads
	last  uint64 // 0 is none: it stands in no run
	n     int
	pulse func() error
}

// runHead is the first fingerprint of a run that is not handed out yet.
type runHead struct {
	dir  string
	in   *bufio.Reader
	left int64
	sum  uint64 // of what is left
	h    uint64
}

// advance reads the next one, which is larger than the one before; behind the last it is math.MaxUint64 with left below 0.
func (h *runHead) advance() error {
	before := h.h
	if h.left--; h.left < 0 {
		h.h = math.MaxUint64
		if h.sum != 0 {
			return &SpillError{h.dir, errRunDamaged}
		}
		return nil
	}
	var b [fingerprintBytes]byte
	if _, err := io.ReadFull(h.in, b[:]); err != nil {
		return &SpillError{h.dir, err}
	}
	if h.h = binary.LittleEndian.Uint64(b[:]); h.h <= before {
		return &SpillError{h.dir, errRunDamaged}
	}
	h.sum -= h.h
	return nil
}

func (m *seenMerge) next() (h uint64, ok bool, err error) {
	for len(m.heads) > 0 {
		if m.n++; m.n%pulseEvery == 0 && m.pulse != nil {
			if err := m.pulse(); err != nil {
				return 0, false, err
			}
		}
		first := m.heads[0]
		if first.left < 0 {
			heap.Pop(&m.heads)
			continue
		}
		h = first.h
		if err := first.advance(); err != nil {
			return 0, false, err
		}
		heap.Fix(&m.heads, 0)
		if h != m.last {
			m.last = h
			return h, true, nil
		}
	}
	return 0, false, nil
}

// runHeads is a heap, the least fingerprint first, and runs that have ended last.
type runHeads []*runHead

func (q runHeads) Len() int { return len(q) }

func (q runHeads) Less(i, j int) bool {
	if q[i].h == q[j].h {
		return q[i].left > q[j].left
	}
	return q[i].h < q[j].h
}

func (q runHeads) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push is never called: a heap begins with all its runs.
func (q *runHeads) Push(any) {}

// Pop takes out the last.
func (q *runHeads) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
