package resp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// faults are beginnings of streams that no continuation can mend.
var faults = map[string]string{
	"*x\r\n":                    "length is not a number",
	"*\r\n":                     "length is not a number",
	"*-2\r\n":                   "negative length",
	"*-1x":                      "negative length",
	"*01\r\n":                   "leading zero",
	"*+1\r\n":                   "length is not a number",
	"*1\rx":                     "length is not a number",
	"*1234567890123456789\r\n":  "length is not a number",
	"*9999999999\r\n":           "above limit",
	"*1\r\n:1\r\n":              "want '$'",
	"*1\r\n$-1\r\n":             "negative length",
	"*1\r\n$999999999999999999": "",
	"*1\r\n$1\r\nab\r\n":        "not ended by CRLF",
	"*2\r\n$1\r\na\r\nx":        "want '$'",
	"$1\r\na\r\n":               "want a command",
	"\x00\x01":                  "want a command",
	"\rPING":                    `want '\n'`,
	"SET k \"v\"\r\n":           "quotes",
}

func TestParseCommandFaults(t *testing.T) {
	for in, reason := range faults {
		n, args, err := ParseCommand([]byte(in), nil)
		if reason == "" {
			if !errors.Is(err, ErrIncomplete) {
				t.Errorf("%q: error %v", in, err)
			}
			continue
		}
		if _, ok := errors.AsType[*ProtocolError](err); !ok || n != 0 || args != nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %d, %q, error %v, want %q", in, n, args, err, reason)
		}
	}
	long := strings.Repeat("a", maxLineBytes+1)
	if _, _, err := ParseCommand([]byte(long), nil); !errors.Is(err, ErrLimit) {
		t.Errorf("endless line: %v", err)
	}
}

func TestParseCommand(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []string
	}{
		{"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", []string{"SET", "k", ""}},
		{"*1\r\n$11\r\n*1\r\n$1\r\na\r\n\r\n", []string{"*1\r\n$1\r\na\r\n"}},
		{"PING\r\n", []string{"PING"}},
		{"set  a\tb \n", []string{"set", "a", "b"}},
		{"\n", nil},
		{"\r\n", nil},
		{"*0\r\n", nil},
		{"*-1\r\n", nil},
	} {
		for _, tail := range []string{"", "*", "\n", "PING\r\n"} {
			n, args, err := ParseCommand([]byte(test.in+tail), nil)
			if err != nil || n != len(test.in) || !equalArgs(args, test.want) {
				t.Errorf("%q: %d %q %v", test.in+tail, n, args, err)
			}
		}
		for cut := range test.in {
			n, args, err := ParseCommand([]byte(test.in[:cut]), nil)
			if !errors.Is(err, ErrIncomplete) || n != 0 || args != nil {
				t.Errorf("%q cut at %d: %d %q %v", test.in, cut, n, args, err)
			}
		}
	}
}

func equalArgs(got [][]byte, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if string(got[i]) != want[i] {
			return false
		}
	}
	return true
}

func TestParseCommandArgsCannotGrow(t *testing.T) {
	buf := []byte("*2\r\n$1\r\na\r\n$1\r\nb\r\n")
	before := string(buf)
	_, args, _ := ParseCommand(buf, nil)
	_ = append(args[0], "XXXX"...)
	if string(buf) != before {
		t.Error("append to an argument wrote into the buffer")
	}
}

func TestNoAllocations(t *testing.T) {
	buf := AppendCommand(nil, "SET", "key:000000000001", strings.Repeat("v", 100), "EX", "100")
	args := make([][]byte, 0, 8)
	if n := testing.AllocsPerRun(100, func() { _, args, _ = ParseCommand(buf, args[:0]) }); n != 0 {
		t.Errorf("ParseCommand allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, args, _ = ParseCommand(buf[:20], args[:0]) }); n != 0 {
		t.Errorf("ParseCommand of a part allocates %v times", n)
	}
	dst := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		dst = AppendCommand(dst[:0], "SET", "key", "value")
		dst = AppendCommandBytes(dst, args...)
		dst = AppendBulkInt(AppendInt(dst, -1234567890123), 1234567890123)
		dst = AppendError(AppendSimple(AppendNull(dst), "OK"), "ERR no")
	}); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	stream := bytes.Repeat(buf, 2000)
	r := NewReader(&loop{data: stream}, Config{})
	if n := testing.AllocsPerRun(5000, func() {
		if _, err := r.ReadCommand(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("ReadCommand allocates %v times", n)
	}
}

// FuzzParseCommand: what parses is made of the bytes it claims, is incomplete when
// cut anywhere, and comes back the same when written again.
func FuzzParseCommand(f *testing.F) {
	f.Add([]byte("*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"))
	f.Add([]byte("PING x\r\n"))
	f.Add([]byte("\n"))
	f.Add([]byte("*-1\r\n"))
	for in := range faults {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		n, args, err := ParseCommand(in, nil)
		if err != nil {
			if n != 0 || args != nil {
				t.Fatalf("error %v with %d bytes, %q", err, n, args)
			}
			return
		}
		if n <= 0 || n > len(in) {
			t.Fatalf("length %d of %d", n, len(in))
		}
		if _, _, err := ParseCommand(in[:n-1], nil); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("one byte less: %v", err)
		}
		if in[0] == '*' && len(args) > 0 {
			if again := AppendCommandBytes(nil, args...); !bytes.Equal(again, in[:n]) {
				t.Fatalf("%q comes back as %q", in[:n], again)
			}
		}
	})
}

func TestTheHeadOfACommand(t *testing.T) {
	buf := AppendCommand(nil, "SADD", "k", "a", "b", "c")
	for limit := range 7 {
		n, total, args, err := ParseCommandHead(append(buf, "*1"...), nil, limit)
		if err != nil || n != len(buf) || total != 5 || len(args) != min(limit, 5) {
			t.Errorf("limit %d: %d bytes, %d of %d arguments, %v", limit, n, len(args), total, err)
		}
	}
	if _, _, _, err := ParseCommandHead(buf[:len(buf)-1], nil, 2); !errors.Is(err, ErrIncomplete) {
		t.Errorf("cut behind the head: %v", err)
	}
}
