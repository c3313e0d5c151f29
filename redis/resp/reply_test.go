package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

const replies = "+OK\r\n-MOVED 5 10.0.0.1:6379\r\n:-9223372036854775808\r\n$3\r\na\r\n\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n" +
	"*3\r\n*2\r\n:1\r\n*1\r\n$1\r\nx\r\n-ERR y\r\n*0\r\n\n\r\n+\r\n"

func render(r Reply) string {
	switch r.Kind {
	case KindInt:
		return strconv.FormatInt(r.Int, 10)
	case KindArray:
		if r.IsNull() {
			return "nil*"
		}
		out := []string{}
		for _, e := range r.Elems {
			out = append(out, render(e))
		}
		return "[" + strings.Join(out, " ") + "]"
	}
	if r.IsNull() {
		return "nil$"
	}
	return string(r.Kind) + fmt.Sprintf("%q", r.Str)
}

const rendered = `+"OK" -"MOVED 5 10.0.0.1:6379" -9223372036854775808 $"a\r\n" $"" nil$ nil* [] [[1 [$"x"]] -"ERR y" []] +""`

func TestReplySplitAnywhere(t *testing.T) {
	check := func(name string, src io.Reader) {
		t.Helper()
		r := NewReplyReader(src, Config{})
		var got []string
		for {
			reply, err := r.Read()
			if errors.Is(err, errPause) {
				continue
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, render(reply))
		}
		if all := strings.Join(got, " "); all != rendered || r.Offset() != int64(len(replies)) {
			t.Fatalf("%s: offset %d\n got %s\nwant %s", name, r.Offset(), all, rendered)
		}
	}
	check("whole", strings.NewReader(replies))
	check("one byte", iotest.OneByteReader(strings.NewReader(replies)))
	for cut := range replies {
		check(fmt.Sprint("cut at ", cut), &parts{parts: [][]byte{[]byte(replies[:cut]), []byte(replies[cut:])}, err: errPause})
	}
}

func TestReplyElementByElement(t *testing.T) {
	for name, src := range map[string]io.Reader{"whole": strings.NewReader(replies), "byte by byte": iotest.OneByteReader(strings.NewReader(replies))} {
		r := NewReplyReader(src, Config{})
		var got []string
		for {
			var elems []string
			reply, err := r.ReadEach(func(i int, e Reply) {
				if i != len(elems) {
					t.Errorf("element %d came as number %d", len(elems), i)
				}
				elems = append(elems, render(e))
			})
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			text := render(reply)
			if reply.Kind == KindArray && !reply.IsNull() {
				text = "[" + strings.Join(elems, " ") + "]"
			}
			got = append(got, text)
		}
		if all := strings.Join(got, " "); all != rendered || r.Offset() != int64(len(replies)) {
			t.Errorf("%s: offset %d\n got %s\nwant %s", name, r.Offset(), all, rendered)
		}
	}
}

func TestReplyFaults(t *testing.T) {
	for in, reason := range map[string]string{
		"*2\r\n:1\r\n\n":               "want a reply",
		"_\r\n":                        "RESP3 type '_'",
		"%1\r\n":                       "RESP3 type '%'",
		"x":                            "want a reply",
		"+a\n":                         "not ended by CRLF",
		"+\n":                          "not ended by CRLF",
		":x\r\n":                       "integer is not a number",
		":99999999999999999999\r\n":    "integer is not a number",
		"$-2\r\n":                      "negative length",
		"$1\r\nabc":                    "not ended by CRLF",
		"*2147483648\r\n":              "above limit",
		strings.Repeat("*1\r\n", 33):   "above limit",
		"+" + strings.Repeat("a", 1e5): "above limit",
		"$536870913\r\n":               "above limit",
	} {
		r := NewReplyReader(strings.NewReader("+OK\r\n"+in), Config{})
		if _, err := r.Read(); err != nil {
			t.Fatal(err)
		}
		_, err := r.Read()
		p, ok := errors.AsType[*ProtocolError](err)
		if !ok || !strings.Contains(err.Error(), reason) || p.Offset < 5 {
			t.Errorf("%.20q: %v, want %q", in, err, reason)
		}
		if _, again := r.Read(); !errors.Is(again, err) {
			t.Errorf("%.20q: the error does not last: %v", in, again)
		}
	}
	r := NewReplyReader(strings.NewReader("*2147483647\r\n:1\r\n"), Config{})
	if _, err := r.Read(); !errors.Is(err, io.ErrUnexpectedEOF) || len(r.data) > DefaultBufferBytes || r.nodes != nil {
		t.Errorf("cut array: %v", err)
	}
}

// TestReplyHandOver is what a link does: after the answer to PSYNC comes something
// that is no reply.
func TestReplyHandOver(t *testing.T) {
	src := strings.NewReader("\n\n+CONTINUE\r\n*1\r\n$4\r\nPING\r\n")
	r := NewReplyReader(src, Config{})
	if reply, err := r.Read(); err != nil || string(reply.Str) != "CONTINUE" || r.Buffered() != 14 {
		t.Fatal(reply, err, r.Buffered())
	}
	stream := NewReader(io.MultiReader(bytes.NewReader(r.Rest()), src), Config{})
	if cmd, err := stream.ReadCommand(); err != nil || string(cmd.Args[0]) != "PING" {
		t.Error(cmd, err)
	}
}

func TestServerError(t *testing.T) {
	for text, want := range map[string]string{
		"MOVED 3999 127.0.0.1:6381":   "MOVED 3999 127.0.0.1:6381 true",
		"ASK 16383 ::1:7000":          "ASK 16383 ::1:7000 true",
		"MOVED 0 :7000":               "MOVED 0 :7000 true",
		"MOVED 16384 127.0.0.1:1":     "MOVED 0  false",
		"MOVED x 127.0.0.1:1":         "MOVED 0  false",
		"MOVED 1":                     "MOVED 0  false",
		"WRONGTYPE Operation against": "WRONGTYPE 0  false",
		"ERR":                         "ERR 0  false",
		"":                            " 0  false",
	} {
		err := Reply{Kind: KindError, Str: []byte(text)}.Err()
		e, ok := errors.AsType[*ServerError](err)
		if !ok || e.Error() != text {
			t.Fatalf("%q: %v", text, err)
		}
		slot, addr, ok := e.Redirect()
		if got := fmt.Sprint(e.Code, " ", slot, " ", addr, " ", ok); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if err := (Reply{Kind: KindSimple, Str: []byte("OK")}).Err(); err != nil {
		t.Error(err)
	}
}

func appendReply(dst []byte, r Reply) []byte {
	switch {
	case r.Kind == KindArray && r.IsNull():
		return AppendArrayHeader(dst, -1)
	case r.Kind == KindArray:
		dst = AppendArrayHeader(dst, len(r.Elems))
		for _, e := range r.Elems {
			dst = appendReply(dst, e)
		}
		return dst
	case r.Kind == KindInt:
		return AppendInt(dst, r.Int)
	case r.IsNull():
		return AppendNull(dst)
	case r.Kind == KindBulk:
		return AppendBulk(dst, r.Str)
	case r.Kind == KindError:
		return AppendError(dst, string(r.Str))
	}
	return AppendSimple(dst, string(r.Str))
}

// FuzzReply: replies read in pieces are those read in the whole, and read the same
// when written again.
func FuzzReply(f *testing.F) {
	f.Add([]byte(replies), uint8(1))
	f.Add([]byte("*2\r\n$-1\r\n*1\r\n:+1\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		src := &parts{}
		for rest := in; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			src.parts = append(src.parts, rest[:n])
			rest = rest[n:]
		}
		whole, pieces := NewReplyReader(bytes.NewReader(in), Config{}), NewReplyReader(src, Config{})
		for {
			a, errA := whole.Read()
			b, errB := pieces.Read()
			if (errA == nil) != (errB == nil) || whole.Offset() != pieces.Offset() {
				t.Fatalf("whole: %v at %d, pieces: %v at %d", errA, whole.Offset(), errB, pieces.Offset())
			}
			if errA != nil {
				return
			}
			text := render(a)
			if other := render(b); text != other {
				t.Fatalf("whole: %s, pieces: %s", text, other)
			}
			again, err := NewReplyReader(bytes.NewReader(appendReply(nil, a)), Config{}).Read()
			if err != nil || render(again) != text {
				t.Fatalf("%s comes back as %s, %v", text, render(again), err)
			}
		}
	})
}
