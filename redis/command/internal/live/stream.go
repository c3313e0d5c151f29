package live

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redriver/redriver/redis/resp"
)

// streamTimeout bounds how long a server may be silent.
const streamTimeout = 10 * time.Second

// Stream is what a server sends to its replicas: commands as it rewrote them.
type Stream struct {
	conn net.Conn
	r    *resp.Reader
}

// Follow joins the server at addr ("host:port") as a replica does and passes over its snapshot. A replica that does not
// announce that it can tell where a snapshot ends (capa eof) is sent one with its length in front, and then the stream
// without having to acknowledge anything.
func Follow(ctx context.Context, addr string) (*Stream, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	if err := join(conn, r); err != nil {
		conn.Close()
		return nil, fmt.Errorf("follow %s: %w", addr, err)
	}
	return &Stream{conn: conn, r: resp.NewReader(r, resp.Config{})}, nil
}

func join(conn net.Conn, r *bufio.Reader) error {
	// A Valkey sends a hash with field expiries only to a replica that it knows to be as new as itself.
	for _, args := range [][]string{{"REPLCONF", "listening-port", "0"}, {"REPLCONF", "version", "99.0.0"}, {"PSYNC", "?", "-1"}} {
		if err := conn.SetDeadline(time.Now().Add(streamTimeout)); err != nil {
			return err
		}
		if _, err := conn.Write(resp.AppendCommand(nil, args...)); err != nil {
			return err
		}
		if line, err := lineOf(r); err != nil || args[0] == "PSYNC" && !strings.HasPrefix(line, "+FULLRESYNC") {
			return fmt.Errorf("%s: %q: %w", args[0], line, err)
		}
	}
	line, err := lineOf(r)
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(strings.TrimPrefix(line, "$"), 10, 64)
	if err != nil {
		return fmt.Errorf("size of snapshot: %q", line)
	}
	_, err = io.CopyN(io.Discard, r, size)
	return err
}

// lineOf reads a line that is not empty: empty ones are keep-alives.
func lineOf(r *bufio.Reader) (string, error) {
	for {
		line, err := r.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" || err != nil {
			return line, err
		}
	}
}

// Close leaves the server.
func (s *Stream) Close() { s.conn.Close() }

// bookkeeping are commands of the stream that change no data and frame none.
var bookkeeping = []string{"PING", "SELECT", "REPLCONF", "MULTI", "EXEC"}

// Until returns the commands up to the one that is called mark, without it and without bookkeeping.
func (s *Stream) Until(mark string) ([][][]byte, error) {
	var all [][][]byte
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(streamTimeout)); err != nil {
			return nil, err
		}
		c, err := s.r.ReadCommand()
		if err != nil {
			return nil, fmt.Errorf("read stream: %w", err)
		}
		switch {
		case len(c.Args) == 0 || slices.Contains(bookkeeping, strings.ToUpper(string(c.Args[0]))):
		case len(c.Args) > 1 && string(c.Args[1]) == mark:
			return all, nil
		default:
			var args [][]byte
			for _, a := range c.Args {
				args = append(args, slices.Clone(a))
			}
			all = append(all, args)
		}
	}
}
