package rdb

import (
	"bytes"
	"strings"
	"testing"
)

func TestPlainText(t *testing.T) {
	long := strings.Repeat("v", 20_000)
	for _, c := range []struct{ value, want string }{
		{"\x00", ""},
		{"\x02ab", "ab"},
		{"\x40\x46" + long[:70], long[:70]},
		{"\x80\x00\x00\x4e\x20" + long, long},
		{"\x81\x00\x00\x00\x00\x00\x00\x00\x02ab", "ab"},
		{"\xc0\xff", "-1"},
		{"\xc1\x39\x30", "12345"},
		{"\xc2\x00\x00\x00\x80", "-2147483648"},
	} {
		var digits [20]byte
		got, ok := PlainText(typeString, []byte(c.value), &digits)
		if !ok || !bytes.Equal(got, []byte(c.want)) {
			t.Errorf("%.20q: %.20q, %v", c.value, got, ok)
		}
		// A byte less or more is no string.
		for _, wrong := range []string{c.value[:len(c.value)-1], c.value + "x"} {
			if got, ok := PlainText(typeString, []byte(wrong), &digits); ok {
				t.Errorf("%.20q: %.20q", wrong, got)
			}
		}
	}
	for name, value := range map[string]string{"compressed": "\xc3\x04\x05aaaa", "unknown encoding": "\xc9\x01", "reserved length": "\x82\x00"} {
		if got, ok := PlainText(typeString, []byte(value), new([20]byte)); ok {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, ok := PlainText(typeList, []byte("\x00"), new([20]byte)); ok {
		t.Error("a list is no string")
	}
}

func FuzzPlainText(f *testing.F) {
	f.Add([]byte("\x02ab"))
	f.Add([]byte("\xc1\x39\x30"))
	f.Add([]byte("\x81\x00\x00\x00\x00\x00\x00\x00\x02ab"))
	f.Fuzz(func(t *testing.T, value []byte) {
		got, ok := PlainText(typeString, value, new([20]byte))
		if !ok {
			return
		}
		d := NewDecoder(DecoderConfig{})
		d.ResetBytes(typeString, value, Format{})
		el, err := d.Next()
		if err != nil {
			t.Fatalf("%q: the decoder says %v", value, err)
		}
		if !bytes.Equal(el.Value, got) {
			t.Fatalf("%q: %q, the decoder has %q", value, got, el.Value)
		}
	})
}
