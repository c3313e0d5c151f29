package rdb

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// packLZF compresses plainly: the longest of the last few repetitions it remembers, or a literal.
func packLZF(src []byte) (out []byte) {
	seen := map[[3]byte]int{}
	var literals []byte
	flush := func() {
		for len(literals) > 0 {
			n := min(len(literals), 32)
			out = append(append(out, byte(n-1)), literals[:n]...)
			literals = literals[n:]
		}
	}
	for i := 0; i < len(src); {
		if i+3 <= len(src) {
			key := [3]byte(src[i : i+3])
			from, ok := seen[key]
			seen[key] = i
			if ok && i-from <= lzfReach {
				n := 3
				for i+n < len(src) && n < 264 && src[from+n] == src[i+n] {
					n++
				}
				flush()
				length, distance := n-2, i-from-1
				if length < 7 {
					out = append(out, byte(length<<5|distance>>8), byte(distance))
				} else {
					out = append(out, byte(7<<5|distance>>8), byte(length-7), byte(distance))
				}
				i += n
				continue
			}
		}
		literals = append(literals, src[i])
		i++
	}
	flush()
	return out
}

// packedString is a string value in its compressed form.
func packedString(text []byte) []byte {
	packed := packLZF(text)
	return append(appendLen(appendLen([]byte{3<<6 | encLZF}, uint64(len(packed))), uint64(len(text))), packed...)
}

func readPieces(d *Decoder) (text []byte, longest int, err error) {
	for {
		el, err := d.Next()
		if errors.Is(err, io.EOF) {
			return text, longest, nil
		}
		if err != nil {
			return text, longest, err
		}
		if el.Offset != int64(len(text)) {
			return text, longest, errors.New("piece at the wrong place")
		}
		text = append(text, el.Value...)
		longest = max(longest, len(el.Value))
	}
}

// TestPackedStringInPieces: a compressed string that is read is unpacked piece by piece, in the memory of a piece.
func TestPackedStringInPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for round := range 300 {
		text := make([]byte, rng.IntN(1<<(1+rng.IntN(18))))
		letters := 1 + rng.IntN(8)
		for i := range text {
			text[i] = byte(rng.IntN(letters))
			if back := 1 + rng.IntN(9000); i > back && rng.IntN(3) > 0 {
				text[i] = text[i-back]
			}
		}
		value := packedString(text)
		for _, piece := range []int{1 + rng.IntN(300), 5000, 1 << 20} {
			d := NewDecoder(DecoderConfig{PieceBytes: piece})
			var r io.Reader = bytes.NewReader(value)
			if rng.IntN(2) == 0 {
				r = iotest.OneByteReader(r)
			}
			d.Reset(typeString, r, Format{})
			got, longest, err := readPieces(d)
			if err != nil || !bytes.Equal(got, text) || longest > piece {
				t.Fatalf("round %d: %d of %d bytes, longest piece %d of %d: %v", round, len(got), len(text), longest, piece, err)
			}
			if limit := 2*(lzfReach+piece+264) + 4096; cap(d.blobBuf) > limit {
				t.Fatalf("the Decoder holds %d bytes for pieces of %d", cap(d.blobBuf), piece)
			}
		}
		for _, cut := range []int{1, len(value) / 2, len(value) - 1} {
			d := NewDecoder(DecoderConfig{})
			d.Reset(typeString, bytes.NewReader(value[:min(cut, len(value)-1)]), Format{})
			if _, _, err := readPieces(d); err == nil {
				t.Fatalf("round %d: cut at %d of %d: no error", round, cut, len(value))
			}
		}
	}
}

// FuzzPackedString: what is unpacked in pieces is what is unpacked at once, errors too.
func FuzzPackedString(f *testing.F) {
	f.Add(packedString([]byte("regenerate regenerate regenerate")))
	f.Add([]byte{3<<6 | encLZF, 2, 3, 0x20, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		at, in := NewDecoder(DecoderConfig{MaxBlobBytes: 1 << 20}), NewDecoder(DecoderConfig{MaxBlobBytes: 1 << 20, PieceBytes: 100})
		at.ResetBytes(typeString, value, Format{})
		want, _, wantErr := readPieces(at)
		in.Reset(typeString, iotest.HalfReader(bytes.NewReader(value)), Format{})
		got, _, err := readPieces(in)
		if too := (*TooLargeError)(nil); errors.As(wantErr, &too) || errors.As(err, &too) {
			return
		}
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("in pieces %q, %v; at once %q, %v", got, err, want, wantErr)
		}
	})
}
