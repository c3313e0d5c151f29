package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strconv"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// readCut reads a stream in pieces and puts the values together again. It checks that all pieces have the size asked for.
func readCut(t *testing.T, r io.Reader, piece int) (items []Item, err error) {
	t.Helper()
	var have []byte
	var cut Entry
	reader := NewReader(r, Config{PieceBytes: piece, OnPiece: func(e *Entry, p []byte) error {
		if len(p) != piece || int64(len(have)) != e.Handed || e.Value != nil {
			t.Fatalf("piece of %d bytes behind %d (%d seen), want %d", len(p), e.Handed, len(have), piece)
		}
		have = append(have, p...)
		cut = *e
		cut.Key = bytes.Clone(e.Key)
		return nil
	}})
	for {
		it, err := reader.Next()
		if err != nil {
			return items, err
		}
		it = clone(it)
		if e := &it.Entry; e.Handed > 0 {
			if cut.Handed += int64(piece); !reflect.DeepEqual(cut, Entry{DB: e.DB, Key: e.Key, Type: e.Type, ExpireAtMs: e.ExpireAtMs, Idle: e.Idle, Freq: e.Freq, Handed: e.Handed}) {
				t.Fatalf("with the pieces came %+v, with the end %+v", cut, e)
			}
			if len(e.Value) == 0 || len(e.Value) > piece {
				t.Fatalf("an end of %d bytes behind pieces of %d", len(e.Value), piece)
			}
			e.Key, e.Value, e.Handed = append([]byte{}, e.Key...), append(have, e.Value...), 0
		} else if len(e.Value) > piece {
			t.Fatalf("a value of %d bytes came whole, pieces have %d", len(e.Value), piece)
		}
		have = nil
		items = append(items, it)
	}
}

// corpusStream is an RDB of all values of the corpus that have a magic in common, with keys and prefixes of all kinds.
func corpusStream(t *testing.T, valkey bool) []byte {
	magic := "REDIS0012"
	if valkey {
		magic = "VALKEY080"
	}
	parts := []any{opAux, "\x03key\x05value", opSelectDB, 3}
	for i, v := range corpus(t) {
		if v.format.Valkey != valkey && (v.typ == typeHashTTLPre || v.typ == typeHashTTLValkey || v.typ > typeHashTTLPre) {
			continue
		}
		switch i % 4 {
		case 0:
			parts = append(parts, opExpireMs, le64(uint64(i)+1))
		case 1:
			parts = append(parts, opIdle, 7)
		case 2:
			parts = append(parts, opFreq, 9)
		}
		key := []byte{0xc0, byte(i)} // an integer
		if i%3 > 0 {
			key = AppendText(nil, bytes.Repeat([]byte("k"), i%200))
		}
		parts = append(parts, int(v.typ), key, v.value)
	}
	return stream(magic, parts...)
}

func TestPiecesOfAValueAreTheValue(t *testing.T) {
	for _, valkey := range []bool{false, true} {
		whole := corpusStream(t, valkey)
		want, err := readCut(t, bytes.NewReader(whole), math.MaxInt)
		if !errors.Is(err, io.EOF) || len(want) < 20 {
			t.Fatalf("valkey %v: %d items, %v", valkey, len(want), err)
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		for piece := range 60 {
			if piece++; piece > 4 {
				piece = 1 + rnd.IntN(1<<(piece%14+1))
			}
			for name, r := range map[string]io.Reader{
				"at once": bytes.NewReader(whole), "byte by byte": iotest.OneByteReader(bytes.NewReader(whole)), "by halves": iotest.HalfReader(bytes.NewReader(whole)),
			} {
				got, err := readCut(t, r, piece)
				if !errors.Is(err, io.EOF) {
					t.Fatalf("valkey %v, pieces of %d, %s: %v", valkey, piece, name, err)
				}
				if !reflect.DeepEqual(want, got) {
					t.Fatalf("valkey %v, pieces of %d, %s:\n%s", valkey, piece, name, cmp.Diff(want, got))
				}
			}
		}
	}
}

// endless gives size bytes that cost no memory, between a head and a tail.
func endless(head []byte, size int64, tail []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{}, size), bytes.NewReader(tail))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestAValueInPiecesNeedsNoMemory(t *testing.T) {
	const size, piece = 256 << 20, 1 << 20
	text := binary.BigEndian.AppendUint64([]byte{0x81}, size)
	for name, head := range map[string][]byte{
		"one string":    stream("REDIS0012", typeString, "\x01k", text),
		"a long string": stream("REDIS0012", opExpireMs, le64(1), typeHash, "\x01k\x01\x01f", text),
		// A member is a string without a byte: the length alone.
		"many members": stream("REDIS0012", typeSet, "\x01k", text),
	} {
		head = head[:len(head)-9]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var got int64
		r := NewReader(endless(head, size, []byte("\xff\x00\x00\x00\x00\x00\x00\x00\x00")), Config{MaxValueBytes: 1 << 20, PieceBytes: piece, OnPiece: func(_ *Entry, p []byte) error {
			got += int64(len(p))
			return nil
		}})
		it, err := r.Next()
		if err != nil || string(it.Entry.Key) != "k" {
			t.Fatalf("%s: %v", name, err)
		}
		got += int64(len(it.Entry.Value))
		runtime.ReadMemStats(&after)
		if n := int64(after.TotalAlloc - before.TotalAlloc); n > 8*piece {
			t.Errorf("%s: %d bytes were allocated for pieces of %d", name, n, piece)
		}
		if got < size || got > size+16 {
			t.Errorf("%s: %d bytes of %d", name, got, size)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: behind it: %v", name, err)
		}
	}
}

func TestPiecesOfADamagedStream(t *testing.T) {
	whole := stream("REDIS0012", typeString, "\x01k", AppendText(nil, bytes.Repeat([]byte("v"), 1000)))
	for cut := range len(whole) - 1 {
		if _, err := readCut(t, bytes.NewReader(whole[:cut]), 100); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	bad := bytes.Clone(whole)
	bad[500]++
	if _, err := readCut(t, bytes.NewReader(bad), 100); !errors.Is(err, ErrChecksum) {
		t.Errorf("a bit that was turned inside a piece: %v", err)
	}
	// A length of 2^64-1 costs nothing.
	if _, err := readCut(t, bytes.NewReader([]byte("REDIS0012\x00\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff some bytes")), 100); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an absurd length: %v", err)
	}
	refused := errors.New("refused")
	r := NewReader(bytes.NewReader(whole), Config{PieceBytes: 10, OnPiece: func(*Entry, []byte) error { return refused }})
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, refused) {
			t.Errorf("a refused piece: %v", err)
		}
	}
	// Keys and other items are bounded as ever.
	r = NewReader(bytes.NewReader(stream("REDIS0012", typeString, AppendText(nil, make([]byte, 500)), "\x01v")), Config{MaxValueBytes: 100, PieceBytes: 10, OnPiece: func(*Entry, []byte) error { return nil }})
	if _, err := r.Next(); !errors.Is(err, ErrValueTooLarge) {
		t.Errorf("a key above the limit: %v", err)
	}
}

func BenchmarkReaderInPieces(b *testing.B) {
	whole := stream("REDIS0012", typeSet, "\x01k", []byte{0x80, 0, 1, 0, 0}, bytes.Repeat(AppendText(nil, []byte("member of a set")), 1<<16))
	for _, piece := range []int{0, 64 << 10} {
		b.Run(strconv.Itoa(piece), func(b *testing.B) {
			b.SetBytes(int64(len(whole)))
			for b.Loop() {
				r := NewReader(bytes.NewReader(whole), Config{PieceBytes: piece, OnPiece: func(*Entry, []byte) error { return nil }})
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
