package rdb

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// fuzzValue decodes a value from memory and by single bytes, which must agree, makes it anew where that can be done and
// decodes it again, which must give the same.
func fuzzValue(t *testing.T, typ byte, value []byte, f Format) {
	cfg := DecoderConfig{MaxBlobBytes: 1 << 20, PieceBytes: 100}
	d := NewDecoder(cfg)
	d.ResetBytes(typ, value, f)
	lines, err := decoded(d)
	checkError(t, "from memory", err)
	checkFootprint(t, "from memory", d, len(value))

	d.Reset(typ, iotest.OneByteReader(bytes.NewReader(value)), f)
	read, readErr := decoded(d)
	checkError(t, "from a reader", readErr)
	checkFootprint(t, "from a reader", d, len(value))
	// What overruns the value is above the limit if it is to be held, before the end is seen.
	if (err == nil) != (readErr == nil) && !errors.Is(readErr, ErrValueTooLarge) {
		t.Fatalf("from memory: %v, from a reader: %v", err, readErr)
	}
	if err != nil {
		return
	}
	if d := cmp.Diff(lines, read); d != "" && readErr == nil {
		t.Fatal(d)
	}

	d.ResetBytes(typ, value, f)
	var e Encoder
	payload, err := reencode(d, &e, Format{Version: versionStream4, Valkey: f.Valkey})
	if errors.Is(err, ErrNoEncoding) {
		return
	}
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	typ, value, version, err := SplitPayload(payload)
	if err != nil {
		t.Fatal(err)
	}
	d.ResetBytes(typ, value, Format{Version: version, Valkey: f.Valkey})
	again, err := decoded(d)
	if err != nil {
		t.Fatalf("decode what was encoded: %v", err)
	}
	if d := cmp.Diff(reencoded(lines), reencoded(again)); d != "" {
		t.Fatal(d)
	}
}

// reencoded is lines without what an encoder may change: the active time of consumers that had none.
func reencoded(lines []string) []string {
	var left []string
	for _, line := range lines {
		if strings.HasPrefix(line, "consumer ") {
			line = line[:strings.LastIndexByte(line, ' ')]
		}
		left = append(left, line)
	}
	return left
}

// FuzzDecode decodes values of all types.
func FuzzDecode(f *testing.F) {
	for _, v := range corpus(f) {
		if len(v.value) < 2000 {
			f.Add(v.typ, v.format.Valkey, v.value)
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, valkey bool, value []byte) {
		fuzzValue(t, typ, value, Format{Version: 13, Valkey: valkey})
	})
}

// FuzzStream decodes streams: a layout, and what is in it.
func FuzzStream(f *testing.F) {
	types := []byte{typeStream, typeStream2, typeStream3, typeStream4}
	for _, v := range corpus(f) {
		if i := bytes.IndexByte(types, v.typ); i >= 0 && len(v.value) < 2000 {
			f.Add(uint8(i), v.value)
		}
	}
	f.Fuzz(func(t *testing.T, layout uint8, value []byte) {
		fuzzValue(t, types[layout%4], value, Format{Version: 13})
	})
}

// fuzzBlob reads a blob and checks that entries lie within it, one behind the other.
func fuzzBlob(t *testing.T, kind blobKind, p []byte) {
	b := blob{kind: kind, p: p}
	if err := b.start(); err != nil {
		return
	}
	for n := 0; ; n++ {
		var c cell
		before := b.pos
		ok, err := b.next(&c)
		if !ok || err != nil {
			return
		}
		if b.pos <= before || b.pos > len(p) || len(c.b) > b.pos-before || n > len(p) {
			t.Fatalf("entry from %d to %d of %d: %d bytes", before, b.pos, len(p), len(c.b))
		}
	}
}

func addBlobs(f *testing.F, types ...byte) {
	for _, v := range corpus(f) {
		if bytes.IndexByte(types, v.typ) < 0 {
			continue
		}
		in := input{limit: 1 << 20}
		in.resetBytes(v.value)
		if v.typ == typeListQuick || v.typ == typeListQuick2 {
			in.pos = 1
		}
		var scratch []byte
		if s, err := in.readText(&scratch); err == nil && len(in.bytes(s)) < 2000 {
			f.Add(in.bytes(s))
		}
	}
}

// FuzzListpack reads listpacks, and makes anew those that are read to the end.
func FuzzListpack(f *testing.F) {
	addBlobs(f, typeHashListpack, typeZsetListpack, typeSetListpack)
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzzBlob(t, blobListpack, p)
		pos, err := listpackStart(p)
		if err != nil {
			return
		}
		made := append([]byte{}, p[:pos]...)
		var cells []cell
		for pos < len(p) && p[pos] != listpackEnd {
			var c cell
			if pos, err = listpackEntry(p, pos, &c); err != nil {
				return
			}
			cells = append(cells, c)
			if c.isNum {
				made = appendListpackInt(made, c.n)
			} else {
				made = appendListpackText(made, c.b)
			}
		}
		made = append(made, listpackEnd)
		at := listpackHeaderBytes
		for _, want := range cells {
			var got cell
			if at, err = listpackEntry(made, at, &got); err != nil || got.isNum != want.isNum || got.n != want.n || !bytes.Equal(got.b, want.b) {
				t.Fatalf("%+v became %+v: %v", want, got, err)
			}
		}
	})
}

func FuzzZiplist(f *testing.F) {
	addBlobs(f, typeListZiplist, typeZsetZiplist, typeHashZiplist)
	f.Fuzz(func(t *testing.T, p []byte) { fuzzBlob(t, blobZiplist, p) })
}

func FuzzIntset(f *testing.F) {
	addBlobs(f, typeSetIntset)
	f.Fuzz(func(t *testing.T, p []byte) { fuzzBlob(t, blobIntset, p) })
}

func FuzzZipmap(f *testing.F) {
	addBlobs(f, typeHashZipmap)
	f.Fuzz(func(t *testing.T, p []byte) { fuzzBlob(t, blobZipmap, p) })
}

// FuzzLZF unpacks what a slow and plain way unpacks too.
func FuzzLZF(f *testing.F) {
	f.Add([]byte("\x00a\xe0\x00\x00"), uint16(10))
	f.Add([]byte("\x02abc\x40\x02\x20\x00"), uint16(12))
	f.Fuzz(func(t *testing.T, src []byte, n uint16) {
		got, err := appendLZF([]byte("front"), src, uint64(n))
		want, ok := plainLZF(src, int(n))
		if ok != (err == nil) || ok && string(got) != "front"+string(want) {
			t.Fatalf("%q, %v; plainly %q, %v", got, err, want, ok)
		}
	})
}

// plainLZF unpacks byte by byte.
func plainLZF(src []byte, n int) (out []byte, ok bool) {
	r := bytes.NewReader(src)
	for {
		c, err := r.ReadByte()
		if err != nil {
			return out, len(out) == n
		}
		if c < 32 {
			literal := make([]byte, c+1)
			if _, err := io.ReadFull(r, literal); err != nil {
				return nil, false
			}
			out = append(out, literal...)
		} else {
			length, distance := int(c>>5), int(c&31)*256
			if length == 7 {
				more, err := r.ReadByte()
				if err != nil {
					return nil, false
				}
				length += int(more)
			}
			low, err := r.ReadByte()
			if err != nil || distance+int(low)+1 > len(out) {
				return nil, false
			}
			for range length + 2 {
				out = append(out, out[len(out)-distance-int(low)-1])
			}
		}
		if len(out) > n {
			return nil, false
		}
	}
}
