package source

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/redriver/redriver/event"
)

// gate lets a lane publish the stream only while its link is sure of the history that the bytes belong to.
//
// When a link is lost, what was read ahead may not exist on the node that is promoted: published, it would turn a
// partial resynchronisation into a divergence. So the link closes the gate when it loses its master, and opens it after
// the next handshake, when it has cut off what the new history does not have:
//
//  1. the link closes the gate; the lane stops at its next unit
//  2. the link learns where the histories part and calls cut, which waits for the lane to be between two units
//  3. the spool is cut, the epoch moves on, the gate opens
//  4. the lane sees another epoch, forgets what it had buffered and reads again from behind its last unit
//
// A snapshot that is being published is not stopped: its bytes are whole or the section is broken.
type gate struct {
	mu        sync.Mutex // held by the lane while it publishes units, by the link while it cuts
	open      bool
	epoch     uint64
	published event.Position // behind the last unit handed to the producer
	// revoked: of what was handed over and not committed the shard has lost a part; the session must not commit it.
	// Atomic: the lane asks while it publishes, too.
	revoked atomic.Bool
	changed chan struct{}
}

func newGate() *gate { return &gate{changed: make(chan struct{})} }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != open {
		g.open = open
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

// cut runs fn between two units, with the position behind the last one, and starts a new epoch.
func (g *gate) cut(fn func(published event.Position) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.epoch++
	return fn(g.published)
}

// pass runs fn if the gate is open; fn publishes units and returns where it stands. Otherwise it returns a channel that
// is closed when the gate moves.
func (g *gate) pass(fn func(epoch uint64) (event.Position, error)) (closed <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.revoked.Load() {
		return nil, errRevoked
	}
	if !g.open {
		return g.changed, nil
	}
	g.published, err = fn(g.epoch)
	return nil, err
}

// stand tells where the lane stands when it begins a session from the committed position.
func (g *gate) stand(p event.Position) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.published = p
	g.revoked.Store(false)
}

// move tells where the lane stands when it has committed something that is no unit.
func (g *gate) move(p event.Position) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.published = p
}

// revoke, called from within cut, has the lane give up its session: the next one begins from what Kafka has.
func (g *gate) revoke() { g.revoked.Store(true) }

// errRevoked ends a session that handed over what its shard has lost.
var errRevoked = errors.New("the shard has lost writes that were handed to Kafka and are not committed")

// mayCommit is asked before a transaction is ended. Whoever is past it when the link revokes may have committed: the next
// session finds a position that the spool does not hold, and a new generation follows.
func (g *gate) mayCommit() error {
	if g.revoked.Load() {
		return errRevoked
	}
	return nil
}

func waitFor(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c:
		return nil
	}
}
