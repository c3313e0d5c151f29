package source

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/source/spool"
)

// fakeMaster is a clock that is off by skew, and answers after going and before coming.
type fakeMaster struct {
	skew        time.Duration
	there, back time.Duration
	offset      event.Offset
	err         error
}

func (f *fakeMaster) look(context.Context) (look, error) {
	time.Sleep(f.there)
	l := look{offset: f.offset, at: time.Now().Add(f.skew)}
	time.Sleep(f.back)
	return l, f.err
}

func newFakeClock(f *fakeMaster) *clock { return &clock{now: time.Now, ask: f.look} }

func mustMeasure(t *testing.T, c *clock) {
	t.Helper()
	if err := c.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestClockIsKnownToWithinHalfARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, skew := range []time.Duration{0, time.Hour, -time.Hour, 300 * time.Millisecond} {
			f := &fakeMaster{skew: skew, there: 80 * time.Millisecond, back: 20 * time.Millisecond}
			c := newFakeClock(f)
			mustMeasure(t, c)
			got, within := c.reading()
			if within != 50*time.Millisecond || (got-skew).Abs() > within {
				t.Errorf("skew %v: measured %v within %v", skew, got, within)
			}
			// a closer look counts more, a wider one less
			f.there, f.back = time.Millisecond, time.Millisecond
			mustMeasure(t, c)
			if got, within := c.reading(); got != skew || within != time.Millisecond {
				t.Errorf("skew %v: measured %v within %v at the second look", skew, got, within)
			}
			f.there = 30 * time.Millisecond
			mustMeasure(t, c)
			if got, _ := c.reading(); got != skew {
				t.Errorf("skew %v: a wide look made it %v", skew, got)
			}
			// somebody sets the master's clock
			f.skew += time.Minute
			mustMeasure(t, c)
			if got, within := c.reading(); (got - f.skew).Abs() > within {
				t.Errorf("skew %v became %v, measured %v within %v", skew, f.skew, got, within)
			}
			// what was close once does not stand for ever
			f.skew += time.Millisecond
			time.Sleep(clockAge)
			mustMeasure(t, c)
			if got, within := c.reading(); (got - f.skew).Abs() > within {
				t.Errorf("skew %v became %v after a minute, measured %v within %v", skew, f.skew, got, within)
			}
		}
	})
}

// TestWhatWaitedIsStampedByTheLooks: the link reads at once what the master did over minutes.
func TestWhatWaitedIsStampedByTheLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeMaster{skew: time.Hour, offset: 1000}
		c := newFakeClock(f)
		began := time.Now().Add(f.skew)
		for range 60 { // 100 bytes in each of 60 seconds, and a look behind them
			mustMeasure(t, c)
			time.Sleep(clockEach)
			f.offset += 100
		}
		mustMeasure(t, c)
		time.Sleep(time.Minute)
		read := time.Now()
		for at := event.Offset(1000); at < 7000; {
			s, until := c.stamp(read, at)
			sec := int64(at-1000) / 100
			want := began.Add(time.Duration(sec+1) * clockEach)
			if s.SourceMs != want.UnixMilli() || until != at+100 || s.CapturedMs != read.UnixMilli() {
				t.Fatalf("offset %d: carried out at %d up to offset %d, want %d up to %d", at, s.SourceMs, until, want.UnixMilli(), at+100)
			}
			at = until
		}
		if s, until := c.stamp(read, 7000); s.SourceMs != read.Add(f.skew).UnixMilli() || until != math.MaxInt64 {
			t.Errorf("what nobody looked at: %d until %d", s.SourceMs, until)
		}
	})
}

func TestLooksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeMaster{}
		c := newFakeClock(f)
		for range 5 * maxLooks {
			f.offset += 10
			mustMeasure(t, c)
			time.Sleep(time.Second)
		}
		if len(c.looks) > maxLooks {
			t.Errorf("%d looks", len(c.looks))
		}
		// the newest is kept, and each is later than the one before it
		last := look{}
		for _, l := range c.looks {
			if l.offset <= last.offset || !l.at.After(last.at) {
				t.Fatalf("%+v behind %+v", l, last)
			}
			last = l
		}
		if f.offset-last.offset > 10 {
			t.Errorf("the last one is at offset %d of %d", last.offset, f.offset)
		}
		n := len(c.looks)
		mustMeasure(t, c) // nothing new
		if len(c.looks) != n {
			t.Error("a look at an idle master is kept")
		}
	})
}

func TestStampsAreCoarse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeClock(&fakeMaster{skew: time.Hour})
		mustMeasure(t, c)
		seen := map[spool.Stamp]bool{}
		for range 100 {
			time.Sleep(time.Millisecond)
			s, _ := c.stamp(time.Now(), 5)
			seen[s] = true
			if d := time.Now().UnixMilli() - s.CapturedMs; d < 0 || d > 10 || s.SourceMs-s.CapturedMs != time.Hour.Milliseconds() {
				t.Fatalf("stamp %+v at %d", s, time.Now().UnixMilli())
			}
		}
		if len(seen) != 10 {
			t.Errorf("%d stamps in 100 ms", len(seen))
		}
	})
}

func TestAMasterThatDoesNotTellItsTime(t *testing.T) {
	refused := &ServerError{Addr: "a:1", Asked: "TIME", Answer: "NOPERM this user has no permissions to run the 'time' command"}
	l := &link{cfg: &Config{Dialer: &topology.Dialer{}, lookAt: func(context.Context, *redis.Client) (look, error) { return look{}, refused }}, log: slog.New(slog.DiscardHandler)}
	_, _, err := l.watchClock(t.Context(), "127.0.0.1:1", master{version: "6.2.14"})
	if got, ok := errors.AsType[*ServerError](err); !ok || !got.permanent() || !strings.Contains(err.Error(), "+time") {
		t.Errorf("Redis 6.2: %v", err)
	}
	for _, version := range []string{"7.0.15", "8.6.3", "9.1.2"} {
		c, stop, err := l.watchClock(t.Context(), "127.0.0.1:1", master{version: version})
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		read := time.UnixMilli(77)
		if s, until := c.stamp(read, 1); s != (spool.Stamp{CapturedMs: 77, SourceMs: 77}) || until != math.MaxInt64 {
			t.Errorf("%s: stamp %+v", version, s)
		}
		stop()
	}
}

func TestTimesToLiveBecomePointsInTime(t *testing.T) {
	const readMs, sourceMs = 5_000_000, 1_000_000
	s := openSpool(t)
	n, err := s.Begin(spool.Header{Kind: spool.Stream})
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{
		"SET a 1", "SETEX a 10 v", "expire a 10", "MULTI", "SET a v EX 10 NX", "INCR a", "PEXPIRE a 10", "EXEC", "RESTORE a 10 p REPLACE", "PEXPIREAT a 10", "EXPIRE a -1",
	}
	want := []string{
		"SET a 1", "SET a v PXAT 1010000", "PEXPIREAT a 1010000", "SET a v PXAT 1010000 NX; INCR a; PEXPIREAT a 1000010", "RESTORE a 1000010 p REPLACE ABSTTL",
		"PEXPIREAT a 10", "DEL a",
	}
	for i, b := range commands(lines...) { // in pieces of one byte, all read at once
		if err := s.AppendAt(t.Context(), []byte{b}, spool.Stamp{CapturedMs: readMs, SourceMs: sourceMs}); err != nil {
			t.Fatal(i, err)
		}
	}
	r, in := newUnitReader(s.Reader(spool.Place{Section: n}), 0, 1<<20), &interpreter{}
	for _, line := range want {
		u, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		m, err := in.interpret(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := partText(t, m.parts[0].bytes); got != line || u.stamp.CapturedMs != readMs {
			t.Errorf("%s (read at %d), want %s", got, u.stamp.CapturedMs, line)
		}
	}
	if in.absolute != 6 {
		t.Errorf("%d commands are counted, want 6", in.absolute)
	}
}

func partText(t *testing.T, b []byte) string {
	t.Helper()
	var all []string
	for len(b) > 0 {
		n, args, err := resp.ParseCommand(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, a := range args {
			words = append(words, string(a))
		}
		all, b = append(all, strings.Join(words, " ")), b[n:]
	}
	return strings.Join(all, "; ")
}

// TestEveryUnitHasTheStampOfItsFirstByte: however the reads are cut.
func TestEveryUnitHasTheStampOfItsFirstByte(t *testing.T) {
	line := commands("SET key value")
	const units = 50
	for step := 1; step < 3*len(line); step += 4 {
		s := openSpool(t)
		n, err := s.Begin(spool.Header{Kind: spool.Stream, Offset: 1000})
		if err != nil {
			t.Fatal(err)
		}
		stream := []byte(strings.Repeat(string(line), units))
		r := newUnitReader(s.Reader(spool.Place{Section: n}), 1000, 1<<20)
		for at := 0; at < len(stream); at += step {
			stamp := spool.Stamp{CapturedMs: int64(at + 1), SourceMs: int64(at + 1)}
			if err := s.AppendAt(t.Context(), stream[at:min(at+step, len(stream))], stamp); err != nil {
				t.Fatal(err)
			}
			for at%3 == 0 { // sometimes it falls behind
				u, err := r.next()
				if errors.Is(err, spool.ErrEmpty) {
					break
				}
				checkStamp(t, u, step)
			}
		}
		for err == nil {
			var u *streamUnit
			if u, err = r.next(); err == nil {
				checkStamp(t, u, step)
			}
		}
	}
}

func checkStamp(t *testing.T, u *streamUnit, step int) {
	t.Helper()
	first := int(u.begin - 1000)
	if want := int64(first/step*step + 1); u.stamp.SourceMs != want {
		t.Fatalf("pieces of %d bytes: unit at byte %d has stamp %d, want %d", step, first, u.stamp.SourceMs, want)
	}
}
