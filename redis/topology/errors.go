package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
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
	cause, hint := classify(err)
	if cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &Error{Addr: addr, Op: op, Hint: hint, Err: err}
}

func classify(err error) (cause error, hint string) {
	msg := err.Error()
	word, _, _ := strings.Cut(msg, " ")
	switch word {
	case "NOAUTH":
		return ErrAuth, "set user name and password of this deployment"
	case "WRONGPASS":
		return ErrAuth, "check user name and password, and with ACL LIST that the user is on"
	case "NOPERM":
		return ErrPermission, "grant the user +cluster|nodes +cluster|shards +cluster|slots +cluster|myshardid with ACL SETUSER"
	case "LOADING":
		return nil, "the server is reading its data set: try again when it is done"
	case "ERR":
		switch {
		case strings.Contains(msg, "cluster support disabled"):
			return ErrNotCluster, "this server is not part of a cluster: configure it as a pair or a single node"
		case strings.Contains(msg, "without any password configured"), strings.Contains(msg, "no password is set"):
			return ErrAuth, "the server has no password: leave it out, or set one there"
		case strings.Contains(msg, "invalid password"):
			return ErrAuth, "check the password"
		}
		return nil, ""
	}
	if errors.Is(err, ErrUnusable) {
		return nil, "is this a Redis cluster node, and no proxy before one?"
	}
	if errors.Is(err, context.Canceled) {
		return nil, ""
	}
	if isNetwork(err) {
		return ErrUnreachable, "check that host and port are right, the server is up, and no firewall is between"
	}
	return nil, ""
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
