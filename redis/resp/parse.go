package resp

import (
	"bytes"
	"math"
)

// maxLineBytes bounds a line: an inline command, a status, an error
// (PROTO_INLINE_MAX_SIZE in redis src/server.h).
const maxLineBytes = 64 << 10

// unlimited is for ParseCommand, which allocates for bytes it sees only.
var unlimited = Config{MaxBulkBytes: math.MaxInt / 4, MaxArgs: math.MaxInt32}

// ParseCommand parses the command at the start of buf and returns its length n. Its
// arguments are slices of buf, appended to args. A keep-alive or an empty array
// is a command without arguments: n > 0, nothing appended.
//
// If buf ends too early the error is [ErrIncomplete], otherwise a [*ProtocolError];
// then n is 0 and args comes back as it was. It allocates nothing as long as args has
// room.
func ParseCommand(buf []byte, args [][]byte) (n int, argsOut [][]byte, err error) {
	c := start
	out := args
	for {
		from, to, err := c.next(buf, &unlimited)
		if err != nil {
			return 0, args, err
		}
		if from < 0 {
			return c.pos, out, nil
		}
		out = append(out, buf[from:to:to])
	}
}

// ParseCommandHead is ParseCommand for long commands: it appends the first limit arguments alone, and tells how many there
// are.
func ParseCommandHead(buf []byte, args [][]byte, limit int) (n, total int, argsOut [][]byte, err error) {
	c := start
	out := args
	for {
		from, to, err := c.next(buf, &unlimited)
		if err != nil {
			return 0, 0, args, err
		}
		if from < 0 {
			return c.pos, total, out, nil
		}
		if total < limit {
			out = append(out, buf[from:to:to])
		}
		total++
	}
}

// cursor walks over one command, argument by argument, and can wait anywhere
// for more bytes: the next call goes on with the same command in a longer slice,
// which may have moved. Positions count from the command's first byte.
type cursor struct {
	pos  int // all before it is done with
	left int // arguments to come; unknown: the head is not read
	bulk int // length of the argument at pos; unknown: its head is not read
	// inline is the length of an inline command, 0 for other commands.
	inline int
}

const unknown = -1

// start is a cursor before a command.
var start = cursor{left: unknown, bulk: unknown}

// next finds the next argument, b[from:to]. After the last one from is negative and
// c.pos is the command's length. It must not be called again after an error other
// than ErrIncomplete.
func (c *cursor) next(b []byte, cfg *Config) (from, to int, err error) {
	if c.left == unknown {
		if err := c.head(b, cfg); err != nil {
			return 0, 0, err
		}
	}
	if c.inline > 0 {
		return c.nextWord(b)
	}
	if c.left == 0 {
		return -1, 0, nil
	}
	if c.bulk == unknown {
		if err := c.bulkHead(b, cfg); err != nil {
			return 0, 0, err
		}
	}
	from, to = c.pos, c.pos+c.bulk
	if to+2 > len(b) {
		return 0, 0, ErrIncomplete
	}
	if b[to] != '\r' || b[to+1] != '\n' {
		return 0, 0, fault(to, "argument is not ended by CRLF")
	}
	c.pos, c.bulk = to+2, unknown
	c.left--
	return from, to, nil
}

// head reads what comes before the first argument.
func (c *cursor) head(b []byte, cfg *Config) error {
	if len(b) == 0 {
		return ErrIncomplete
	}
	if b[0] != '*' {
		return c.inlineHead(b)
	}
	n, next, err := parseLength(b, 0)
	if err != nil {
		return err
	}
	if n > int64(cfg.MaxArgs) {
		return aboveLimit(0, "number of arguments", n, cfg.MaxArgs)
	}
	c.pos, c.left = next, int(max(n, 0))
	return nil
}

func (c *cursor) bulkHead(b []byte, cfg *Config) error {
	if c.pos >= len(b) {
		return ErrIncomplete
	}
	if b[c.pos] != '$' {
		return unexpected(c.pos, "'$'", b[c.pos])
	}
	n, next, err := parseLength(b, c.pos)
	if err != nil {
		return err
	}
	if n < 0 {
		return fault(c.pos, "argument of negative length")
	}
	if n > int64(cfg.MaxBulkBytes) {
		return aboveLimit(c.pos, "length of argument", n, cfg.MaxBulkBytes)
	}
	c.pos, c.bulk = next, int(n)
	return nil
}

// inlineHead waits for the whole line. Only what begins with a letter can be an
// inline command: anything else is garbage, which had better not pass for one.
// Quoted words are refused: nobody sends them to us.
func (c *cursor) inlineHead(b []byte) error {
	first := b[0]
	letter := 'a' <= first|0x20 && first|0x20 <= 'z'
	if !letter && first != '\n' && first != '\r' {
		return unexpected(0, "a command", first)
	}
	if first == '\r' && len(b) > 1 && b[1] != '\n' {
		return unexpected(1, `'\n'`, b[1])
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > maxLineBytes {
			return aboveLimit(0, "bytes of inline command", int64(len(b)), maxLineBytes)
		}
		return ErrIncomplete
	}
	if i := bytes.IndexAny(b[:end], "\"'"); i >= 0 {
		return fault(i, "quotes in an inline command")
	}
	c.left, c.inline = 0, end+1
	return nil
}

// nextWord returns the next word of an inline command, whose line is complete.
func (c *cursor) nextWord(b []byte) (from, to int, err error) {
	for c.pos < c.inline && isBlank(b[c.pos]) {
		c.pos++
	}
	if c.pos == c.inline {
		c.inline = 0
		return -1, 0, nil
	}
	from = c.pos
	for !isBlank(b[c.pos]) {
		c.pos++
	}
	return from, c.pos, nil
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }

// want is how many bytes of the command are known to be needed.
func (c *cursor) want() int {
	if c.bulk == unknown {
		return c.pos + 1
	}
	return c.pos + c.bulk + 2
}

// maxDigits keeps a length far from overflow.
const maxDigits = 18

// parseLength reads the number and CRLF after the type byte at b[pos], and returns
// where the next thing begins. As a server does, it takes one form of a number only:
// no leading zeros, no plus; -1 is the only negative.
func parseLength(b []byte, pos int) (n int64, next int, err error) {
	if pos+4 < len(b) { // most have one digit or two
		first, second := b[pos+1]-'0', b[pos+2]-'0'
		switch {
		case first <= 9 && b[pos+2] == '\r' && b[pos+3] == '\n':
			return int64(first), pos + 4, nil
		case first-1 < 9 && second <= 9 && b[pos+3] == '\r' && b[pos+4] == '\n':
			return int64(first)*10 + int64(second), pos + 5, nil
		}
	}
	i := pos + 1
	for i < len(b) {
		c := b[i]
		if digit := c - '0'; digit <= 9 && i-pos <= maxDigits {
			if n == 0 && i > pos+1 {
				return 0, 0, fault(pos, "length with a leading zero")
			}
			n = n*10 + int64(digit)
			i++
			continue
		}
		if c == '\r' && i > pos+1 {
			if i+1 >= len(b) {
				return 0, 0, ErrIncomplete
			}
			if b[i+1] == '\n' {
				return n, i + 2, nil
			}
		}
		if c == '-' && i == pos+1 {
			return parseMinusOne(b, pos)
		}
		return 0, 0, fault(pos, "length is not a number")
	}
	return 0, 0, ErrIncomplete
}

func parseMinusOne(b []byte, pos int) (n int64, next int, err error) {
	const text = "-1\r\n"
	have := b[pos+1 : min(pos+1+len(text), len(b))]
	switch {
	case string(have) == text:
		return -1, pos + 1 + len(text), nil
	case string(have) == text[:len(have)]:
		return 0, 0, ErrIncomplete
	}
	return 0, 0, fault(pos, "negative length")
}

// IsWord reports whether b is the word, which is in upper case, in any case: commands and options are ASCII. It does not
// allocate.
func IsWord(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
