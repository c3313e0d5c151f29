package source

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/topology"
)

// peer answers what we send with fixed bytes: one answer for each line that begins a command.
func peer(t *testing.T, answers ...string) *replConn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go func() {
		buf := make([]byte, 4096)
		for _, a := range answers {
			if _, err := theirs.Read(buf); err != nil {
				return
			}
			if _, err := io.Copy(theirs, iotest.OneByteReader(strings.NewReader(a))); err != nil {
				return
			}
		}
	}()
	return newReplConn(ours, roleMaster, "test:1")
}

func TestHandshakeToleratesWhatOldServersDoNotKnow(t *testing.T) {
	c := peer(t, "+OK\r\n", "\n\n+PONG\r\n", "+OK\r\n", "-ERR Unrecognized REPLCONF option: capa\r\n", "-ERR Unrecognized REPLCONF option: version\r\n")
	cfg := &Config{Dialer: &topology.Dialer{Password: "x"}}
	if err := c.greet(cfg, "7.0.15", true); err != nil {
		t.Fatal(err)
	}
}

func TestHandshakeErrorsNameCauseAndNextStep(t *testing.T) {
	for answer, want := range map[string]string{
		"-NOAUTH Authentication required.":                           "redis.password",
		"-WRONGPASS invalid username-password pair":                  "redis.username",
		"-NOPERM this user has no permissions to run the 'psync'":    "+psync",
		"-ERR unknown command 'PSYNC', with args beginning with: ''": "proxy",
	} {
		_, err := peer(t, answer+"\r\n").psync(nil, time.Second)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "test:1") {
			t.Errorf("%s: %v", answer, err)
		}
	}
	for _, answer := range []string{"-LOADING Redis is loading", "-NOMASTERLINK Can't SYNC", "-MISCONF x"} {
		_, err := peer(t, answer+"\r\n").psync(nil, time.Second)
		if refused, ok := errors.AsType[*ServerError](err); !ok || !refused.transient() {
			t.Errorf("%s: %v is not transient", answer, err)
		}
	}
}

func TestPsyncAnswers(t *testing.T) {
	id := strings.Repeat("ab", 20)
	want, _ := event.ParseReplID(id)
	from := &event.Position{ReplID: want, Offset: 41}
	if r, err := peer(t, "\n\n+FULLRESYNC "+id+" 77\r\n").psync(nil, time.Second); err != nil || !r.full || r.id != want || r.offset != 77 {
		t.Errorf("full: %+v, %v", r, err)
	}
	if r, err := peer(t, "+CONTINUE "+id+"\r\n").psync(from, time.Second); err != nil || r.full || r.id != want {
		t.Errorf("partial: %+v, %v", r, err)
	}
	if r, err := peer(t, "+CONTINUE\r\n").psync(from, time.Second); err != nil || r.full || !r.id.IsZero() {
		t.Errorf("partial without a name: %+v, %v", r, err)
	}
	if r, err := peer(t, "+RDBCHANNELSYNC 8\r\n").psync(nil, time.Second); err != nil || r.full || r.channel != redisChannel || r.client != "8" {
		t.Errorf("channel of Redis: %+v, %v", r, err)
	}
	if r, err := peer(t, "+DUALCHANNELSYNC\r\n").psync(nil, time.Second); err != nil || r.full || r.channel != valkeyChannel {
		t.Errorf("channel of Valkey: %+v, %v", r, err)
	}
	for _, bad := range []string{"+FULLRESYNC", "+FULLRESYNC x 1", "+FULLRESYNC " + id + " x", "+CONTINUE x", "+OK"} {
		if r, err := peer(t, bad+"\r\n").psync(from, time.Second); err == nil {
			t.Errorf("%s: %+v", bad, r)
		}
	}
}

// tcp is a pair of connected sockets: unlike net.Pipe they keep what was written before the other end closed.
func tcp(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func receive(t *testing.T, wire string) (snapshot, behind string, err error) {
	t.Helper()
	ours, theirs := tcp(t)
	defer ours.Close()
	go func() {
		_, _ = theirs.Write([]byte(wire))
		theirs.Close()
	}()
	c := newReplConn(ours, roleMaster, "test:1")
	var got bytes.Buffer
	err = c.receiveSnapshot(t.Context(), time.Second, func(int64) {}, func(p []byte) error {
		got.Write(p)
		return nil
	})
	if err != nil {
		return got.String(), "", err
	}
	rest, _ := io.ReadAll(c.r)
	return got.String(), string(rest), nil
}

func TestSnapshotOfKnownAndUnknownSizeEndsWhereTheStreamBegins(t *testing.T) {
	mark := "0123456789abcdefghijklmnopqrstuvwxyzABCD"
	for _, body := range []string{"", "R", "REDIS0010", strings.Repeat("x", 300_000), mark[:39], mark[:20] + mark[:39]} {
		for name, wire := range map[string]string{
			"sized":  "\n\n\n$" + itoa(len(body)) + "\r\n" + body + "*1\r\n$4\r\nPING\r\n",
			"marked": "\n$EOF:" + mark + "\r\n" + body + mark + "*1\r\n$4\r\nPING\r\n",
		} {
			snapshot, behind, err := receive(t, wire)
			if err != nil || snapshot != body || behind != "*1\r\n$4\r\nPING\r\n" {
				t.Errorf("%s snapshot of %d bytes: got %d, %q behind it, %v", name, len(body), len(snapshot), behind, err)
			}
		}
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// The end mark and the bytes around it arrive cut at every place.
func TestEndMarkSplitOverReadsIsFound(t *testing.T) {
	mark := strings.Repeat("abcdefghij", 4)
	body := "REDIS" + mark[:17]
	wire := body + mark + "+stream"
	for i := range len(wire) {
		ours, theirs := tcp(t)
		go func() {
			_, _ = theirs.Write([]byte("$EOF:" + mark + "\r\n"))
			_, _ = theirs.Write([]byte(wire[:i]))
			_, _ = theirs.Write([]byte(wire[i:]))
			theirs.Close()
		}()
		c := newReplConn(ours, roleMaster, "test:1")
		var got bytes.Buffer
		err := c.receiveSnapshot(t.Context(), time.Second, func(int64) {}, func(p []byte) error { got.Write(p); return nil })
		rest, _ := io.ReadAll(c.r)
		ours.Close()
		if err != nil || got.String() != body || string(rest) != "+stream" {
			t.Fatalf("cut at %d: %q, %q behind it, %v", i, got.String(), rest, err)
		}
	}
}

func TestTruncatedSnapshotIsAnError(t *testing.T) {
	for _, wire := range []string{"$10\r\nREDIS", "$EOF:" + strings.Repeat("m", 40) + "\r\nREDIS", "", "-ERR no\r\n", "$x\r\n"} {
		if _, _, err := receive(t, wire); err == nil {
			t.Errorf("%q: no error", wire)
		}
	}
}

func TestEndOffsets(t *testing.T) {
	id := strings.Repeat("ab", 20)
	want, _ := event.ParseReplID(id)
	if at, client, err := parseEndOffset("$ENDOFF:77 " + id + " -1 8"); err != nil || at != (event.Position{ReplID: want, Offset: 77}) || client != "8" {
		t.Errorf("%+v, client %s, %v", at, client, err)
	}
	for _, bad := range []string{"", "$EOF:x", "$ENDOFF:77 " + id + " 0", "$ENDOFF:x " + id + " 0 8", "$ENDOFF:-1 " + id + " 0 8", "$ENDOFF:7 x 0 8"} {
		if at, client, err := parseEndOffset(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %+v, client %s, %v", bad, at, client, err)
		}
	}
}
