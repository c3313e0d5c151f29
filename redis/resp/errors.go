package resp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	// ErrIncomplete says that the bytes so far are right and more are needed.
	ErrIncomplete = errors.New("incomplete")
	// ErrLimit is what a [ProtocolError] wraps if the form is right but a bound of
	// [Config] is exceeded.
	ErrLimit = errors.New("above limit")
)

// ProtocolError says that the bytes are not RESP2, or exceed a bound. The stream
// cannot be read on: where the next command begins is unknown.
type ProtocolError struct {
	// Offset of the fault: from the start of the stream in an error of a reader,
	// from the start of the slice in one of [ParseCommand].
	Offset int64
	Reason string
	limit  bool
}

func (e *ProtocolError) Error() string {
	return "protocol: " + e.Reason + " at offset " + strconv.FormatInt(e.Offset, 10)
}

// Unwrap returns [ErrLimit] or nil.
func (e *ProtocolError) Unwrap() error {
	if e.limit {
		return ErrLimit
	}
	return nil
}

func fault(pos int, reason string) error {
	return &ProtocolError{Offset: int64(pos), Reason: reason}
}

func unexpected(pos int, want string, got byte) error {
	return fault(pos, fmt.Sprintf("want %s, got %q", want, got))
}

func aboveLimit(pos int, what string, n int64, limit int) error {
	return &ProtocolError{Offset: int64(pos), Reason: fmt.Sprintf("%s %d above limit %d", what, n, limit), limit: true}
}

// ServerError is an error a server answered with.
type ServerError struct {
	Code string // the first word: ERR, MOVED, WRONGTYPE, EXECABORT, ...
	Text string // all of it, the code included
}

func newServerError(line []byte) *ServerError {
	text := string(line)
	code, _, _ := strings.Cut(text, " ")
	return &ServerError{Code: code, Text: text}
}

func (e *ServerError) Error() string { return e.Text }

// Redirect returns the slot and address a MOVED or ASK error names. The address is
// as the server wrote it: with an empty host ("", ":6379") it means the host that
// answered, and the host of an IPv6 address has no brackets.
func (e *ServerError) Redirect() (slot int, addr string, ok bool) {
	if e.Code != "MOVED" && e.Code != "ASK" {
		return 0, "", false
	}
	words := strings.Split(e.Text, " ")
	if len(words) != 3 {
		return 0, "", false
	}
	n, err := strconv.ParseUint(words[1], 10, 14) // 14 bits: 0 to 16383
	if err != nil {
		return 0, "", false
	}
	return int(n), words[2], true
}
