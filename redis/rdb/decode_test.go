package rdb

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitPayload(t *testing.T) {
	value := []byte(str("value"))
	payload := AppendPayload(nil, typeString, value, 80)
	typ, got, version, err := SplitPayload(payload)
	if err != nil || typ != typeString || !bytes.Equal(got, value) || version != 80 || !FormatOf(version).Valkey {
		t.Errorf("type %d, value %q, version %d, error %v", typ, got, version, err)
	}
	clear(payload[len(payload)-8:])
	if _, _, _, err := SplitPayload(payload); err != nil {
		t.Errorf("checksum 0: %v", err)
	}
	payload[len(payload)-1] = 1
	var format *FormatError
	if _, _, _, err := SplitPayload(payload); !errors.Is(err, ErrChecksum) || !errors.As(err, &format) {
		t.Errorf("wrong checksum: %v", err)
	}
	for n := range 11 {
		if _, _, _, err := SplitPayload(payload[:n]); !errors.As(err, &format) || errors.Is(err, ErrChecksum) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestKindOf(t *testing.T) {
	redis, valkey := Format{Version: 12}, Format{Version: 80, Valkey: true}
	for _, c := range []struct {
		typ    byte
		format Format
		want   ValueKind
	}{
		{0, redis, ValueString},
		{6, redis, 0},
		{7, valkey, ValueModule},
		{8, redis, 0},
		{9, redis, ValueHash},
		{22, redis, ValueHash},
		{22, valkey, ValueHash},
		{23, redis, ValueHash},
		{23, valkey, 0},
		{24, valkey, 0},
		{26, redis, ValueStream},
		{26, valkey, 0},
		{27, redis, 0},
		{255, redis, 0},
	} {
		if got, ok := KindOf(c.typ, c.format); got != c.want || ok != (c.want != 0) {
			t.Errorf("type %d, %+v: %v %v", c.typ, c.format, got, ok)
		}
		d := NewDecoder(DecoderConfig{})
		d.ResetBytes(c.typ, nil, c.format)
		var unsupported *UnsupportedError
		if _, err := d.Next(); d.Kind() != c.want || (c.want == 0) != errors.As(err, &unsupported) {
			t.Errorf("type %d, %+v: kind %v, error %v", c.typ, c.format, d.Kind(), err)
		}
	}
	if _, err := NewDecoder(DecoderConfig{}).Next(); !errors.Is(err, io.EOF) {
		t.Errorf("before any value: %v", err)
	}
}

// TestDecodePieces shows that a string comes in pieces, from memory and from a reader alike, compressed or not.
func TestDecodePieces(t *testing.T) {
	for _, value := range []string{str("0123456789"), "\xc3\x05\x0a\x00a\xe0\x00\x00", str(""), "\xc0\xff"} {
		var want [][]byte
		for _, fromReader := range []bool{false, true} {
			d := NewDecoder(DecoderConfig{PieceBytes: 4})
			if fromReader {
				d.Reset(typeString, bytes.NewReader([]byte(value)), Format{})
			} else {
				d.ResetBytes(typeString, []byte(value), Format{})
			}
			var got [][]byte
			for {
				e, err := d.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, bytes.Clone(e.Value))
			}
			if want == nil {
				want = got
			}
			if !cmp.Equal(got, want) || len(got) == 0 {
				t.Errorf("%q: %q and %q", value, want, got)
			}
		}
	}
}

func TestDecodeAllocs(t *testing.T) {
	values := map[byte]string{
		typeString:       str("value"),
		typeList:         "\x02" + str("a") + "\xc0\x05",
		typeSet:          "\x02\xc3\x05\x0a\x00a\xe0\x00\x00" + str("b"),
		typeZset2:        "\x01" + str("a") + "12345678",
		typeZset:         "\x02" + str("a") + "\x051.255" + str("b") + "\xff",
		typeHash:         "\x01\xc1\x05\x05\xc0\x05",
		typeHashListpack: str("\x0c\x00\x00\x00\x02\x00\x81f\x02\x05\x01\xff"),
		typeSetIntset:    str("\x02\x00\x00\x00\x01\x00\x00\x00\x07\x00"),
	}
	d := NewDecoder(DecoderConfig{})
	for typ, value := range values {
		b := []byte(value)
		decode := func() {
			d.ResetBytes(typ, b, Format{})
			if err := drain(d); err != nil {
				t.Fatalf("type %d: %v", typ, err)
			}
		}
		decode()
		if n := testing.AllocsPerRun(100, decode); n != 0 {
			t.Errorf("type %d: %v allocations", typ, n)
		}
		r := bytes.NewReader(b)
		read := func() {
			r.Reset(b)
			d.Reset(typ, r, Format{})
			if err := drain(d); err != nil {
				t.Fatalf("type %d: %v", typ, err)
			}
		}
		read()
		if n := testing.AllocsPerRun(100, read); n != 0 {
			t.Errorf("type %d, from a reader: %v allocations", typ, n)
		}
	}
}

// repeated gives a beginning and then the same bytes again and again.
func repeated(begin, again string, n int) io.Reader {
	readers := []io.Reader{strings.NewReader(begin)}
	for range n {
		readers = append(readers, strings.NewReader(again))
	}
	return io.MultiReader(readers...)
}

// TestDecodeGiants shows that what a decoder holds does not grow with the value it reads.
func TestDecodeGiants(t *testing.T) {
	const mb = 1 << 20
	large := string(AppendText(nil, bytes.Repeat([]byte("v"), 10*mb)))
	small := strings.Repeat(str("field")+str("value"), 1<<14)
	for _, c := range []struct {
		name       string
		typ        byte
		r          io.Reader
		elements   int
		limitBytes int
	}{
		{"string of 64 MB", typeString, repeated("\x80\x04\x00\x00\x00", strings.Repeat("v", mb), 64), 64, 2 * mb},
		{"hash of 3.3 million fields", typeHash, repeated("\x80\x00\x32\x00\x00", small, 200), 200 << 14, inputBytes},
		{
			"large items, then small ones", typeList, io.MultiReader(strings.NewReader("\x80\x00\x02\x00\x02"), strings.NewReader(large),
				strings.NewReader(large), strings.NewReader(small), strings.NewReader(small), strings.NewReader(small), strings.NewReader(small)),
			2<<16 + 2, inputBytes,
		},
	} {
		d := NewDecoder(DecoderConfig{})
		d.Reset(c.typ, c.r, Format{})
		n := 0
		for {
			if _, err := d.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			n++
		}
		if held := footprint(d); n != c.elements || held > c.limitBytes {
			t.Errorf("%s: %d elements, %d bytes held", c.name, n, held)
		}
	}
}
