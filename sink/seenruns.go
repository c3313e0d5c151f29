package sink

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
)

// seenRuns are sorted runs of fingerprints, 8 bytes each, little endian, one behind the other in a file without a name, which is
// gone with the process. As soon as there are mergeRuns of a level they become one of the next level; what they were stays in
// the file, so that a fingerprint takes 8 bytes on disk for each level.
type seenRuns struct {
	dir  string
	file *os.File
	size int64
	runs []seenRun
}

// seenRun is n fingerprints at an offset of the file.
type seenRun struct {
	at, n int64
	level int
}

const (
	mergeRuns    = 64
	runReadBytes = 8 << 10
	runWriteSize = 64 << 10
)

// SpillError tells that fingerprints of a snapshot's keys could not be written to disk, or read.
type SpillError struct {
	Dir string
	Err error
}

func (e *SpillError) Error() string {
	return fmt.Sprintf("keep fingerprints of a snapshot's keys in %s: %v (data.dir needs room for 16 bytes, at times 32, for each key of the snapshot; or raise sweep.memory.bytes)", e.Dir, e.Err)
}

func (e *SpillError) Unwrap() error { return e.Err }

// Class is Retry: the snapshot is read again from its begin.
func (e *SpillError) Class() Class { return Retry }

func (r *seenRuns) close() {
	if r.file != nil {
		r.file.Close() // it has no name, so nobody else reads it
	}
	*r = seenRuns{}
}

// open makes the file.
func (r *seenRuns) open(dir string) error {
	if dir == "" {
		dir = os.TempDir()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &SpillError{dir, err}
	}
	f, err := os.CreateTemp(dir, "redriver-seen-")
	if err != nil {
		return &SpillError{dir, err}
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return &SpillError{dir, err}
	}
	r.file, r.dir = f, dir
	return nil
}

// add writes a run of sorted fingerprints.
func (r *seenRuns) add(dir string, sorted []uint64) error {
	if r.file == nil {
		if err := r.open(dir); err != nil {
			return err
		}
	}
	i := 0
	if err := r.write(0, func() (uint64, bool, error) {
		if i == len(sorted) {
			return 0, false, nil
		}
		i++
		return sorted[i-1], true, nil
	}); err != nil {
		return err
	}
	for level := 0; r.count(level) >= mergeRuns; level++ {
		if err := r.lift(level); err != nil {
			return err
		}
	}
	return nil
}

func (r *seenRuns) count(level int) (n int) {
	for _, run := range r.runs {
		if run.level == level {
			n++
		}
	}
	return n
}

// lift makes one run of the next level out of all runs of one, which are the last ones: higher levels come before lower ones.
func (r *seenRuns) lift(level int) error {
	from := len(r.runs) - r.count(level)
	m, err := r.merge(from)
	if err != nil {
		return err
	}
	if err := r.write(level+1, m.next); err != nil {
		return err
	}
	r.runs = append(r.runs[:from], r.runs[len(r.runs)-1])
	return nil
}

// write appends a run. What a failed write has left is overwritten by the next.
func (r *seenRuns) write(level int, next func() (uint64, bool, error)) error {
	run := seenRun{at: r.size, level: level}
	out := bufio.NewWriterSize(io.NewOffsetWriter(r.file, r.size), runWriteSize)
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
			return r.fault(err)
		}
		run.n++
	}
	if err := out.Flush(); err != nil {
		return r.fault(err)
	}
	r.size += run.n * fingerprintBytes
	r.runs = append(r.runs, run)
	return nil
}

func (r *seenRuns) fault(err error) error { return &SpillError{r.dir, err} }

// merge reads the runs from one on as if they were one, without what is there twice.
func (r *seenRuns) merge(from int) (*seenMerge, error) {
	m := &seenMerge{}
	for _, run := range r.runs[from:] {
		h := &runHead{r: r, in: bufio.NewReaderSize(io.NewSectionReader(r.file, run.at, run.n*fingerprintBytes), runReadBytes), left: run.n}
		if err := h.advance(); err != nil {
			return nil, err
		}
		m.heads = append(m.heads, h)
	}
	heap.Init(&m.heads)
	return m, nil
}

// seenMerge hands out the fingerprints of several runs in order, each once.
type seenMerge struct {
	heads runHeads
	last  uint64 // 0 is none: it stands in no run
}

// runHead is the first fingerprint of a run that is not handed out yet.
type runHead struct {
	r    *seenRuns
	in   *bufio.Reader
	left int64
	h    uint64
}

// advance reads the next one; behind the last it is math.MaxUint64 with left below 0.
func (h *runHead) advance() error {
	if h.left--; h.left < 0 {
		h.h = math.MaxUint64
		return nil
	}
	var b [fingerprintBytes]byte
	if _, err := io.ReadFull(h.in, b[:]); err != nil {
		return h.r.fault(err)
	}
	h.h = binary.LittleEndian.Uint64(b[:])
	return nil
}

func (m *seenMerge) next() (h uint64, ok bool, err error) {
	for len(m.heads) > 0 {
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
