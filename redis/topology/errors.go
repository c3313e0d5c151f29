package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// Causes an [Error] wraps besides the original one, for errors.Is.
var (
	// ErrNotCluster: the server runs without cluster mode.
	ErrNotCluster = errors.New("cluster mode is disabled")
	// ErrAuth: no password where one is needed, or a wrong one, or a user that is unknown or switched off.
	ErrAuth = errors.New("authentication failed")
	// ErrPermission: the user may not run a command.
	ErrPermission = errors.New("permission denied")
	// ErrUnreachable: no connection, or one that was lost or fell silent.
	ErrUnreachable = errors.New("unreachable")
	// ErrTLS: the two sides did not agree on a protected connection.
	ErrTLS = errors.New("TLS handshake")
	// ErrUnusable: a reply that makes no sense.
	ErrUnusable = errors.New("unusable reply")
)

// Error is a failure at one address, with what the operator can do about it.
type Error struct {
	Addr string
	Op   string // what was attempted, such as "dial" or "ask for the cluster's nodes"
	Hint string // the next step; "" when there is none better than to read Err
	Err  error  // wraps one of the causes above where it fits
}

// Error gives operation, address, cause and next step.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s at %s: %v", e.Op, e.Addr, e.Err)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// newError classifies what a server or the network said.
func newError(addr, op string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e // a dial within a command
	}
	hint, cause := classify(err)
	if cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &Error{Addr: addr, Op: op, Hint: hint, Err: err}
}

// classify returns the next step and the cause, each only if there is one to name.
func classify(err error) (hint string, cause error) {
	if errors.Is(err, ErrTLS) {
		return handshakeHint(err), nil
	}
	msg := err.Error()
	if strings.Contains(msg, "remote error: tls: ") { // with TLS 1.3 the server judges our certificate after the handshake
		return "the server did not accept our certificate, or wants one: name its file and that of its key", ErrTLS
	}
	word, _, _ := strings.Cut(msg, " ")
	switch word {
	case "NOAUTH":
		return "set user name and password of this deployment", ErrAuth
	case "WRONGPASS":
		return "check user name and password, and with ACL LIST that the user is on", ErrAuth
	case "NOPERM":
		return "grant the user +cluster|nodes +cluster|shards +cluster|slots +cluster|myshardid with ACL SETUSER", ErrPermission
	case "LOADING":
		return "the server is reading its data set: try again when it is done", nil
	case "ERR":
		switch {
		case strings.Contains(msg, "cluster support disabled"):
			return "this server is not part of a cluster: configure it as a pair or a single node", ErrNotCluster
		case strings.Contains(msg, "without any password configured"), strings.Contains(msg, "no password is set"):
			return "the server has no password: leave it out, or set one there", ErrAuth
		case strings.Contains(msg, "invalid password"):
			return "check the password", ErrAuth
		}
		return "", nil
	}
	if errors.Is(err, ErrUnusable) {
		return "is this a Redis cluster node, and no proxy before one?", nil
	}
	if errors.Is(err, context.Canceled) {
		return "", nil
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		// What a server says of our certificate may be lost with the connection.
		return "the server ended the connection: is it going down, or does it want TLS, or a certificate of ours?", ErrUnreachable
	}
	if isNetwork(err) {
		return "check that host and port are right, the server is up, and no firewall is between; an address that only the servers tell can be mapped: redis.address.map", ErrUnreachable
	}
	return "", nil
}

func isNetwork(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	// What a connection that ends at once gives, from several layers.
	msg := err.Error()
	return strings.HasSuffix(msg, "EOF") || strings.Contains(msg, "connection pool timeout")
}
