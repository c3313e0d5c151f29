package source

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/redriver/redriver/event"
)

const (
	// standsFor is how long the stream has to flow behind a snapshot that is published for it to have been worth its while.
	standsFor = 10 * time.Second
	// stuckAfter is how many sessions in a row may end at the same offset, though the master has more, before a snapshot is
	// taken to get past it.
	stuckAfter = 5
)

// breaker keeps a shard from full resynchronisations without end: each is a fork at the master, and what ended one ends the
// next. After ResyncMax in a row that led to nothing it is open, for ResyncPause; then one more is tried.
//
// Only the link's run uses it, but for flows: the goroutine that reads the stream calls that, and run looks when it has ended.
type breaker struct {
	max   int
	pause time.Duration

	inVain int            // snapshots in a row that were begun and led to nothing
	under  bool           // one was begun, and what became of it is not known yet
	stands event.Position // of that one
	whole  time.Time      // when it had arrived; zero: it has not
	flowed time.Time      // when the stream behind it was last read from
	why    error          // what ended the last one

	// at is where sessions end though the master has more, stuck how many did so in a row.
	at        event.Position
	stuck     int
	continued bool // the master goes on with the stream in this session
}

func (b *breaker) begin(at event.Position) {
	b.inVain++
	b.under, b.stands, b.whole, b.flowed = true, at, time.Time{}, time.Time{}
}

func (b *breaker) arrived() { b.whole = time.Now() }
func (b *breaker) flows()   { b.flowed = time.Now() }

// ended judges the last snapshot when a session has ended. committed is the lane's position.
func (b *breaker) ended(err error, committed *event.Position) {
	if !b.under {
		return
	}
	published := committed != nil && committed.ReplID == b.stands.ReplID && committed.Offset >= b.stands.Offset
	if !b.whole.IsZero() && published && b.flowed.Sub(b.whole) >= standsFor {
		b.inVain, b.under = 0, false
		return
	}
	b.why = err
}

// wait lets a snapshot be asked for, now or when the breaker closes for one try.
func (b *breaker) wait(ctx context.Context, status *ShardStatus, log *slog.Logger) error {
	if b.inVain < b.max {
		return nil
	}
	err := fmt.Errorf("%d full resynchronisations in a row led to nothing, the next is tried in %s: the last ended with: %w (%s)",
		b.inVain, b.pause, b.why, resyncHint)
	status.parked(err)
	log.Error("resynchronising has no end: waiting", slog.Any("error", err))
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(b.pause):
		return nil
	}
}

// isOpen: a snapshot that nobody asked for is not taken.
func (b *breaker) isOpen() bool { return b.inVain >= b.max }

const resyncHint = "where the master closed the link, its log says why: raise client-output-buffer-limit replica above what is written " +
	"while a snapshot is made, repl-backlog-size above what is written while a link is away, or repl-timeout"

// stopped counts sessions that went on at the same place and brought nothing, and tells when a snapshot is the way past it.
func (b *breaker) stopped(from event.Position, m master, brought bool) bool {
	if !b.continued {
		return false
	}
	b.continued = false
	if brought || m.offset <= from.Offset || b.at != from {
		b.at, b.stuck = from, 0
	}
	if brought || m.offset <= from.Offset {
		return false
	}
	b.stuck++
	if b.stuck < stuckAfter {
		return false
	}
	b.stuck = 0
	return true
}
