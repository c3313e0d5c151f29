package rdb

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestLibrariesOfAPayload(t *testing.T) {
	one, two := "#!lua name=one\n"+strings.Repeat("-- \n", 5000), "#!lua name=two\n"
	for name, want := range map[string][]string{"none": nil, "one": {one}, "two": {one, two}} {
		var payload []byte
		for _, code := range want {
			payload = AppendText(append(payload, OpFunction), []byte(code))
		}
		if len(want) > 0 {
			payload = AppendPayload(nil, payload[0], payload[1:], 11)
		} else {
			payload = make([]byte, footerBytes)
		}
		var got []string
		if err := Libraries(payload, func(code []byte) error { got = append(got, string(code)); return nil }); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %d libraries, %v", name, len(got), err)
		}
	}
	for name, payload := range map[string][]byte{
		"empty": {}, "a key": AppendPayload(nil, typeString, []byte("\x01k\x01v"), 11), "cut": AppendPayload(nil, OpFunction, []byte("\x05abc"), 11),
		"checksum": append(AppendPayload(nil, OpFunction, []byte("\x01a"), 11)[:11], 1), "junk": AppendPayload(nil, OpFunction, []byte("\x01a\x01"), 11),
	} {
		if err := Libraries(payload, func([]byte) error { return nil }); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused := errors.New("refused")
	if err := Libraries(AppendPayload(nil, OpFunction, []byte("\x01a"), 11), func([]byte) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
}

func TestText(t *testing.T) {
	for encoded, want := range map[string]string{"\x03abc": "abc", "\xc0\x07": "7", "\x00": ""} {
		if got, err := Text([]byte(encoded)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", encoded, got, err)
		}
	}
	for _, bad := range []string{"", "\x05abc", "\x01ab", "\xc9", "\xc3\x01\x50a"} {
		if got, err := Text([]byte(bad)); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}
