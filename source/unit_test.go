package source

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/source/spool"
)

func openSpool(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func commands(lines ...string) (b []byte) {
	for _, l := range lines {
		b = resp.AppendCommand(b, strings.Fields(l)...)
	}
	return b
}

// readUnits describes every unit that is whole, one a line.
func readUnits(r *unitReader) (units []string, err error) {
	for {
		u, err := r.next()
		if err != nil {
			return units, err
		}
		var parts []string
		for _, c := range u.commands {
			var words []string
			for _, a := range u.argsOf(c) {
				words = append(words, string(a))
			}
			parts = append(parts, strings.Join(words, " "))
		}
		units = append(units, fmt.Sprintf("%d-%d %v %s", u.begin, u.end, u.atomic, strings.Join(parts, "; ")))
	}
}

func TestUnitsAreCutAtTheSamePlacesHoweverTheBytesArrive(t *testing.T) {
	stream := commands("SELECT 0", "set a 1", "MULTI", "INCR a", "LPUSH b x", "EXEC", "PING")
	stream = append(stream, "\n"...)
	stream = append(stream, commands("multi", "DEL a", "exec", "SET c 2")...)
	whole := func(step int) []string {
		s := openSpool(t)
		n, err := s.Begin(spool.Header{Kind: spool.Stream, Offset: 1000})
		if err != nil {
			t.Fatal(err)
		}
		r := newUnitReader(s.Reader(spool.Place{Section: n}), 1000, 1<<20)
		var all []string
		for i := 0; i < len(stream); i += step {
			if err := s.Append(t.Context(), stream[i:min(i+step, len(stream))]); err != nil {
				t.Fatal(err)
			}
			units, err := readUnits(r)
			if !errors.Is(err, spool.ErrEmpty) {
				t.Fatal(err)
			}
			all = append(all, units...)
		}
		return all
	}
	want := whole(len(stream))
	if len(want) != 7 || !strings.Contains(want[2], "true INCR a; LPUSH b x") {
		t.Fatalf("units: %q", want)
	}
	if last := want[len(want)-1]; !strings.Contains(last, fmt.Sprintf("-%d ", 1000+len(stream))) {
		t.Fatalf("last unit %q does not end at offset %d", last, 1000+len(stream))
	}
	for step := 1; step < 40; step++ {
		if got := whole(step); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("step %d:\n%s\nwant\n%s", step, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestAUnitLargerThanTheBoundIsAnErrorThatNamesTheOption(t *testing.T) {
	s := openSpool(t)
	n, _ := s.Begin(spool.Header{Kind: spool.Stream})
	big := resp.AppendCommand(nil, "SET", "k", strings.Repeat("x", 2<<20))
	if err := s.Append(t.Context(), big); err != nil {
		t.Fatal(err)
	}
	_, err := newUnitReader(s.Reader(spool.Place{Section: n}), 0, 1<<20).next()
	if ClassOf(err) != Stop || !strings.Contains(err.Error(), "unit.max.bytes") {
		t.Fatalf("got %v", err)
	}
	s.Done()
	r := newUnitReader(s.Reader(spool.Place{Section: n}), 0, 4<<20)
	if _, err := r.next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Fatalf("at the end: %v", err)
	}
}

func TestStreamThatIsNotRESPStops(t *testing.T) {
	s := openSpool(t)
	n, _ := s.Begin(spool.Header{Kind: spool.Stream, Offset: 7})
	if err := s.Append(t.Context(), []byte("*1\r\n$-5\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := newUnitReader(s.Reader(spool.Place{Section: n}), 7, 1<<20).next(); err == nil || errors.Is(err, spool.ErrEmpty) {
		t.Fatalf("got %v", err)
	}
}

// interpretOne reads the first unit of the stream.
func interpretOne(t *testing.T, in *interpreter, lines ...string) (*meaning, error) {
	t.Helper()
	s := openSpool(t)
	n, _ := s.Begin(spool.Header{Kind: spool.Stream})
	if err := s.Append(t.Context(), commands(lines...)); err != nil {
		t.Fatal(err)
	}
	u, err := newUnitReader(s.Reader(spool.Place{Section: n}), 0, 1<<20).next()
	if err != nil {
		t.Fatal(err)
	}
	return in.interpret(u)
}

func refuseToAsk([][]byte) ([][]byte, error) { return nil, errors.New("asked") }

func TestCommandsThatCarryNothing(t *testing.T) {
	checkpoint := string(own.Key(own.Checkpoint, "sink", 5))
	for _, line := range []string{"PING", "PUBLISH __sentinel__:hello x", "SPUBLISH c m", "REPLCONF GETACK *", "OPINFO x", "SET " + checkpoint + " 1", "DEL " + checkpoint} {
		in := &interpreter{ask: refuseToAsk}
		m, err := interpretOne(t, in, line)
		if counted := strings.Contains(line, "PUBLISH") || strings.HasPrefix(line, "OPINFO"); counted != (in.dropped == 1) {
			t.Errorf("%s: counted %d times", line, in.dropped)
		}
		if err != nil || len(m.parts) != 0 || m.flush {
			t.Errorf("%s: %+v, %v", line, m, err)
		}
		if want := strings.HasPrefix(line, "REPLCONF GETACK"); m != nil && m.asked != want {
			t.Errorf("%s: asked %v", line, m.asked)
		}
	}
}

func TestAKeyThatOnlyLooksLikeOneOfOursIsCarried(t *testing.T) {
	for _, key := range []string{"redriver!c!sink!{wrong}", "redriver!c!sink", "redriver:orders", "redriver!x!sink!{06S}"} {
		m, err := interpretOne(t, &interpreter{ask: refuseToAsk}, "SET "+key+" 1")
		if err != nil || len(m.parts) != 1 {
			t.Errorf("%s: %+v, %v", key, m, err)
		}
	}
}

func TestASinksTransactionLosesItsCheckpointAndKeepsTheRest(t *testing.T) {
	s := slot.Of([]byte("a"))
	m, err := interpretOne(t, &interpreter{ask: refuseToAsk}, "MULTI", "INCR a", "SET "+string(own.Key(own.Checkpoint, "sink", s))+" 9", "EXEC")
	if err != nil || len(m.parts) != 1 || m.parts[0].count != 1 || string(m.parts[0].bytes) != string(commands("INCR a")) {
		t.Fatalf("%+v, %v", m, err)
	}
}

func TestATransactionOverSlotsHasAPartForEach(t *testing.T) {
	m, err := interpretOne(t, &interpreter{ask: refuseToAsk}, "MULTI", "SET a 1", "SET b 2", "APPEND a 3", "EXEC")
	if err != nil || len(m.parts) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	if got := string(m.parts[0].bytes); got != string(commands("SET a 1", "APPEND a 3")) || m.parts[0].slot != slot.Of([]byte("a")) {
		t.Errorf("first part %q", got)
	}
	if got := string(m.parts[1].bytes); got != string(commands("SET b 2")) || string(m.parts[1].key) != "b" {
		t.Errorf("second part %q", got)
	}
}

func TestDatabaseIsRememberedOverUnits(t *testing.T) {
	in := &interpreter{ask: refuseToAsk}
	if _, err := interpretOne(t, in, "SELECT 12"); err != nil {
		t.Fatal(err)
	}
	if m, err := interpretOne(t, in, "SET a 1"); err != nil || m.parts[0].db != 12 {
		t.Fatalf("%+v, %v", m, err)
	}
}

func TestWhatCannotBeCarriedStopsAndIsNamed(t *testing.T) {
	for line, want := range map[string]string{
		"MSET a 1 b 2":                 "slots",
		"FUNCTION KILL":                "does not know",
		"FUNCTION RESTORE x":           "payload",
		"MULTI;SET a 1;FUNCTION FLUSH": "atomically",
		"SWAPDB 0 1":                   "topic.partitions",
		"SELECT x":                     "database",
		"MULTI;SET a 1;FLUSHALL":       "flush",
	} {
		lines := strings.Split(line, ";")
		if lines[0] == "MULTI" {
			lines = append(lines, "EXEC")
		}
		_, err := interpretOne(t, &interpreter{ask: refuseToAsk}, lines...)
		if ClassOf(err) != Stop || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestUnknownCommandsAreAskedOfTheSource(t *testing.T) {
	in := &interpreter{ask: func(args [][]byte) ([][]byte, error) { return args[2:3], nil }}
	m, err := interpretOne(t, in, "JSON.NEW x key")
	if err != nil || len(m.parts) != 1 || string(m.parts[0].key) != "key" {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := interpretOne(t, &interpreter{ask: refuseToAsk}, "JSON.NEW x key"); err == nil {
		t.Fatal("an unknown command was taken without asking")
	}
}

func TestGateCutsBetweenUnitsAndBeginsANewEpoch(t *testing.T) {
	g := newGate()
	if closed, _ := g.pass(nil); closed == nil {
		t.Fatal("a fresh gate is open")
	}
	g.set(true)
	at := event.Position{Offset: 5}
	var epoch uint64
	if closed, err := g.pass(func(e uint64) (event.Position, error) { epoch = e; return at, nil }); closed != nil || err != nil {
		t.Fatal(closed, err)
	}
	g.set(false)
	if err := g.cut(func(p event.Position) error {
		if p != at {
			t.Errorf("cut sees %v", p)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	g.set(true)
	_, _ = g.pass(func(e uint64) (event.Position, error) {
		if e == epoch {
			t.Error("the epoch did not move on with the cut")
		}
		return at, nil
	})
}

func TestAGateThatIsRevokedLetsNothingBeCommitted(t *testing.T) {
	g := newGate()
	g.set(true)
	if err := g.mayCommit(); err != nil {
		t.Fatal(err)
	}
	_ = g.cut(func(event.Position) error { g.revoke(); return nil })
	if err := g.mayCommit(); !errors.Is(err, errRevoked) {
		t.Errorf("commit: %v", err)
	}
	if _, err := g.pass(nil); !errors.Is(err, errRevoked) {
		t.Errorf("pass: %v", err)
	}
	g.move(event.Position{Offset: 7})
	if err := g.mayCommit(); !errors.Is(err, errRevoked) {
		t.Errorf("commit of the same session: %v", err)
	}
	g.stand(event.Position{Offset: 5})
	if err := g.mayCommit(); err != nil {
		t.Errorf("commit of the next session: %v", err)
	}
}
