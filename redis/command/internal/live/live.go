// Package live runs a server and asks it, for the generator of the command table
// and for the tests that hold the table against real servers. One goroutine uses a
// Server at a time.
package live

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redriver/redriver/redis/resp"
)

// startDeadline bounds how long a server may take to answer.
const startDeadline = 10 * time.Second

// Server is a running server and a connection to it.
type Server struct {
	process *exec.Cmd
	conn    net.Conn
	replies *resp.ReplyReader
	dir     string
}

// Find returns redis-server from the folder, or the file, that $REDRIVER_REDIS_BIN
// names, otherwise from PATH.
func Find() (string, error) {
	bin := os.Getenv("REDRIVER_REDIS_BIN")
	if bin == "" {
		path, err := exec.LookPath("redis-server")
		if err != nil {
			return "", fmt.Errorf("find redis-server (set REDRIVER_REDIS_BIN to its folder): %w", err)
		}
		return path, nil
	}
	if st, err := os.Stat(bin); err == nil && st.IsDir() {
		bin = filepath.Join(bin, "redis-server")
	}
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("find redis-server by REDRIVER_REDIS_BIN: %w", err)
	}
	return bin, nil
}

// Start runs a server on a free port of the loopback interface, without
// persistence, and waits until it answers.
func Start(bin string, modules ...string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redriver-command-")
	if err != nil {
		return nil, fmt.Errorf("make server folder: %w", err)
	}
	args := []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir}
	for _, module := range modules {
		args = append(args, "--loadmodule", module)
	}
	s := &Server{process: exec.Command(bin, args...), dir: dir}
	if err := s.process.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for end := time.Now().Add(startDeadline); ; time.Sleep(20 * time.Millisecond) {
		if s.conn, err = net.Dial("tcp", addr); err == nil {
			break
		}
		if time.Now().After(end) {
			s.Close()
			return nil, fmt.Errorf("wait for %s: %w", bin, err)
		}
	}
	s.replies = resp.NewReplyReader(s.conn, resp.Config{})
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Close ends the server and removes its folder.
func (s *Server) Close() {
	if s.conn != nil {
		s.conn.Close()
	}
	_ = s.process.Process.Kill()
	_ = s.process.Wait() // says that it was killed
	os.RemoveAll(s.dir)
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
