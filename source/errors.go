package source

import (
	"errors"

	"github.com/redriver/redriver/kafka"
)

// Class is what the lifecycle does about an error. It is read in one place, lane.run.
type Class int

const (
	// Retry means: open everything again from the committed position.
	Retry Class = iota
	// Resync means: the log or the history cannot be continued; take a new generation.
	Resync
	// Restart means: the topics are not those that the source began with; it has to begin anew, as a whole.
	Restart
	// Stop means: it would happen again; an operator has to act.
	Stop
)

type classified struct {
	error
	class Class
}

func (c *classified) Unwrap() error { return c.error }

func stop(err error) error   { return &classified{err, Stop} }
func resync(err error) error { return &classified{err, Resync} }

// ClassOf tells what to do about an error; Retry unless it says otherwise.
func ClassOf(err error) Class {
	if c, ok := errors.AsType[*classified](err); ok {
		return c.class
	}
	if errors.Is(err, kafka.ErrNoTopic) {
		return Restart
	}
	return Retry
}
