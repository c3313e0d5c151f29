package source

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/source/spool"
)

// trickle is a connection that has a piece for each read: those that are there at once, as TLS has its records, and then
// those that come one by one.
type trickle struct {
	net.Conn

	there, later int
	every        time.Duration
}

func (c *trickle) SetReadDeadline(time.Time) error { return nil }

func (c *trickle) Read(p []byte) (int, error) {
	switch {
	case c.there > 0:
		c.there--
	case c.later > 0:
		c.later--
		time.Sleep(c.every)
	default:
		return 0, io.EOF
	}
	return copy(p, "*1\r\n$4\r\nPING\r\n"), nil
}

func TestALinkRestsOnlyWhenItHasReadAllThatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := openSpool(t)
		if _, err := sp.Begin(spool.Header{Kind: spool.Stream}); err != nil {
			t.Fatal(err)
		}
		l := &link{cfg: &Config{LinkTimeout: time.Hour}, spool: sp, status: &ShardStatus{}}
		l.pace(80 * time.Millisecond)
		const rest = 10 * time.Millisecond
		conn := &trickle{there: 1000, later: 7, every: 30 * time.Millisecond}
		begun := time.Now()
		if err := l.stream(t.Context(), newReplConn(conn, ReadFromMaster, "a:1"), &clock{}, 0); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 7*(30*time.Millisecond+rest) {
			t.Errorf("%v, want a rest of %v behind each of 7 reads that waited", took, rest)
		}
		if last, _ := sp.Last(); last.End() != event.Offset(1007*len("*1\r\n$4\r\nPING\r\n")) {
			t.Errorf("%d bytes are in the spool", last.End())
		}
	})
}
