package spool_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/source/spool"
)

// A cut in bytes that lie in memory alone, while the section's beginning is on disk: the end record is written before the
// blocks that precede the cut.
func TestCutInMemorySurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	n := begin(t, s, spool.Stream, 100)
	want := bytesOf(5, memory+memory/2)
	if err := s.Append(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	cut := int64(memory + 300_333)
	if err := s.Cut(100 + event.Offset(cut)); err != nil {
		t.Fatal(err)
	}
	m := begin(t, s, spool.Stream, 100+event.Offset(cut))
	if err := s.Append(t.Context(), []byte("new history")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 1<<30)
	sec, _ := s.Section(n)
	got, err := readAll(t, s, spool.Place{Section: n})
	if !errors.Is(err, io.EOF) || !bytes.Equal(got, want[:cut]) {
		t.Errorf("old history: section says it holds %d bytes, read %d of %d: %v", sec.Bytes, len(got), cut, err)
	}
	if got, err := readAll(t, s, spool.Place{Section: m}); string(got) != "new history" {
		t.Errorf("new history: %q %v", got, err)
	}
}
