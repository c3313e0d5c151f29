package connectors

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/source"
)

// Code is an exit code of the process.
type Code int

// The exit codes. Their numbers are part of the command line's contract and are never reused.
const (
	CodeOK Code = iota
	CodeOther
	CodeConfig
	CodeRedisUnreachable
	CodeRedisRefuses
	CodeTopology
	CodeKafka
	CodeTopic
	CodeTarget
	CodeLogLost
	CodeData
	CodeDifferent
)

// Codes lists all of them.
var Codes = []Code{
	CodeOK, CodeOther, CodeConfig, CodeRedisUnreachable, CodeRedisRefuses, CodeTopology, CodeKafka, CodeTopic, CodeTarget,
	CodeLogLost, CodeData, CodeDifferent,
}

// Meaning of a code, for the help and the reference.
func (c Code) Meaning() string {
	switch c {
	case CodeOK:
		return "done, or stopped in good order"
	case CodeOther:
		return "another failure, or stopped at once by a second signal"
	case CodeConfig:
		return "wrong arguments or configuration"
	case CodeRedisUnreachable:
		return "Redis cannot be reached"
	case CodeRedisRefuses:
		return "Redis refuses us: password, user, rights or TLS"
	case CodeTopology:
		return "a deployment of Redis that cannot be used as it is"
	case CodeKafka:
		return "Kafka cannot be reached, or refuses us"
	case CodeTopic:
		return "a topic is not what it has to be: partitions or settings"
	case CodeTarget:
		return "the target holds keys, or cannot be used as it is"
	case CodeLogLost:
		return "the log no longer holds what the sink has to read: retention"
	case CodeData:
		return "a record, command or sweep that needs a person to decide"
	case CodeDifferent:
		return "the copy is not identical (demo)"
	}
	return ""
}

// CheckError is a failed check before anything runs.
type CheckError struct {
	Code Code
	// What was attempted, Hint the next step; "" where Err says it.
	What, Hint string
	Err        error
}

func (e *CheckError) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *CheckError) Unwrap() error { return e.Err }

// DifferentError tells that a comparison found differences.
type DifferentError struct{ Report string }

func (e *DifferentError) Error() string { return e.Report }

// CodeOf is the one place that decides what an error means to the caller of the process. Of an error that joins several
// one decides: a failed check first, then what a person has to mend at Redis rather than what may pass.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	if e, ok := errors.AsType[*CheckError](err); ok {
		return e.Code
	}
	for _, code := range []func(error) Code{codeOfConfig, codeOfRedis, codeOfLog, codeOfTarget} {
		if c := code(err); c != CodeOK {
			return c
		}
	}
	return CodeOther
}

func codeOfConfig(err error) Code {
	if is[*ConfigError](err) {
		return CodeConfig
	}
	if is[*DifferentError](err) {
		return CodeDifferent
	}
	return CodeOK
}

func codeOfRedis(err error) Code {
	switch {
	case errors.Is(err, topology.ErrAuth), errors.Is(err, topology.ErrPermission), errors.Is(err, topology.ErrTLS), refused(err):
		return CodeRedisRefuses
	case errors.Is(err, topology.ErrNotCluster), errors.Is(err, topology.ErrUnusable), errors.Is(err, topology.ErrSeveralMasters):
		return CodeTopology
	case errors.Is(err, topology.ErrUnreachable):
		return CodeRedisUnreachable
	}
	return CodeOK
}

// refused finds a server's answer that names a password or right, from clients that do not classify it.
func refused(err error) bool {
	answer := ""
	if e, ok := errors.AsType[*source.ServerError](err); ok {
		answer = e.Answer
	} else if e, ok := errors.AsType[*resp.ServerError](err); ok {
		answer = e.Text
	} else if e, ok := errors.AsType[redis.Error](err); ok {
		answer = e.Error()
	}
	switch word, _, _ := strings.Cut(answer, " "); word {
	case "NOAUTH", "WRONGPASS", "NOPERM":
		return true
	}
	return false
}

func codeOfLog(err error) Code {
	switch {
	case is[*kafka.MismatchError](err), is[*source.PartitionsError](err), errors.Is(err, source.ErrUnknownLog):
		return CodeTopic
	case is[*sink.LostError](err):
		return CodeLogLost
	case is[*sink.RefusedError](err), is[*sink.RecordError](err), is[*sink.SweepError](err), is[*sink.UnsupportedError](err), is[*sink.OverdueError](err),
		errors.Is(err, codec.ErrVersion), errors.Is(err, codec.ErrMalformed), errors.Is(err, offsets.ErrForeign):
		return CodeData
	case is[*kerr.Error](err):
		return CodeKafka
	}
	return CodeOK
}

func codeOfTarget(err error) Code {
	if is[*sink.ExistingKeysError](err) || is[*sink.EvictionError](err) || is[*sink.StartError](err) {
		return CodeTarget
	}
	return CodeOK
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// isFinal tells whether starting a connector again cannot help.
func isFinal(err error) bool {
	if source.ClassOf(err) == source.Stop {
		return true
	}
	if c, ok := errors.AsType[interface {
		error
		Class() sink.Class
	}](err); ok && c.Class() == sink.Stop {
		return true
	}
	switch CodeOf(err) {
	case CodeOther, CodeRedisUnreachable:
		return false
	case CodeKafka:
		return kafkaRefuses(err)
	default:
		return true
	}
}

func kafkaRefuses(err error) bool {
	for _, e := range []*kerr.Error{
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.PolicyViolation, kerr.InvalidReplicationFactor,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
