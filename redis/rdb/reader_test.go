package rdb

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestCRC64(t *testing.T) {
	if got := CRC64(0, []byte("123456789")); got != 0xe9c6d914c4b8d9ca {
		t.Fatalf("check value %x", got)
	}
	p := make([]byte, 1000)
	for i := range p {
		p[i] = byte(i * 7)
	}
	want := uint64(0)
	for _, b := range p { // bit by bit
		want ^= uint64(b)
		for range 8 {
			want = want>>1 ^ crcPoly&-(want&1)
		}
	}
	for cut := range p {
		if got := CRC64(CRC64(0, p[:cut]), p[cut:]); got != want {
			t.Fatalf("cut at %d: %x, want %x", cut, got, want)
		}
	}
}

// stream joins parts (strings and bytes) behind a magic and ends them as a server would.
func stream(magic string, parts ...any) []byte {
	b := []byte(magic)
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case int:
			b = append(b, byte(p))
		default:
			panic(fmt.Sprintf("part of type %T", p))
		}
	}
	b = append(b, opEOF)
	return binary.LittleEndian.AppendUint64(b, CRC64(0, b))
}

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// clone makes an item survive the next call of Next.
func clone(it Item) Item {
	for _, p := range []*[]byte{&it.Entry.Key, &it.Entry.Value, &it.Aux.Key, &it.Aux.Value, &it.Function, &it.ModuleAux.Data} {
		if *p != nil {
			*p = append([]byte{}, *p...)
		}
	}
	return it
}

// readAll reads to the end and checks that the positions join without a gap.
func readAll(r *Reader) ([]Item, error) {
	var items []Item
	last := int64(9)
	for {
		it, err := r.Next()
		if errors.Is(err, io.EOF) {
			return items, nil
		}
		if err != nil {
			return items, err
		}
		if r.ItemOffset() != last {
			return items, fmt.Errorf("item at %d, the one before ended at %d", r.ItemOffset(), last)
		}
		last = r.Consumed()
		items = append(items, clone(it))
	}
}

func str(s string) string { return string(rune(len(s))) + s }

// TestLayouts reads every type whose layout servers at hand do not write, and the opcodes, from hand-made streams.
func TestLayouts(t *testing.T) {
	pel := strings.Repeat("\x00", 15) + "\x01"
	streamHead := "\x01" + str(strings.Repeat("n", 16)) + str("listpack") // one node
	lens := func(n int) string { return strings.Repeat("\x05", n) }
	group := func(read, times string) string {
		return str("g") + lens(2) + read +
			"\x01" + pel + "tttttttt" + "\x02" + // pending
			"\x01" + str("c") + "tttttttt" + times + "\x01" + pel // consumer
	}
	tests := []struct {
		name  string
		magic string
		typ   byte
		value string
	}{
		{"string", "REDIS0001", 0, str("hello")},
		{"string int8", "REDIS0009", 0, "\xc0\xff"},
		{"string int16", "REDIS0009", 0, "\xc1\xff\xff"},
		{"string int32", "REDIS0009", 0, "\xc2\xff\xff\xff\xff"},
		{"string lzf", "REDIS0009", 0, "\xc3\x04\x0a" + "abcd"},
		{"string 14-bit length", "REDIS0009", 0, "\x41\x00" + strings.Repeat("x", 256)},
		{"string 32-bit length", "REDIS0009", 0, "\x80\x00\x00\x00\x03abc"},
		{"string 64-bit length", "REDIS0009", 0, "\x81\x00\x00\x00\x00\x00\x00\x00\x03abc"},
		{"list", "REDIS0006", 1, "\x02" + str("a") + "\xc0\x05"},
		{"set", "REDIS0006", 2, "\x02" + str("a") + str("bb")},
		{"zset ascii", "REDIS0006", 3, "\x04" + str("a") + "\x031.5" + str("b") + "\xfd" + str("c") + "\xfe" + str("d") + "\xff"},
		{"hash", "REDIS0006", 4, "\x02" + str("a") + str("1") + str("b") + str("2")},
		{"zset binary", "REDIS0009", 5, "\x02" + str("a") + "12345678" + str("b") + "12345678"},
		{"module", "REDIS0009", 7, "\x81idididid" + "\x01\x05" + "\x02\x05" + "\x03ffff" + "\x04dddddddd" + "\x05" + str("s") + "\x00"},
		{"zipmap", "REDIS0003", 9, str("zipmap")},
		{"list ziplist", "REDIS0006", 10, str("ziplist")},
		{"intset", "REDIS0006", 11, str("intset")},
		{"zset ziplist", "REDIS0006", 12, str("ziplist")},
		{"hash ziplist", "REDIS0006", 13, str("ziplist")},
		{"quicklist", "REDIS0008", 14, "\x02" + str("ziplist") + str("ziplist")},
		{"stream 1", "REDIS0009", 15, streamHead + lens(3) + "\x01" + group("", "")},
		{"hash listpack", "REDIS0010", 16, str("listpack")},
		{"zset listpack", "REDIS0010", 17, str("listpack")},
		{"quicklist 2", "REDIS0010", 18, "\x02\x01" + str("plain") + "\x02" + str("packed")},
		{"stream 2", "REDIS0010", 19, streamHead + lens(8) + "\x01" + group("\x05", "")},
		{"stream 2 empty with groups", "REDIS0010", 19, "\x00" + lens(8) + "\x02" + group("\x05", "") + group("\x06", "")},
		{"set listpack", "REDIS0011", 20, str("listpack")},
		{"stream 3", "REDIS0011", 21, streamHead + lens(8) + "\x01" + group("\x05", "tttttttt")},
		{"hash TTL rc", "REDIS0012", 22, "\x01" + "\x80\x00\x00\x00\x05" + str("f") + str("v")},
		{"hash listpack TTL rc", "REDIS0012", 23, str("listpack")},
		{"hash TTL valkey", "VALKEY080", 22, "\x02" + str("f") + str("v") + "tttttttt" + str("g") + str("w") + "tttttttt"},
		{"hash TTL", "REDIS0012", 24, "tttttttt" + "\x02" + "\x00" + str("f") + str("v") + "\x41\x05" + str("g") + str("w")},
		{"hash listpack TTL", "REDIS0012", 25, "tttttttt" + str("listpack")},
		{"stream 4", "REDIS0013", 26, streamHead + lens(8) + "\x01" + group("\x05", "tttttttt") +
			lens(2) + "\x01" + str("producer") + "\x02" + str("m1") + lens(2) + str("m2") + lens(2) + lens(2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := stream(tt.magic, int(tt.typ), str("key"), tt.value)
			if strings.HasSuffix(tt.magic, "0001") || strings.HasSuffix(tt.magic, "0003") {
				b = b[:len(b)-8] // no checksum before version 5
			}
			r := NewReader(bytes.NewReader(append(b, "*1\r\n$4\r\nPING\r\n"...)), Config{})
			got, err := readAll(r)
			if err != nil {
				t.Fatal(err)
			}
			want := []Item{{Kind: KindEntry, Entry: Entry{
				Key: []byte("key"), Type: tt.typ, Value: []byte(tt.value), Idle: -1, Freq: -1,
			}}}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if r.Consumed() != int64(len(b)) || !bytes.HasPrefix(r.Buffered(), []byte("*1")) {
				t.Errorf("consumed %d of %d", r.Consumed(), len(b))
			}
			checkDamage(t, b)
		})
	}
}

// checkDamage cuts b everywhere, and flips every bit, and wants errors or consistent reading.
func checkDamage(t *testing.T, b []byte) {
	t.Helper()
	for cut := range b {
		_, err := readAll(NewReader(bytes.NewReader(b[:cut]), Config{}))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d of %d: %v", cut, len(b), err)
		}
	}
	c := append([]byte{}, b...)
	checked := b[5:9] // the version decides whether there is a checksum
	for i := range b {
		for bit := range 8 {
			c[i] ^= 1 << bit
			_, err := readAll(NewReader(bytes.NewReader(c), Config{MaxValueBytes: 1 << 20}))
			if err == nil && i > 8 && string(checked) >= "0005" {
				t.Fatalf("bit %d of byte %d flipped: no error", bit, i)
			}
			c[i] ^= 1 << bit
		}
	}
}

// opcodesStream has every opcode that is an item.
func opcodesStream() []byte {
	return stream("REDIS0011",
		opAux, str("redis-ver"), str("7.2.4"),
		opAux, str("lzf"), "\xc3\x05\x0a\x00a\xe0\x00\x00", // 1 literal, then 9 more of it
		opAux, str("bits"), "\xc0\x40",
		opModuleAux, "\x81\x00\x00\x00\x00\x00\x00\x00\x07", "\x02\x01", "\x05", str("data"), "\x00",
		OpFunction, str("#!lua name=l"),
		opSelectDB, 3,
		opResizeDB, "\x42\x00", 1,
		opSlotInfo, "\x7f\xff", 2, 1,
		opExpireMs, le64(1<<40), opFreq, 200, 0, "\xc1\x39\x30", str("v1"),
		opExpireSec, "\x01\x00\x00\x00", opIdle, "\x41\x00", 0, str("k2"), str("v2"),
		opExpireSec, "\xff\xff\xff\xff", 0, str("k3"), str("v3"),
		0, "\xc3\x05\x0a\x00a\xe0\x00\x00", str("v4"),
	)
}

func TestOpcodes(t *testing.T) {
	want := []Item{
		{Kind: KindAux, Aux: Aux{[]byte("redis-ver"), []byte("7.2.4")}},
		{Kind: KindAux, Aux: Aux{[]byte("lzf"), []byte("aaaaaaaaaa")}},
		{Kind: KindAux, Aux: Aux{[]byte("bits"), []byte("64")}},
		{Kind: KindModuleAux, ModuleAux: ModuleAux{7, []byte("\x81\x00\x00\x00\x00\x00\x00\x00\x07\x02\x01\x05\x04data\x00")}},
		{Kind: KindFunction, Function: []byte(str("#!lua name=l"))},
		{Kind: KindSelectDB, DB: 3},
		{Kind: KindResizeDB, ResizeDB: ResizeDB{512, 1}},
		{Kind: KindSlotInfo, SlotInfo: SlotInfo{16383, 2, 1}},
		{Kind: KindEntry, Entry: Entry{3, []byte("12345"), 0, []byte(str("v1")), 1 << 40, -1, 200, 0}},
		{Kind: KindEntry, Entry: Entry{3, []byte("k2"), 0, []byte(str("v2")), 1000, 256, -1, 0}},
		{Kind: KindEntry, Entry: Entry{3, []byte("k3"), 0, []byte(str("v3")), -1000, -1, -1, 0}},
		{Kind: KindEntry, Entry: Entry{3, []byte("aaaaaaaaaa"), 0, []byte(str("v4")), 0, -1, -1, 0}},
	}
	b := opcodesStream()
	for name, src := range map[string]io.Reader{
		"whole":    bytes.NewReader(b),
		"one byte": iotest.OneByteReader(bytes.NewReader(b)),
		"half":     iotest.HalfReader(bytes.NewReader(b)),
		"data err": iotest.DataErrReader(bytes.NewReader(b)),
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(src, Config{})
			got, err := readAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if r.Version() != 11 || r.Valkey() || r.Consumed() != int64(len(b)) {
				t.Errorf("version %d, valkey %v, consumed %d of %d", r.Version(), r.Valkey(), r.Consumed(), len(b))
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
	checkDamage(t, b)
}

func TestChecksum(t *testing.T) {
	b := stream("REDIS0011", 0, str("k"), str("v"))
	wrong := append([]byte{}, b...)
	wrong[len(wrong)-1] ^= 1
	if _, err := readAll(NewReader(bytes.NewReader(wrong), Config{})); !errors.Is(err, ErrChecksum) {
		t.Errorf("wrong checksum: %v", err)
	}
	none := append(append([]byte{}, b[:len(b)-8]...), make([]byte, 8)...)
	if _, err := readAll(NewReader(bytes.NewReader(none), Config{})); err != nil {
		t.Errorf("disabled checksum: %v", err)
	}
}

func TestUnsupported(t *testing.T) {
	tests := []struct {
		magic string
		op    byte
		what  string
		key   string
	}{
		{"REDIS0013", 242, "opcode 242 (unknown)", ""},
		{"REDIS0013", 243, "opcode 243 (key metadata of modules)", ""},
		{"VALKEY080", 243, "opcode 243 (slot import)", ""},
		{"VALKEY080", 242, "opcode 242 (commands within the snapshot)", ""},
		{"REDIS0010", 246, "opcode 246 (function of a release candidate of 7.0)", ""},
		{"REDIS0009", 6, "type 6 (module value of a release candidate of 4.0)", "key"},
		{"REDIS0009", 8, "type 8 (Redis)", "key"},
		{"REDIS0014", 27, "type 27 (Redis)", "key"},
		{"VALKEY081", 23, "type 23 (Valkey)", "key"},
		{"VALKEY080", 24, "type 24 (Valkey)", "key"},
		{"REDIS0009", 200, "type 200 (Redis)", ""},
	}
	for _, tt := range tests {
		b := stream(tt.magic, int(tt.op), str("key"), str("v"))
		_, err := readAll(NewReader(bytes.NewReader(b), Config{}))
		var u *UnsupportedError
		if !errors.As(err, &u) || u.What != tt.what || u.Offset != 9 || string(u.Key) != tt.key {
			t.Errorf("%s %d: %v", tt.magic, tt.op, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	tests := map[string][]byte{
		"magic":                 stream("RUDIS0011"),
		"magic valkey":          stream("VALKAY080"),
		"version digits":        stream("REDIS00x1"),
		"version 0":             stream("REDIS0000"),
		"length encoding":       stream("REDIS0011", 1, str("k"), "\x82"),
		"encoded count":         stream("REDIS0011", 1, str("k"), "\xc0\x01"),
		"string encoding":       stream("REDIS0011", 0, str("k"), "\xc4\x01"),
		"key encoding":          stream("REDIS0011", 0, "\xff\x01"),
		"key LZF short":         stream("REDIS0011", 0, "\xc3\x02\x0a\x00a", str("v")),
		"key LZF long":          stream("REDIS0011", 0, "\xc3\x05\x01\x00a\xe0\x00\x00", str("v")),
		"key LZF distance":      stream("REDIS0011", 0, "\xc3\x02\x03\x20\x00", str("v")),
		"key LZF cut literal":   stream("REDIS0011", 0, "\xc3\x01\x03\x02", str("v")),
		"key LZF cut length":    stream("REDIS0011", 0, "\xc3\x03\x03\x00a\xe0", str("v")),
		"key LZF cut distance":  stream("REDIS0011", 0, "\xc3\x03\x03\x00a\x20", str("v")),
		"module code":           stream("REDIS0011", 7, str("k"), 1, 6),
		"expiry without entry":  stream("REDIS0011", opExpireMs, le64(1), opSelectDB, 0),
		"database":              stream("REDIS0011", opSelectDB, "\x80\xff\xff\xff\xff"),
		"slot":                  stream("REDIS0011", opSlotInfo, "\x80\x00\x00\x40\x00", 0, 0),
		"idle time":             stream("REDIS0011", opIdle, "\x81\xff\xff\xff\xff\xff\xff\xff\xff", 0, str("k"), str("v")),
		"function of no string": stream("REDIS0011", OpFunction, "\xc9"),
	}
	for name, b := range tests {
		_, err := readAll(NewReader(bytes.NewReader(b), Config{}))
		var f *FormatError
		if !errors.As(err, &f) || f.Err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAbsurdLengths is trap 16: lengths that nothing stands behind must not be believed.
func TestAbsurdLengths(t *testing.T) {
	huge := "\x81\xff\xff\xff\xff\xff\xff\xff\xff"
	long := "\x80\x1f\xff\xff\xff" // just below the limit
	for _, part := range []string{huge, long, "\xc3" + huge + huge, "\xc3" + long + long, "\xc3\x05" + huge + "\x00a\xe0\x00\x00"} {
		for _, b := range [][]byte{
			stream("REDIS0011", 0, str("k"), part),
			stream("REDIS0011", 1, str("k"), part),
			stream("REDIS0011", 4, str("k"), part),
			stream("REDIS0011", 5, str("k"), part, str("a")),
			stream("REDIS0011", 21, str("k"), part),
			stream("REDIS0011", 0, part),
			stream("REDIS0011", opAux, part, part),
			stream("REDIS0011", OpFunction, part),
		} {
			r := NewReader(bytes.NewReader(b), Config{})
			for {
				// A value with an absurd uncompressed size is well framed: only whoever decodes it can tell.
				if _, err := r.Next(); errors.Is(err, io.EOF) {
					if part[0] != 0xc3 {
						t.Errorf("%q: no error", b)
					}
					break
				} else if err != nil {
					break
				}
			}
			if n := len(r.buf) + cap(r.keyBuf) + cap(r.auxBuf); n > 2*bufferBytes {
				t.Errorf("%q: %d bytes of buffers", b, n)
			}
		}
	}
}

func TestTooLarge(t *testing.T) {
	big := "\x80\x00\x10\x00\x00" + strings.Repeat("x", 1<<20)
	small := strings.Repeat(str("abc"), 300)
	tests := []struct {
		name, what, key string
		size            uint64
		body            []byte
	}{
		{"value", "value", "k", 1<<20 + 5, stream("REDIS0011", 0, str("k"), big)},
		{"value by steps", "value", "k", 1202, stream("REDIS0011", 1, str("k"), "\x41\x2c", small)},
		{"key", "key", "", 1<<20 + 5, stream("REDIS0011", 0, big, str("v"))},
		{"function", "function", "", 1<<20 + 5, stream("REDIS0011", OpFunction, big)},
		{"aux", "aux field", "", 1<<20 + 7, stream("REDIS0011", opAux, str("a"), big)},
		{"module aux", "module aux", "", 1<<20 + 7, stream("REDIS0011", opModuleAux, "\x05\x05", big, 0)},
	}
	for _, tt := range tests {
		for mode, src := range map[string]io.Reader{"whole": bytes.NewReader(tt.body), "one byte": iotest.OneByteReader(bytes.NewReader(tt.body))} {
			_, err := readAll(NewReader(src, Config{MaxValueBytes: 1000}))
			var e *TooLargeError
			if !errors.As(err, &e) || !errors.Is(err, ErrValueTooLarge) || e.What != tt.what || string(e.Key) != tt.key || e.SizeBytes <= 1000 {
				t.Errorf("%s, %s: %v", tt.name, mode, err)
			} else if mode == "whole" && e.SizeBytes > tt.size {
				t.Errorf("%s: size %d, want at most %d", tt.name, e.SizeBytes, tt.size)
			}
		}
	}
	ok := stream("REDIS0011", 0, str("k"), "\x43\xe6", strings.Repeat("x", 998))
	for _, src := range []io.Reader{bytes.NewReader(ok), iotest.OneByteReader(bytes.NewReader(ok))} {
		if _, err := readAll(NewReader(src, Config{MaxValueBytes: 1000})); err != nil {
			t.Errorf("value as large as the limit: %v", err)
		}
	}
}

// TestLargeValues crosses the buffer's growth and its giving back.
func TestLargeValues(t *testing.T) {
	var parts []any
	var want [][]byte
	for i, size := range []int{100, 9 << 20, 10, 300 << 10, 20 << 20, 5, 256 << 10, 256<<10 - 20, 1} {
		v := append([]byte{0x80}, binary.BigEndian.AppendUint32(nil, uint32(size))...)
		v = append(v, bytes.Repeat([]byte{byte('a' + i)}, size)...)
		parts = append(parts, 0, str(strconv.Itoa(i)), v)
		want = append(want, v)
	}
	b := stream("REDIS0011", parts...)
	r := NewReader(bytes.NewReader(b), Config{})
	for i, w := range want {
		it, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if string(it.Entry.Key) != strconv.Itoa(i) || !bytes.Equal(it.Entry.Value, w) {
			t.Fatalf("value %d differs", i)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if len(r.buf) > keepBufferBytes {
		t.Errorf("buffer of %d bytes kept", len(r.buf))
	}
}

func TestSourceErrors(t *testing.T) {
	boom := errors.New("boom")
	b := opcodesStream()
	r := NewReader(io.MultiReader(bytes.NewReader(b[:30]), iotest.ErrReader(boom)), Config{})
	_, err := readAll(r)
	if !errors.Is(err, boom) {
		t.Error(err)
	}
	if _, again := r.Next(); !errors.Is(again, err) {
		t.Errorf("second error %v", again)
	}
	if _, err := readAll(NewReader(emptyReader{}, Config{})); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestModuleName(t *testing.T) {
	id := uint64(0)
	for _, c := range "ReJSON-RL" {
		id = id<<6 | uint64(strings.IndexRune(moduleCharset, c))
	}
	if name, v := ModuleName(id<<10 | 3); name != "ReJSON-RL" || v != 3 {
		t.Error(name, v)
	}
}

// TestStream4 is a stream that a Redis 8.6 wrote: a group with pending entries and three idempotent producers.
func TestStream4(t *testing.T) {
	payload := unhex(t, `1a01 1000 0001 a1fc 9be7 7700 0000 0000 0000 00c3 2c3a 113a 0000 0019 0004 0100
		0101 0181 6102 0001 0220 0a40 0c00 0420 0900 0ce0 0009 0024 e000 0900 3580 0901
		01ff 0481 0000 01a1 fc9b e7ac 0081 0000 01a1 fc9b e777 0000 0004 0101 6700 0081
		ffff ffff ffff ffff 0000 4064 4064 0304 7072 6f64 0204 6969 6431 8100 0001 a1fc
		9be7 7700 0469 6964 3281 0000 01a1 fc9b e783 0005 7072 6f64 3201 027a 7a81 0000
		01a1 fc9b e79b 0005 7072 6f64 3301 1003 4b44 ffc7 4332 0ce2 cb07 9991 04fc 0281
		0000 01a1 fc9b e7ac 0004 000d 00e7 d813 f390 fdeb 19`)
	value := payload[1 : len(payload)-10]
	b := stream("REDIS0013", int(payload[0]), str("s"), value)
	items, err := readAll(NewReader(bytes.NewReader(b), Config{}))
	if err != nil {
		t.Fatal(err)
	}
	e := items[0].Entry
	if got := AppendPayload(nil, e.Type, e.Value, 13); !bytes.Equal(got, payload) {
		t.Errorf("payload %x", got)
	}
	checkDamage(t, b)
}

func TestSteadyStateAllocs(t *testing.T) {
	var parts []any
	for range 2000 {
		parts = append(parts, opExpireMs, le64(5), 0, "\xc0\x05", str("v"), 4, str("h"), "\x01", str("f"), str("v"),
			0, "\xc3\x05\x0a\x00a\xe0\x00\x00", str("v"))
	}
	r := NewReader(bytes.NewReader(stream("REDIS0011", parts...)), Config{})
	next := func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		next()
	}
	if n := testing.AllocsPerRun(5000, next); n != 0 {
		t.Errorf("%v allocations per entry", n)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(opcodesStream())
	f.Add(stream("REDIS0009", 15, str("s"), "\x01", str(strings.Repeat("n", 16)), str("lp"), "\x05\x05\x05\x00"))
	f.Add(stream("REDIS0012", 24, str("h"), "tttttttt\x01\x00", str("f"), str("v")))
	f.Add(stream("VALKEY080", 22, str("h"), "\x01", str("f"), str("v"), "tttttttt"))
	f.Add(stream("REDIS0009", 7, str("m"), "\x05\x01\x05\x02\x05\x03ffff\x04dddddddd\x05\x01s\x00"))
	f.Add(stream("REDIS0009", 3, str("z"), "\x02", str("a"), "\xff", str("b"), "\x011"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := Config{MaxValueBytes: 1 << 20}
		whole := NewReader(bytes.NewReader(b), cfg)
		items, err := readAll(whole)
		single := NewReader(iotest.OneByteReader(bytes.NewReader(b)), cfg)
		items1, err1 := readAll(single)
		if (err == nil) != (err1 == nil) || whole.Consumed() > int64(len(b)) {
			t.Fatalf("whole: %v, by bytes: %v, consumed %d of %d", err, err1, whole.Consumed(), len(b))
		}
		if d := cmp.Diff(items, items1); d != "" {
			t.Fatal(d)
		}
		cut, errCut := readCut(t, bytes.NewReader(b), 7)
		if d := cmp.Diff(items, cut); d != "" || (err == nil) != errors.Is(errCut, io.EOF) {
			t.Fatalf("in pieces: %v, whole: %v\n%s", errCut, err, d)
		}
		if n := len(whole.buf); n > max(bufferBytes, 4*len(b)) {
			t.Fatalf("buffer of %d bytes for %d", n, len(b))
		}
	})
}

func BenchmarkReader(b *testing.B) {
	cases := map[string]func(i int) []any{
		"strings-100B": func(i int) []any {
			return []any{0, str(fmt.Sprintf("key:%012d", i)), "\x40\x64", strings.Repeat("v", 100)}
		},
		"strings-10KB": func(i int) []any {
			return []any{0, str(fmt.Sprintf("key:%012d", i)), "\x67\x10", strings.Repeat("v", 10000)}
		},
		"hash-1000x10B": func(i int) []any {
			return []any{4, str(fmt.Sprintf("key:%012d", i)), "\x43\xe8", strings.Repeat(str("field56789")+str("value56789"), 1000)}
		},
		"ttl-strings-10B": func(i int) []any {
			return []any{opExpireMs, le64(math.MaxInt32), 0, str(fmt.Sprintf("key:%012d", i)), str("0123456789")}
		},
	}
	for name, gen := range cases {
		b.Run(name, func(b *testing.B) {
			var parts []any
			for i, n := 0, 0; n < 64<<20; i++ {
				p := gen(i)
				for _, x := range p {
					if s, ok := x.(string); ok {
						n += len(s)
					} else {
						n++
					}
				}
				parts = append(parts, p...)
			}
			data := stream("REDIS0011", parts...)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			entries := 0
			for b.Loop() {
				r := NewReader(bytes.NewReader(data), Config{})
				for {
					if _, err := r.Next(); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
					entries++
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(entries), "ns/entry")
		})
	}
}

func BenchmarkCRC64(b *testing.B) {
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		CRC64(0, p)
	}
}
