package source

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/source/spool"
)

// lengthsByParse cuts a stream by the parser, which sees it whole.
func lengthsByParse(stream []byte) (lengths []int, err error) {
	r := &unitReader{}
	for len(stream) > 0 {
		n, err := r.parse(stream)
		if err != nil {
			return lengths, err
		}
		lengths = append(lengths, n)
		stream = stream[n:]
	}
	return lengths, nil
}

func lengthsByScan(stream []byte, step func() int) (lengths []int, err error) {
	s := &unitScan{}
	for len(stream) > 0 {
		n, done, err := s.feed(stream[:min(step(), len(stream))])
		if err != nil {
			return lengths, err
		}
		stream = stream[n:]
		if done {
			lengths = append(lengths, int(s.size))
			s = &unitScan{}
		}
	}
	return lengths, nil
}

func TestTheScanEndsUnitsWhereTheParserDoes(t *testing.T) {
	stream := append(commands("SET a 1", "MULTI", "SET b 2", "multi", "EXECUTE x", "exec", "PING"), "\n\r\nPING\r\n*0\r\n"...)
	stream = append(stream, resp.AppendCommand(nil, "SET", "k", "a\r\n$5\r\n*3\r\nEXEC\r\n")...)
	stream = append(stream, commands("MULTI")...)
	stream = append(stream, "\n*0\r\n"...)
	stream = append(stream, resp.AppendCommand(nil, "RPUSH", "k", "", strings.Repeat("x", 3000))...)
	stream = append(stream, commands("EXEC", "MULTI", "EXEC")...)
	want, err := lengthsByParse(stream)
	if err != nil || len(want) != 10 {
		t.Fatalf("%v, %v", want, err)
	}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		got, err := lengthsByScan(stream, func() int { return 1 + rnd.IntN(1+int(seed)) })
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("seed %d: %v, want %v: %v", seed, got, want, err)
		}
	}
}

func FuzzUnitScan(f *testing.F) {
	f.Add(commands("MULTI", "SET a 1", "EXEC", "PING"), 3)
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n\n"), 1)
	f.Add([]byte("*-1\r\n*0\r\nMULTI\r\nEXEC\r\n"), 2)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		want, err := lengthsByParse(stream)
		step = 1 + step&63
		got, scanErr := lengthsByScan(stream, func() int { return step })
		if len(got) < len(want) || fmt.Sprint(got[:len(want)]) != fmt.Sprint(want) {
			t.Fatalf("parser: %v (%v), scan: %v (%v)", want, err, got, scanErr)
		}
	})
}

// largeUnits has a transaction and a command that do not fit the buffer, among small units.
func largeUnits() []byte {
	stream := commands("SET a 1", "MULTI")
	for i := range 200_000 {
		stream = append(stream, resp.AppendCommand(nil, "RPUSH", "list", fmt.Sprint("element of the list ", i))...)
	}
	stream = append(stream, commands("EXEC", "SET b 2")...)
	members := []string{"SADD", "set"}
	for i := range 300_000 {
		members = append(members, fmt.Sprint("member of the set ", i))
	}
	stream = append(stream, resp.AppendCommand(nil, members...)...)
	return append(stream, commands("SET c 3")...)
}

func TestLargeUnitsAreReadTwiceFromTheSpool(t *testing.T) {
	stream := largeUnits()
	s := openSpool(t)
	n, err := s.Begin(spool.Header{Kind: spool.Stream, Offset: 1000})
	if err != nil {
		t.Fatal(err)
	}
	open := func(at event.Offset) unitBytes { return s.Reader(spool.Place{Section: n, Byte: int64(at - 1000)}) }
	r := newUnitReader(open(1000), 1000, 64<<20)
	reopened := 0
	r.reopen = func(at event.Offset) unitBytes { reopened++; return open(at) }
	in := &interpreter{ask: refuseToAsk}
	var wire []byte
	var counts []uint32
	take := func() {
		for {
			u, err := r.next()
			if errors.Is(err, spool.ErrEmpty) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m, err := in.interpret(u)
			if err != nil || len(m.parts) != 1 {
				t.Fatalf("%d parts, %v", len(m.parts), err)
			}
			wire = append(wire, m.parts[0].bytes...)
			counts = append(counts, m.parts[0].count)
			if u.large && len(u.commands) == 1 && len(u.args) > headArgs {
				t.Errorf("%d arguments are kept of a large command", len(u.args))
			}
		}
	}
	began := time.Now()
	for rest := stream; len(rest) > 0; {
		k := min(5000, len(rest))
		if err := s.Append(t.Context(), rest[:k]); err != nil {
			t.Fatal(err)
		}
		rest = rest[k:]
		take()
	}
	want := bytes.Replace(bytes.Replace(stream, commands("MULTI"), nil, 1), commands("EXEC"), nil, 1)
	if !bytes.Equal(wire, want) || fmt.Sprint(counts) != "[1 200000 1 1 1]" {
		t.Errorf("%d bytes of %d, commands %v", len(wire), len(want), counts)
	}
	if reopened != 2 {
		t.Errorf("%d units were read again, want the two large ones", reopened)
	}
	if cap(r.buf) > keepBufferBytes || cap(r.unit.args) > keepArgs && r.unit.large {
		t.Errorf("a buffer of %d bytes and %d arguments stay", cap(r.buf), cap(r.unit.args))
	}
	// Parsed again at each of its arrivals, this would take minutes.
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("%d MB in small pieces took %v", len(stream)>>20, d)
	}
}

func TestALargeUnitIsInMemoryOnce(t *testing.T) {
	members := make([]string, 2, 400_002)
	members[0], members[1] = "SADD", "set"
	for range 400_000 {
		members = append(members, strings.Repeat("m", 150))
	}
	stream := resp.AppendCommand(nil, members...)
	s, err := spool.Open(spool.Config{Dir: t.TempDir(), MemoryBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, _ := s.Begin(spool.Header{Kind: spool.Stream})
	if err := s.Append(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	open := func(at event.Offset) unitBytes { return s.Reader(spool.Place{Section: n, Byte: int64(at)}) }
	r := newUnitReader(open(0), 0, 256<<20)
	r.reopen = open
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	u, err := r.next()
	if err != nil {
		t.Fatal(err)
	}
	m, err := (&interpreter{ask: refuseToAsk}).interpret(u)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if !bytes.Equal(m.parts[0].bytes, stream) {
		t.Error("the command is another one")
	}
	if got := int64(after.TotalAlloc - before.TotalAlloc); got > int64(len(stream))+2*keepBufferBytes+4<<20 {
		t.Errorf("%d MB were allocated for a command of %d MB", got>>20, len(stream)>>20)
	}
}
