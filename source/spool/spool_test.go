package spool_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/source/spool"
)

const memory = 1 << 20

func open(t *testing.T, dir string, disk int64) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Config{Dir: dir, MemoryBytes: memory, DiskBytes: disk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func bytesOf(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func begin(t *testing.T, s *spool.Spool, k spool.Kind, off event.Offset) uint64 {
	t.Helper()
	n, err := s.Begin(spool.Header{Kind: k, Offset: off, ReplID: event.ReplID{1}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func readAll(t *testing.T, s *spool.Spool, at spool.Place) ([]byte, error) {
	t.Helper()
	r, out, buf := s.Reader(at), []byte{}, make([]byte, 10_007)
	for {
		n, err := r.Read(buf)
		out = append(out, buf[:n]...)
		if err != nil {
			return out, err
		}
	}
}

func TestWhatIsAppendedIsReadThroughMemoryAndDisk(t *testing.T) {
	s := open(t, t.TempDir(), 1<<30)
	want := bytesOf(1, 5*memory+12345)
	n := begin(t, s, spool.Stream, 1000)
	if err := s.Append(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if s.DiskBytes() == 0 {
		t.Fatal("nothing went to disk, though five times the memory was appended")
	}
	got, err := readAll(t, s, spool.Place{Section: n})
	if !errors.Is(err, spool.ErrEmpty) || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes of %d: %v", len(got), len(want), err)
	}
	s.Done()
	if _, err := readAll(t, s, spool.Place{Section: n, Byte: int64(len(want))}); !errors.Is(err, io.EOF) {
		t.Fatalf("at the end: %v, want EOF", err)
	}
	if err := s.Trim(spool.Place{Section: n, Byte: int64(len(want))}); err != nil {
		t.Fatal(err)
	}
	if s.Bytes() != 0 || s.DiskBytes() != 0 {
		t.Fatalf("after trimming all: %d bytes held, %d on disk", s.Bytes(), s.DiskBytes())
	}
}

func TestAppendWaitsWhenMemoryAndDiskAreFull(t *testing.T) {
	s := open(t, t.TempDir(), 2*memory)
	n := begin(t, s, spool.Stream, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Append(ctx, bytesOf(1, 10*memory)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append beyond all bounds: %v", err)
	}
	held := s.Bytes()
	if held > 3*memory+memory/2 {
		t.Fatalf("holds %d bytes with bounds of %d", held, 3*memory)
	}
	done := make(chan error, 1)
	go func() { done <- s.Append(t.Context(), make([]byte, memory)) }()
	if err := s.Trim(spool.Place{Section: n, Byte: held}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatalf("append after trim: %v", err)
	}
}

func TestAStreamSurvivesCloseAndAKillKeepsItsPrefix(t *testing.T) {
	dir := t.TempDir()
	want := bytesOf(7, 3*memory)
	s := open(t, dir, 1<<30)
	n := begin(t, s, spool.Stream, 500)
	if err := s.Append(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := s.Trim(spool.Place{Section: n, Byte: 700_000}); err != nil {
		t.Fatal(err)
	}

	killed := open(t, dir, 1<<30) // what a second process finds while the first has written only its prefix
	sec, ok := killed.Last()
	if !ok || sec.Offset != 500 || sec.Bytes == 0 || sec.Bytes >= int64(len(want)) {
		t.Fatalf("after a kill: %+v, %v", sec, ok)
	}
	got, err := readAll(t, killed, spool.Place{Section: sec.Number, Byte: 700_000})
	if !errors.Is(err, io.EOF) || !bytes.Equal(got, want[700_000:sec.Bytes]) {
		t.Fatalf("after a kill: %d bytes, %v", len(got), err)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	closed := open(t, dir, 1<<30)
	got, err = readAll(t, closed, spool.Place{Section: n, Byte: 700_000})
	if !errors.Is(err, io.EOF) || !bytes.Equal(got, want[700_000:]) {
		t.Fatalf("after close: %d bytes of %d, %v", len(got), len(want)-700_000, err)
	}
}

func TestADamagedBlockEndsWhatIsRecovered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	n := begin(t, s, spool.Stream, 0)
	if err := s.Append(t.Context(), bytesOf(3, 4*memory)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.spool"))
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1, 2, 3}, 2*memory); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again := open(t, dir, 1<<30)
	sec, ok := again.Section(n)
	if !ok || sec.Bytes == 0 || sec.Bytes > 2*memory {
		t.Fatalf("recovered %d bytes behind damage at %d", sec.Bytes, 2*memory)
	}
}

func TestCutBytesDoNotComeBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	n := begin(t, s, spool.Stream, 100)
	want := bytesOf(5, 4*memory)
	if err := s.Append(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	cut := int64(memory + 333)
	if err := s.Cut(100 + event.Offset(cut)); err != nil {
		t.Fatal(err)
	}
	m := begin(t, s, spool.Stream, 100+event.Offset(cut))
	if err := s.Append(t.Context(), []byte("new history")); err != nil {
		t.Fatal(err)
	}
	check := func(s *spool.Spool) {
		t.Helper()
		got, err := readAll(t, s, spool.Place{Section: n})
		if !errors.Is(err, io.EOF) || !bytes.Equal(got, want[:cut]) {
			t.Fatalf("old history: %d bytes of %d, %v", len(got), cut, err)
		}
		if got, _ := readAll(t, s, spool.Place{Section: m}); string(got) != "new history" {
			t.Fatalf("new history: %q", got)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, dir, 1<<30))
}

func TestASnapshotThatWasCutOffIsBroken(t *testing.T) {
	s := open(t, t.TempDir(), 1<<30)
	n := begin(t, s, spool.Snapshot, 9)
	if err := s.Append(t.Context(), []byte("REDIS")); err != nil {
		t.Fatal(err)
	}
	begin(t, s, spool.Snapshot, 10)
	if _, err := readAll(t, s, spool.Place{Section: n}); !errors.Is(err, spool.ErrBroken) {
		t.Fatalf("got %v, want ErrBroken", err)
	}
}

func TestManySegmentsKeepTheirHistoryAfterTheFirstIsRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	n := begin(t, s, spool.Stream, 0)
	want := bytesOf(2, 70<<20)
	if err := s.Append(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	at := int64(66 << 20)
	if err := s.Trim(spool.Place{Section: n, Byte: at}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t, open(t, dir, 1<<30), spool.Place{Section: n, Byte: at})
	if !errors.Is(err, io.EOF) || !bytes.Equal(got, want[at:]) {
		t.Fatalf("read %d bytes of %d: %v", len(got), len(want)-int(at), err)
	}
}
