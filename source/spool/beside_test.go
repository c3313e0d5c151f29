package spool_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/source/spool"
)

func beginBeside(t *testing.T, s *spool.Spool, off event.Offset) uint64 {
	t.Helper()
	n, err := s.BeginBeside(spool.Header{Kind: spool.Stream, Offset: off, ReplID: event.ReplID{1}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestASnapshotAndItsStreamArriveAtOnce: each keeps its own bytes, through memory and disk, and over a restart the stream
// keeps a prefix of them.
func TestASnapshotAndItsStreamArriveAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	snapshot := begin(t, s, spool.Snapshot, 100)
	stream := beginBeside(t, s, 100)
	entries, units := bytesOf(1, 5*memory+123), bytesOf(2, 4*memory+321)
	var wg sync.WaitGroup
	wg.Go(func() {
		for rest := entries; len(rest) > 0; {
			n := min(len(rest), 70_001)
			if err := s.AppendTo(t.Context(), snapshot, rest[:n]); err != nil {
				t.Error(err)
			}
			rest = rest[n:]
		}
		s.Complete(snapshot)
	})
	wg.Go(func() {
		for rest := units; len(rest) > 0; {
			n := min(len(rest), 50_003)
			if err := s.AppendAt(t.Context(), rest[:n], spool.Stamp{CapturedMs: 5}); err != nil {
				t.Error(err)
			}
			rest = rest[n:]
		}
	})
	wg.Wait()
	if got, err := readAll(t, s, spool.Place{Section: snapshot}); !errors.Is(err, io.EOF) || !bytes.Equal(got, entries) {
		t.Errorf("snapshot: %d bytes of %d, %v", len(got), len(entries), err)
	}
	if got, err := readAll(t, s, spool.Place{Section: stream}); !errors.Is(err, spool.ErrEmpty) || !bytes.Equal(got, units) {
		t.Errorf("stream: %d bytes of %d, %v", len(got), len(units), err)
	}
	before := s.DiskBytes()
	if err := s.Trim(spool.Place{Section: stream}); err != nil {
		t.Fatal(err)
	}
	if after := s.DiskBytes(); after > before-4*memory {
		t.Errorf("letting go of a snapshot of %d bytes took the disk from %d to %d: it shares files with the stream", len(entries), before, after)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, 1<<30)
	if got, err := readAll(t, again, spool.Place{Section: stream}); !errors.Is(err, io.EOF) || !bytes.Equal(got, units) {
		t.Errorf("stream after a restart: %d bytes of %d, %v", len(got), len(units), err)
	}
}

// TestTheStreamLeavesRoomForItsSnapshot: a spool that the stream could fill would hold a snapshot that never gets whole, and
// nothing of it could be let go of.
func TestTheStreamLeavesRoomForItsSnapshot(t *testing.T) {
	s := open(t, t.TempDir(), 4*memory)
	snapshot := begin(t, s, spool.Snapshot, 100)
	beginBeside(t, s, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Append(ctx, bytesOf(1, 10*memory)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the stream beyond all bounds: %v", err)
	}
	if s.Stalled() == "" {
		t.Error("nothing says why the stream is not read")
	}
	want := bytesOf(2, 20*memory)
	go func() {
		if err := s.AppendTo(t.Context(), snapshot, want); err != nil {
			t.Error(err)
		}
		s.Complete(snapshot)
	}()
	var got []byte
	r, buf := s.Reader(spool.Place{Section: snapshot}), make([]byte, 100_000)
	for {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		switch {
		case errors.Is(err, spool.ErrEmpty):
			waited, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			err = s.Wait(waited, r.Place())
			cancel()
			if err != nil {
				t.Fatalf("the snapshot stands at %d of %d bytes: %s", len(got), len(want), s.Stalled())
			}
			continue
		case errors.Is(err, io.EOF):
			if !bytes.Equal(got, want) {
				t.Errorf("the snapshot has %d bytes of %d", len(got), len(want))
			}
			return
		case err != nil:
			t.Fatal(err)
		}
		if s.Bytes() >= s.Capacity()/4*3 {
			if err := s.Trim(r.Place()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAStreamWithoutItsSnapshotIsBroken: nothing may go on from it.
func TestAStreamWithoutItsSnapshotIsBroken(t *testing.T) {
	s := open(t, t.TempDir(), 1<<30)
	snapshot := begin(t, s, spool.Snapshot, 9)
	stream := beginBeside(t, s, 9)
	if err := s.Append(t.Context(), []byte("PING")); err != nil {
		t.Fatal(err)
	}
	if err := s.Break(); err != nil {
		t.Fatal(err)
	}
	if s.Bytes() != 0 {
		t.Errorf("%d bytes are held of what nobody will read", s.Bytes())
	}
	for _, n := range []uint64{snapshot, stream} {
		if _, err := readAll(t, s, spool.Place{Section: n}); !errors.Is(err, spool.ErrBroken) {
			t.Errorf("section %d: got %v, want ErrBroken", n, err)
		}
	}
	if err := s.AppendTo(t.Context(), snapshot, []byte("x")); err == nil {
		t.Error("a broken snapshot takes bytes")
	}
}

// TestAStreamWhoseSnapshotIsLostWithTheProcessIsBroken: a new process must not go on from it.
func TestAStreamWhoseSnapshotIsLostWithTheProcessIsBroken(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	old := begin(t, s, spool.Stream, 1)
	if err := s.Append(t.Context(), []byte("PING")); err != nil {
		t.Fatal(err)
	}
	snapshot := begin(t, s, spool.Snapshot, 9)
	stream := beginBeside(t, s, 9)
	if err := errors.Join(s.AppendTo(t.Context(), snapshot, []byte("REDIS")), s.Append(t.Context(), []byte("PING")), s.Close()); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, 1<<30)
	for n, want := range map[uint64]bool{old: false, snapshot: true, stream: true} {
		if sec, ok := again.Section(n); !ok || sec.Broken != want {
			t.Errorf("section %d: %+v, want it broken: %t", n, sec, want)
		}
	}
}

// TestTheStreamDoesNotWaitWhileTheDiskHasRoom: though its snapshot has filled the memory.
func TestTheStreamDoesNotWaitWhileTheDiskHasRoom(t *testing.T) {
	s := open(t, t.TempDir(), 1<<30)
	snapshot := begin(t, s, spool.Snapshot, 9)
	beginBeside(t, s, 9)
	for range 4 {
		if err := s.AppendTo(t.Context(), snapshot, bytesOf(1, 2*memory)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // less than it takes to look again
		err := s.Append(ctx, bytesOf(2, 300_000))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}
