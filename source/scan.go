package source

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/redriver/redriver/redis/resp"
)

// unitScan finds the end of a unit in bytes as they come, each of which it sees once and none of which it keeps: how long a
// transaction that arrives slowly, or does not fit the buffer, waits for its end costs nothing. What it passes over is
// parsed when it is there whole, so it checks no more than the framing that it needs.
type unitScan struct {
	size  int64 // of what was seen of the unit
	multi bool  // behind MULTI
	args  int   // of the command, that are still to come
	skip  int64 // bytes of the argument, and CRLF, that are still to come
	name  []byte
	named bool   // name is the whole first argument
	line  []byte // what is there of a line
}

// scanLineBytes bounds a line; the longest is an inline command, which no master sends but as a keep-alive.
const scanLineBytes = 64 << 10

var errFraming = errors.New("neither a command nor a keep-alive")

// feed takes the next bytes and returns how many of them belong to the unit, and whether it ends there.
func (s *unitScan) feed(p []byte) (n int, done bool, err error) {
	for n < len(p) && !done {
		if s.skip > 0 {
			k := int(min(s.skip, int64(len(p)-n)))
			s.keepName(p[n : n+k])
			s.skip -= int64(k)
			n += k
			if s.skip == 0 {
				done = s.argument()
			}
			continue
		}
		i := bytes.IndexByte(p[n:], '\n')
		k := i + 1
		if i < 0 {
			k = len(p) - n
		}
		s.line = append(s.line, p[n:n+k]...)
		n += k
		if len(s.line) > scanLineBytes {
			return n, false, fmt.Errorf("line of more than %d bytes: %w", scanLineBytes, errFraming)
		}
		if i < 0 {
			break
		}
		done, err = s.head(bytes.TrimRight(s.line, "\r\n"))
		s.line = s.line[:0]
		if err != nil {
			return n, false, err
		}
	}
	s.size += int64(n)
	return n, done, nil
}

// announced is how long the unit is at least.
func (s *unitScan) announced() int64 {
	if s.skip > math.MaxInt64-s.size {
		return math.MaxInt64
	}
	return s.size + s.skip
}

// head takes the line before a command or before an argument.
func (s *unitScan) head(line []byte) (done bool, err error) {
	switch {
	case s.args == 0 && len(line) > 0 && line[0] == '*':
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil || n > math.MaxInt32 {
			return false, fmt.Errorf("%.20q: %w", line, errFraming)
		}
		s.args, s.named, s.name = max(n, 0), false, s.name[:0]
		return n <= 0 && !s.multi, nil
	case s.args > 0 && len(line) > 0 && line[0] == '$':
		n, err := strconv.ParseInt(string(line[1:]), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/4 {
			return false, fmt.Errorf("%.20q: %w", line, errFraming)
		}
		s.skip = n + 2
		return false, nil
	case s.args == 0: // a keep-alive, or an inline command
		const blanks = " \t\r\n" // of package resp
		word := bytes.TrimLeft(line, blanks)
		if i := bytes.IndexAny(word, blanks); i >= 0 {
			word = word[:i]
		}
		s.name, s.named = append(s.name[:0], word...), true
		return s.command(), nil
	}
	return false, fmt.Errorf("%.20q: %w", line, errFraming)
}

const scanNameBytes = 8

func (s *unitScan) keepName(p []byte) {
	if !s.named && len(s.name) < scanNameBytes {
		s.name = append(s.name, p[:min(len(p), scanNameBytes-len(s.name))]...)
	}
}

// argument: one has ended.
func (s *unitScan) argument() (done bool) {
	if !s.named {
		s.name, s.named = bytes.TrimRight(s.name, "\r\n"), true
	}
	s.args--
	return s.args == 0 && s.command()
}

// command: one has ended.
func (s *unitScan) command() (done bool) {
	switch {
	case resp.IsWord(s.name, "MULTI") && !s.multi:
		s.multi = true
		return false
	case resp.IsWord(s.name, "EXEC") && s.multi:
		return true
	}
	return !s.multi
}
