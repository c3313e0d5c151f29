package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// loop is an endless source.
type loop struct {
	data []byte
	at   int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.data[l.at:])
	l.at = (l.at + n) % len(l.data)
	return n, nil
}

// parts is a source that gives one part per read, and an error between parts.
type parts struct {
	parts [][]byte
	err   error
	turn  bool
}

func (p *parts) Read(b []byte) (int, error) {
	if len(p.parts) == 0 {
		return 0, io.EOF
	}
	if p.turn = !p.turn; p.turn && p.err != nil {
		return 0, p.err
	}
	n := copy(b, p.parts[0])
	if p.parts[0] = p.parts[0][n:]; len(p.parts[0]) == 0 {
		p.parts = p.parts[1:]
	}
	return n, nil
}

// sample is a stream with everything in it, and what it holds.
func sample() (stream []byte, want []string) {
	add := func(before string, args ...string) {
		stream = append(stream, before...)
		at := len(stream)
		stream = AppendCommand(stream, args...)
		want = append(want, fmt.Sprintf("%q %q %d", args, stream[at:], len(stream)))
	}
	add("", "SELECT", "0")
	add("\n", "SET", "k", "")
	add("\r\n\n*0\r\n", "SET", "\r\n", "*1\r\n$4\r\nPING\r\n")
	add("*-1\r\n", "MSET", "a", strings.Repeat("x", 300), "b", strings.Repeat("y", 11))
	stream = append(stream, "\nPING  x\r\n"...)
	want = append(want, fmt.Sprintf("%q %q %d", []string{"PING", "x"}, "PING  x\r\n", len(stream)))
	add("", strings.Split("SADD "+strings.Repeat("m ", 30), " ")...)
	return stream, want
}

func readAll(t *testing.T, r *Reader) (got []string) {
	t.Helper()
	for {
		cmd, err := r.ReadCommand()
		if errors.Is(err, errPause) {
			continue
		}
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if cmd.Inline != (cmd.Raw[0] == 'P') {
			t.Errorf("%q: Inline is %v", cmd.Raw, cmd.Inline)
		}
		got = append(got, fmt.Sprintf("%q %q %d", cmd.Args, cmd.Raw, r.Offset()))
	}
}

var errPause = errors.New("pause")

func TestReaderSplitAnywhere(t *testing.T) {
	stream, want := sample()
	check := func(name string, src io.Reader) {
		t.Helper()
		r := NewReader(src, Config{})
		got := readAll(t, r)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s:\n got %v\nwant %v", name, got, want)
		}
		if r.Offset() != int64(len(stream)) || r.Buffered() != 0 {
			t.Fatalf("%s: offset %d, %d buffered", name, r.Offset(), r.Buffered())
		}
	}
	check("whole", bytes.NewReader(stream))
	check("one byte", iotest.OneByteReader(bytes.NewReader(stream)))
	check("data with error", iotest.DataErrReader(bytes.NewReader(stream)))
	for cut := range stream {
		check(fmt.Sprint("cut at ", cut), &parts{parts: [][]byte{stream[:cut], stream[cut:]}, err: errPause})
	}
}

func TestReaderEnds(t *testing.T) {
	stream, want := sample()
	for cut := range stream {
		r := NewReader(bytes.NewReader(stream[:cut]), Config{})
		var err error
		n := 0
		for ; err == nil; n++ {
			_, err = r.ReadCommand()
		}
		if r.Buffered() == 0 != errors.Is(err, io.EOF) || r.Buffered() > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %d bytes left, %v", cut, r.Buffered(), err)
		}
		if r.Offset()+int64(r.Buffered()) != int64(cut) || !bytes.Equal(r.Rest(), stream[r.Offset():cut]) {
			t.Fatalf("cut at %d: offset %d, %d buffered", cut, r.Offset(), r.Buffered())
		}
		if n > len(want) {
			t.Fatalf("cut at %d: %d commands", cut, n)
		}
	}
}

func TestReaderFaults(t *testing.T) {
	for in, reason := range faults {
		head := "\n*1\r\n$4\r\nPING\r\n"
		r := NewReader(strings.NewReader(head+in), Config{})
		if _, err := r.ReadCommand(); err != nil {
			t.Fatal(err)
		}
		_, err := r.ReadCommand()
		if reason == "" && errors.Is(err, io.ErrUnexpectedEOF) {
			continue
		}
		p, ok := errors.AsType[*ProtocolError](err)
		if !ok || !strings.Contains(err.Error(), reason) || p.Offset < int64(len(head)) {
			t.Errorf("%q: %v, want %q", in, err, reason)
		}
		if _, again := r.ReadCommand(); !errors.Is(again, err) {
			t.Errorf("%q: the error does not last: %v", in, again)
		}
	}
}

func TestReaderLimits(t *testing.T) {
	for in, cfg := range map[string]Config{
		"*1\r\n$11\r\n":             {MaxBulkBytes: 10},
		"*4\r\n":                    {MaxArgs: 3},
		"*2147483648\r\n":           {},
		"*1\r\n$536870913\r\n":      {},
		strings.Repeat("a", 70<<10): {},
	} {
		if _, err := NewReader(strings.NewReader(in), cfg).ReadCommand(); !errors.Is(err, ErrLimit) {
			t.Errorf("%.20q: %v", in, err)
		}
	}
	r := NewReader(strings.NewReader("\n\r\nPING\r\n"), Config{RefuseInline: true})
	if _, err := r.ReadCommand(); err == nil || r.Offset() != 3 {
		t.Errorf("inline: %v at %d", err, r.Offset())
	}
	r = NewReader(iotest.ErrReader(nil), Config{})
	if _, err := r.ReadCommand(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("empty reads: %v", err)
	}
}

func TestReaderGrowsWithArrival(t *testing.T) {
	r := NewReader(strings.NewReader("*1\r\n$536870912\r\nabc"), Config{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.ReadCommand()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("announcing 512 MiB allocated %d bytes", got)
	}
}

func TestReaderShrinks(t *testing.T) {
	const size = 8 << 20
	stream := AppendCommand(nil, "SET", "k", strings.Repeat("v", size))
	stream = append(stream, bytes.Repeat([]byte("*1\r\n$4\r\nPING\r\n"), 100_000)...)
	r := NewReader(&parts{parts: slices.Collect(slices.Chunk(stream, 16<<10))}, Config{})
	cmd, err := r.ReadCommand()
	if err != nil || len(cmd.Args[2]) != size {
		t.Fatal(err)
	}
	if len(r.data) > 2*size {
		t.Errorf("buffer of %d for a command of %d", len(r.data), size)
	}
	if got := len(readAll2(r)); got != 100_000 {
		t.Errorf("%d commands", got)
	}
	if len(r.data) > DefaultBufferBytes {
		t.Errorf("buffer of %d is kept", len(r.data))
	}
}

func readAll2(r *Reader) (all []string) {
	for {
		cmd, err := r.ReadCommand()
		if err != nil {
			return all
		}
		all = append(all, string(cmd.Raw))
	}
}

func TestReaderManyArgs(t *testing.T) {
	args := make([]string, 200_000)
	stream := AppendCommand(nil, args...)
	cmd, err := NewReader(bytes.NewReader(stream), Config{}).ReadCommand()
	if err != nil || len(cmd.Args) != len(args) || !bytes.Equal(cmd.Raw, stream) {
		t.Errorf("%d args, %v", len(cmd.Args), err)
	}
}

// FuzzReader: a Reader fed in pieces sees what ParseCommand sees in the whole.
func FuzzReader(f *testing.F) {
	stream, _ := sample()
	f.Add(stream, uint8(3))
	for in := range faults {
		f.Add([]byte(in), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		src := &parts{}
		for rest := in; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			src.parts = append(src.parts, rest[:n])
			rest = rest[n:]
		}
		r := NewReader(src, Config{})
		rest := in
		for {
			n, args, err := ParseCommand(rest, nil)
			for err == nil && len(args) == 0 {
				rest = rest[n:]
				n, args, err = ParseCommand(rest, nil)
			}
			cmd, rerr := r.ReadCommand()
			if err != nil {
				if rerr == nil {
					t.Fatalf("ParseCommand: %v, Reader: %q", err, cmd.Args)
				}
				return
			}
			if rerr != nil {
				if errors.Is(rerr, ErrLimit) {
					return
				}
				t.Fatalf("ParseCommand: %q, Reader: %v", args, rerr)
			}
			if !bytes.Equal(cmd.Raw, rest[:n]) || fmt.Sprintf("%q", cmd.Args) != fmt.Sprintf("%q", args) {
				t.Fatalf("ParseCommand: %q, Reader: %q", args, cmd.Args)
			}
			rest = rest[n:]
			if r.Offset() != int64(len(in)-len(rest)) {
				t.Fatalf("offset %d, want %d", r.Offset(), len(in)-len(rest))
			}
		}
	})
}
