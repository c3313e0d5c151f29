package rdb

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// drain decodes a value to its end and returns the error it ends with; nil for io.EOF.
func drain(d *Decoder) error {
	for {
		if _, err := d.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// checkError fails the test unless err is nil or one of the three errors that damage may give.
func checkError(t testing.TB, what string, err error) {
	t.Helper()
	var (
		format      *FormatError
		tooLarge    *TooLargeError
		unsupported *UnsupportedError
	)
	if err != nil && !errors.As(err, &format) && !errors.As(err, &tooLarge) && !errors.As(err, &unsupported) {
		t.Fatalf("%s: error %T %v", what, err, err)
	}
}

// footprint is what a decoder holds in memory.
func footprint(d *Decoder) int {
	return len(d.in.own) + cap(d.blobBuf) + cap(d.scratch) + cap(d.stream.pending)*pendingBytes + cap(d.stream.fields)*24 +
		cap(d.stream.group) + cap(d.stream.consumer) + cap(d.stream.producer)
}

// checkFootprint fails the test if a decoder made more of n bytes than they can hold: compressed bytes stand for 88 times
// as many at most, two of which may be a field or value of a stream's entry.
func checkFootprint(t testing.TB, what string, d *Decoder, n int) {
	t.Helper()
	if got, limit := footprint(d), inputBytes+4*n+2*(1+24/2)*88*n; got > limit {
		t.Fatalf("%s: %d bytes held for %d", what, got, n)
	}
}

// step is 1 for small values, so that all of them are tested at each byte and the large ones here and there.
func step(n int) int { return 1 + n/1500 }

// TestCut shows that a value cut anywhere is known to be cut, from memory and from a reader.
func TestCut(t *testing.T) {
	for _, v := range corpus(t) {
		d := NewDecoder(DecoderConfig{})
		for n := 0; n < len(v.value); n += step(len(v.value)) {
			for _, read := range []bool{false, true} {
				if read {
					d.Reset(v.typ, bytes.NewReader(v.value[:n]), v.format)
				} else {
					d.ResetBytes(v.typ, v.value[:n], v.format)
				}
				err := drain(d)
				var format *FormatError
				if !errors.As(err, &format) || !errors.Is(err, io.ErrUnexpectedEOF) || format.Offset > int64(n) {
					t.Fatalf("%s cut to %d of %d bytes, reader %v: %v", v.name, n, len(v.value), read, err)
				}
			}
		}
		for n := 0; n < len(v.payload); n += step(len(v.payload)) {
			cut := v.payload[:n]
			if n >= 8 && bytes.Equal(cut[n-8:], make([]byte, 8)) {
				continue // looks as if no checksum was computed
			}
			if _, _, _, err := SplitPayload(cut); err == nil {
				t.Fatalf("%s: payload cut to %d of %d bytes passes", v.name, n, len(v.payload))
			}
		}
	}
}

// TestLonger shows that bytes behind a value are an error.
func TestLonger(t *testing.T) {
	for _, v := range corpus(t) {
		d := NewDecoder(DecoderConfig{})
		longer := append(bytes.Clone(v.value), 0)
		for _, read := range []bool{false, true} {
			if read {
				d.Reset(v.typ, bytes.NewReader(longer), v.format)
			} else {
				d.ResetBytes(v.typ, longer, v.format)
			}
			var format *FormatError
			if err := drain(d); !errors.As(err, &format) || format.Offset != int64(len(v.value)) {
				t.Fatalf("%s, reader %v: %v", v.name, read, err)
			}
		}
	}
}

// TestFlip flips every bit: a decoder may find it or not, but it must not panic, nor hold more than the bytes can stand
// for. A payload's checksum finds them all.
func TestFlip(t *testing.T) {
	for _, v := range corpus(t) {
		d := NewDecoder(DecoderConfig{})
		value := bytes.Clone(v.value)
		for i := 0; i < len(value); i += step(len(value)) {
			for bit := range 8 {
				value[i] ^= 1 << bit
				d.ResetBytes(v.typ, value, v.format)
				checkError(t, v.name, drain(d))
				value[i] ^= 1 << bit
			}
		}
		checkFootprint(t, v.name, d, len(value))
		payload := bytes.Clone(v.payload)
		for i := 0; i < len(payload); i += 1 + len(payload)/50 {
			payload[i] ^= 0x10
			if _, _, _, err := SplitPayload(payload); !errors.Is(err, ErrChecksum) {
				t.Fatalf("%s: byte %d changed: %v", v.name, i, err)
			}
			payload[i] ^= 0x10
		}
	}
}

// TestBlobFlip does the same to blobs that are compressed in the corpus, by giving them uncompressed.
func TestBlobFlip(t *testing.T) {
	for _, v := range corpus(t) {
		kind, ok := KindOf(v.typ, v.format)
		if !ok || kind == ValueString || len(v.value) == 0 || v.value[0] != 0xc3 || v.typ == typeListQuick {
			continue
		}
		in := input{limit: 1 << 20}
		in.resetBytes(v.value)
		var unpacked []byte
		if _, err := in.readText(&unpacked); err != nil {
			t.Fatal(err)
		}
		d := NewDecoder(DecoderConfig{})
		for i := 0; i < len(unpacked); i += 1 + len(unpacked)/300 {
			for bit := range 8 {
				unpacked[i] ^= 1 << bit
				d.ResetBytes(v.typ, AppendText(nil, unpacked), v.format)
				checkError(t, v.name, drain(d))
				unpacked[i] ^= 1 << bit
			}
		}
	}
}

// TestAbsurd gives lengths, counts and encodings that nothing stands behind.
func TestAbsurd(t *testing.T) {
	const (
		isFormat = iota
		isTooLarge
		isUnsupported
	)
	var (
		redis  = Format{Version: 13}
		valkey = Format{Version: 80, Valkey: true}
		max32  = "\x80\xff\xff\xff\xff"
		max64  = "\x81\xff\xff\xff\xff\xff\xff\xff\xff"
		half64 = "\x81\x7f\xff\xff\xff\xff\xff\xff\xff"
		node   = "\x01" + str("0123456789abcdef")
		meta15 = "\x00" + "\x00\x00\x00" // no nodes, length, last id
	)
	lp := func(cells string) string {
		n := len(cells) + 7
		return str(string([]byte{byte(n), byte(n >> 8), 0, 0, 1, 0}) + cells + "\xff")
	}
	zl := func(entries string) string {
		n := len(entries) + 11
		return str(string([]byte{byte(n), 0, 0, 0, 10, 0, 0, 0, 1, 0}) + entries + "\xff")
	}
	for _, c := range []struct {
		name   string
		typ    byte
		format Format
		value  string
		memory int // what it ends with, from memory
		reader int // and from a reader
	}{
		{"string of 2^64", typeString, redis, max64 + "x", isFormat, isFormat},
		{"string of 2^63", typeString, redis, half64 + "x", isFormat, isFormat},
		{"string of 4 GB", typeString, redis, max32 + "x", isFormat, isFormat},
		{"no such length", typeString, redis, "\x82", isFormat, isFormat},
		{"no such encoding", typeString, redis, "\xc4", isFormat, isFormat},
		{"compressed to 2^64", typeString, redis, "\xc3\x01" + max64 + "\x00", isTooLarge, isFormat},
		{"compressed from 2^64", typeString, redis, "\xc3" + max64 + "\x01\x00", isFormat, isFormat},
		{"compressed to more than there is", typeString, redis, "\xc3\x02\x09\x00a", isFormat, isFormat},
		{"list of 2^64", typeList, redis, max64 + str("a"), isFormat, isFormat},
		{"set of 2^64 empty members", typeSet, redis, max64 + "\x00\x00", isFormat, isFormat},
		{"item of 4 GB", typeList, redis, "\x01" + max32, isFormat, isTooLarge},
		{"zset of 2^64", typeZset2, redis, max64, isFormat, isFormat},
		{"score is no number", typeZset, redis, "\x01" + str("a") + "\x01x", isFormat, isFormat},
		{"score is empty", typeZset, redis, "\x01" + str("a") + "\x00", isFormat, isFormat},
		{"score overruns", typeZset, redis, "\x01" + str("a") + "\xfc1", isFormat, isFormat},
		{"packed score is no number", typeZsetListpack, redis, lp("\x81a\x02\x81b\x02"), isFormat, isFormat},
		{"hash field without value", typeHashListpack, redis, lp("\x81a\x02"), isFormat, isFormat},
		{"hash field without time", typeHashLPEXPre, redis, lp("\x81a\x02\x81b\x02"), isFormat, isFormat},
		{"time is no number", typeHashLPEXPre, redis, lp("\x81a\x02\x81b\x02\x81c\x02"), isFormat, isFormat},
		{"time is negative", typeHashLPEXPre, redis, lp("\x81a\x02\x81b\x02\xf1\xff\xff\x03"), isFormat, isFormat},
		{"time of 2^64", typeHashTTLPre, redis, "\x01" + max64 + str("a") + str("b"), isFormat, isFormat},
		{"earliest time of 2^63", typeHashTTL, redis, "\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x01" + str("a") + str("b"), isFormat, isFormat},
		{"time below -1", typeHashTTLValkey, valkey, "\x01" + str("a") + str("b") + "\xfe\xff\xff\xff\xff\xff\xff\xff", isFormat, isFormat},
		{"nodes of 2^64", typeListQuick2, redis, max64 + "\x01" + str("a"), isFormat, isFormat},
		{"no such container", typeListQuick2, redis, "\x01\x03" + str("a"), isFormat, isFormat},
		{"listpack without header", typeSetListpack, redis, str("\x06\x00\x00\x00\x00\x00"), isFormat, isFormat},
		{"listpack of another size", typeSetListpack, redis, str("\x09\x00\x00\x00\x00\x00\xff"), isFormat, isFormat},
		{"listpack without end", typeSetListpack, redis, str("\x09\x00\x00\x00\x00\x00\x05\x01\x05"), isFormat, isFormat},
		{"listpack with two ends", typeSetListpack, redis, lp("\xff"), isFormat, isFormat},
		{"listpack string of 4 GB", typeSetListpack, redis, lp("\xf0\xff\xff\xff\xffx"), isFormat, isFormat},
		{"listpack string of 4095", typeSetListpack, redis, lp("\xef\xffx"), isFormat, isFormat},
		{"listpack number cut", typeSetListpack, redis, lp("\xf4\x01"), isFormat, isFormat},
		{"listpack encoding", typeSetListpack, redis, lp("\xf5\x01"), isFormat, isFormat},
		{"ziplist string of 4 GB", typeListZiplist, redis, zl("\x00\x80\xff\xff\xff\xff"), isFormat, isFormat},
		{"ziplist encoding", typeListZiplist, redis, zl("\x00\xc1"), isFormat, isFormat},
		{"ziplist entry cut", typeListZiplist, redis, zl("\xfe\x00\x00"), isFormat, isFormat},
		{"intset width", typeSetIntset, redis, str("\x03\x00\x00\x00\x01\x00\x00\x00\x01\x02\x03"), isFormat, isFormat},
		{"intset of 2^32", typeSetIntset, redis, str("\x08\x00\x00\x00\xff\xff\xff\xff"), isFormat, isFormat},
		{"zipmap field of 4 GB", typeHashZipmap, redis, str("\x01\xfe\xff\xff\xff\xff\xff"), isFormat, isFormat},
		{"zipmap unused bytes", typeHashZipmap, redis, str("\x01\x01a\x01\xffb\xff"), isFormat, isFormat},
		{"zipmap without value", typeHashZipmap, redis, str("\x01\x01a\xff"), isFormat, isFormat},
		{"stream nodes of 2^64", typeStream, redis, max64, isFormat, isFormat},
		{"stream node id", typeStream, redis, "\x01" + str("short") + lp(""), isFormat, isFormat},
		{"stream node is empty", typeStream, redis, node + lp(""), isFormat, isFormat},
		{"stream fields of 2^63", typeStream, redis, node + lp("\x00\x01\x00\x01\xf4\xff\xff\xff\xff\xff\xff\xff\x7f\x09"), isFormat, isFormat},
		{"stream fields negative", typeStream, redis, node + lp("\x00\x01\x00\x01\xdf\xff\x02"), isFormat, isFormat},
		{"stream entry ends early", typeStream, redis, node + lp("\x01\x01\x00\x01\x00\x01\x00\x01\x02\x01\x00\x01"), isFormat, isFormat},
		{"stream flags are text", typeStream, redis, node + lp("\x01\x01\x00\x01\x00\x01\x00\x01\x81x\x02"), isFormat, isFormat},
		{"groups of 2^64", typeStream, redis, meta15 + max64, isFormat, isFormat},
		{"pending of 2^64", typeStream, redis, meta15 + "\x01" + str("g") + "\x00\x00" + max64, isFormat, isTooLarge},
		{"consumers of 2^64", typeStream, redis, meta15 + "\x01" + str("g") + "\x00\x00\x00" + max64, isFormat, isFormat},
		{
			"pending of nobody", typeStream, redis,
			meta15 + "\x01" + str("g") + "\x00\x00\x01" + strings.Repeat("i", 16) + "timetime\x01\x00", isFormat, isFormat,
		},
		{
			"pending twice", typeStream, redis,
			meta15 + "\x01" + str("g") + "\x00\x00\x02" + strings.Repeat(strings.Repeat("i", 16)+"timetime\x01", 2) + "\x00", isFormat, isFormat,
		},
		{
			"pending of two consumers", typeStream, redis,
			meta15 + "\x01" + str("g") + "\x00\x00\x01" + strings.Repeat("i", 16) + "timetime\x01\x02" +
				strings.Repeat(str("c")+"seentime\x01"+strings.Repeat("i", 16), 2), isFormat, isFormat,
		},
		{
			"pending not the group's", typeStream, redis,
			meta15 + "\x01" + str("g") + "\x00\x00\x00\x01" + str("c") + "seentime\x01" + strings.Repeat("i", 16), isFormat, isFormat,
		},
		{"messages of 2^64", typeStream4, redis, meta15 + "\x00\x00\x00\x00\x00\x00\x01\x01\x01" + str("p") + max64, isFormat, isFormat},
		{"module code", typeModule2, redis, "\x01\x09", isFormat, isFormat},
		{"module string of 2^64", typeModule2, redis, "\x01\x05" + max64, isFormat, isTooLarge},
		{"module of 4.0 candidates", typeModulePre, redis, "\x01", isUnsupported, isUnsupported},
		{"type of Valkey 9.2", 23, valkey, "\x01", isUnsupported, isUnsupported},
	} {
		for _, read := range []bool{false, true} {
			d := NewDecoder(DecoderConfig{MaxBlobBytes: 1 << 20})
			want := c.memory
			if read {
				want = c.reader
				d.Reset(c.typ, iotest.OneByteReader(strings.NewReader(c.value)), c.format)
			} else {
				d.ResetBytes(c.typ, []byte(c.value), c.format)
			}
			err := drain(d)
			var (
				format      *FormatError
				tooLarge    *TooLargeError
				unsupported *UnsupportedError
				ok          bool
			)
			switch want {
			case isFormat:
				ok = errors.As(err, &format) && format.Offset <= int64(len(c.value))
			case isTooLarge:
				ok = errors.As(err, &tooLarge) && errors.Is(err, ErrValueTooLarge)
			case isUnsupported:
				ok = errors.As(err, &unsupported)
			}
			if !ok {
				t.Errorf("%s, reader %v: %v", c.name, read, err)
			}
			checkFootprint(t, c.name, d, len(c.value))
		}
	}
}

// TestDecodeLimit shows that a limit holds for what is unpacked, whatever it is read from, and for what is read.
func TestDecodeLimit(t *testing.T) {
	long := string(AppendText(nil, []byte(words(2000))))
	for _, c := range []struct {
		name           string
		typ            byte
		value          string
		memory, reader bool // too large
	}{
		{"string in pieces", typeString, long, false, false},
		{"item", typeList, "\x01" + long, false, true},
		{"compressed item", typeList, "\x01\xc3\x09\x47\xd0\x00a\xe0\xff\x00\xe0\xff\x00\x00", true, true},
		{"blob", typeSetListpack, long, false, true},
		{"module", typeModule2, "\x01\x05" + long + "\x00", true, true},
	} {
		for _, read := range []bool{false, true} {
			d := NewDecoder(DecoderConfig{MaxBlobBytes: 1000, PieceBytes: 100})
			want := c.memory
			if read {
				want = c.reader
				d.Reset(c.typ, strings.NewReader(c.value), Format{})
			} else {
				d.ResetBytes(c.typ, []byte(c.value), Format{})
			}
			if err := drain(d); errors.Is(err, ErrValueTooLarge) != want {
				t.Errorf("%s, reader %v: %v", c.name, read, err)
			}
		}
	}
}

// TestReaderError shows that an error of the source is passed on, also one that looks like the end.
func TestReaderError(t *testing.T) {
	for _, failure := range []error{errors.New("cut"), io.ErrUnexpectedEOF} {
		d := NewDecoder(DecoderConfig{})
		d.Reset(typeList, io.MultiReader(strings.NewReader("\x02"+str("a")), iotest.ErrReader(failure)), Format{})
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
		var format *FormatError
		if _, err := d.Next(); !errors.Is(err, failure) || errors.As(err, &format) {
			t.Errorf("%v: %v", failure, err)
		}
		if _, err := d.Next(); !errors.Is(err, failure) {
			t.Errorf("%v is forgotten: %v", failure, err)
		}
	}
}
