// Package live asks a server, for the generator of the command table and for the tests
// that hold the table against real servers. One goroutine uses a Server at a time.
package live

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/redriver/redriver/redis/resp"
)

const (
	// startDeadline bounds how long a server may take to answer.
	startDeadline = 10 * time.Second
	// dialInterval is the pause between attempts to reach a server that starts.
	dialInterval = 20 * time.Millisecond
)

// Server is a connection to a running server, and the server itself if Start started it.
type Server struct {
	conn    net.Conn
	replies *resp.ReplyReader
	process *exec.Cmd // nil: not ours
	dir     string    // of process
}

// Dial connects to a server that runs: ("tcp", "host:port") or ("unix", path).
func Dial(ctx context.Context, network, addr string) (*Server, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &Server{conn: conn, replies: resp.NewReplyReader(conn, resp.Config{})}, nil
}

// Start runs a server without persistence and without a port, which ends with Close or
// with ctx, and waits until it answers.
func Start(ctx context.Context, bin string, modules ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "redriver-command-")
	if err != nil {
		return nil, fmt.Errorf("make server folder: %w", err)
	}
	socket := filepath.Join(dir, "socket")
	args := []string{"--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir}
	for _, module := range modules {
		args = append(args, "--loadmodule", module)
	}
	process := exec.CommandContext(ctx, bin, args...)
	if err := process.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", bin, err), os.RemoveAll(dir))
	}
	dialing, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	s, err := dialStarting(dialing, socket)
	if err != nil {
		(&Server{process: process, dir: dir}).Close()
		return nil, fmt.Errorf("wait for %s: %w", bin, err)
	}
	s.process, s.dir = process, dir
	return s, nil
}

func dialStarting(ctx context.Context, socket string) (*Server, error) {
	for {
		s, err := Dial(ctx, "unix", socket)
		if err == nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(dialInterval):
		}
	}
}

// Close ends the connection. A server of Start it ends too, and removes its folder.
func (s *Server) Close() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait() // says that it was killed
		_ = os.RemoveAll(s.dir)
	}
}

// Do sends a command and returns its answer: string, int64, []any or nil. An error
// answer is the error.
func (s *Server) Do(args ...string) (any, error) {
	if _, err := s.conn.Write(resp.AppendCommand(nil, args...)); err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	reply, err := s.replies.Read()
	if err != nil {
		return nil, err
	}
	return value(reply), reply.Err()
}

// DoAll sends all commands at once and returns their answers, in which an error is one.
func (s *Server) DoAll(commands ...[]string) ([]any, error) {
	var request []byte
	for _, args := range commands {
		request = resp.AppendCommand(request, args...)
	}
	if _, err := s.conn.Write(request); err != nil {
		return nil, fmt.Errorf("send commands: %w", err)
	}
	answers := make([]any, len(commands))
	for i := range commands {
		reply, err := s.replies.Read()
		if err != nil {
			return nil, err
		}
		if answers[i] = value(reply); reply.Err() != nil {
			answers[i] = reply.Err()
		}
	}
	return answers, nil
}

// IsServerError reports whether the server answered, with an error.
func IsServerError(err error) bool {
	_, ok := errors.AsType[*resp.ServerError](err)
	return ok
}

func value(r resp.Reply) any {
	switch {
	case r.IsNull():
		return nil
	case r.Kind == resp.KindInt:
		return r.Int
	case r.Kind != resp.KindArray:
		return string(r.Str)
	}
	list := make([]any, len(r.Elems))
	for i, e := range r.Elems {
		list[i] = value(e)
	}
	return list
}
