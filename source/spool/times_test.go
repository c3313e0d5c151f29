package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/source/spool"
)

// stamped are bytes with the stamp of each.
type stamped struct {
	bytes  []byte
	stamps []spool.Stamp
}

func (s *stamped) add(p []byte, at spool.Stamp) {
	s.bytes = append(s.bytes, p...)
	for range p {
		s.stamps = append(s.stamps, at)
	}
}

func readStamped(t *testing.T, s *spool.Spool, at spool.Place, step func() int) (got stamped, err error) {
	t.Helper()
	r, p := s.Reader(at), make([]byte, 100_000)
	for {
		n, err := r.Read(p[:step()])
		if err != nil {
			return got, err
		}
		got.add(p[:n], r.Stamp())
	}
}

func (s *stamped) compare(want *stamped, from int64) error {
	if !bytes.Equal(s.bytes, want.bytes[from:]) {
		return fmt.Errorf("%d bytes, want %d", len(s.bytes), int64(len(want.bytes))-from)
	}
	for i, got := range s.stamps {
		if got != want.stamps[from+int64(i)] {
			return fmt.Errorf("byte %d has stamp %v, want %v", from+int64(i), got, want.stamps[from+int64(i)])
		}
	}
	return nil
}

// TestEveryByteKeepsItsStamp: through memory and disk, over a cut and a restart, however large the pieces are.
func TestEveryByteKeepsItsStamp(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		dir := t.TempDir()
		s := open(t, dir, 1<<30)
		n := begin(t, s, spool.Stream, 100)
		var want stamped
		now, skew := int64(1_700_000_000_000), int64(0)
		sizes := []int{20, 3000, 200_000}
		for len(want.bytes) < 3*memory {
			p := bytesOf(uint64(len(want.bytes)), 1+rnd.IntN(sizes[rnd.IntN(1+int(seed)%3)]))
			now += rnd.Int64N(3) * 20
			if rnd.IntN(50) == 0 {
				skew = rnd.Int64N(7_200_000) - 3_600_000
			}
			at := spool.Stamp{CapturedMs: now, SourceMs: now + skew}
			if rnd.IntN(100) == 0 {
				at = spool.Stamp{}
			}
			if err := s.AppendAt(t.Context(), p, at); err != nil {
				t.Fatal(err)
			}
			want.add(p, at)
		}
		step := func() int { return 1 + rnd.IntN(100_000) }
		check := func(what string, s *spool.Spool, from int64, end error) {
			t.Helper()
			got, err := readStamped(t, s, spool.Place{Section: n, Byte: from}, step)
			if !errors.Is(err, end) {
				t.Fatalf("seed %d, %s: %v", seed, what, err)
			}
			if err := got.compare(&want, from); err != nil {
				t.Fatalf("seed %d, %s: %v", seed, what, err)
			}
		}
		check("from the start", s, 0, spool.ErrEmpty)
		for range 5 {
			check("from within", s, rnd.Int64N(int64(len(want.bytes))), spool.ErrEmpty)
		}
		cut := int64(len(want.bytes)) - rnd.Int64N(int64(len(want.bytes))/2)
		if err := s.Cut(event.Offset(100 + cut)); err != nil {
			t.Fatal(err)
		}
		want.bytes, want.stamps = want.bytes[:cut], want.stamps[:cut]
		check("cut", s, 0, io.EOF)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		check("opened again", open(t, dir, 1<<30), 0, io.EOF)
	}
}

// TestAReaderFollowsTheStampsOfAGrowingBlock: one that has caught up sees the stamp of what comes next.
func TestAReaderFollowsTheStampsOfAGrowingBlock(t *testing.T) {
	s := open(t, t.TempDir(), 1<<30)
	r := s.Reader(spool.Place{Section: begin(t, s, spool.Stream, 0)})
	p := make([]byte, 100)
	for i := range int64(1000) {
		at := spool.Stamp{CapturedMs: 5000 + i/3, SourceMs: 9000 + i/3}
		if err := s.AppendAt(t.Context(), []byte("PING"), at); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Read(p); n != 4 || err != nil || r.Stamp() != at {
			t.Fatalf("read %d: %d bytes with stamp %v, %v; want %v", i, n, r.Stamp(), err, at)
		}
	}
}

func BenchmarkReadOfManyStamps(b *testing.B) {
	s, err := spool.Open(spool.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	n, err := s.Begin(spool.Header{Kind: spool.Stream})
	if err != nil {
		b.Fatal(err)
	}
	const pieces = 100_000
	for i := range int64(pieces) {
		if err := s.AppendAt(b.Context(), []byte("*1\r\n$4\r\nPING\r\n"), spool.Stamp{CapturedMs: i * 20, SourceMs: i * 20}); err != nil {
			b.Fatal(err)
		}
	}
	p := make([]byte, 256<<10)
	for b.Loop() {
		r := s.Reader(spool.Place{Section: n})
		for err := error(nil); err == nil; {
			_, err = r.Read(p)
		}
	}
}
