package source

import (
	"context"
	"sync"
	"time"
)

// arrivals tells the lanes of a source whether snapshots are on their way to it. While a master sends one it has a child
// process, copies of the pages that change, and the stream to hold back for us, unless the snapshot has a channel of its own:
// so receiving comes first, and publishing snapshots, which needs more of the machine than all else, waits for it a while.
// Streams never wait.
type arrivals struct {
	mu      sync.Mutex
	senders int
	last    time.Time // when bytes came
}

const (
	// arrivalsPause without bytes shows that waiting is in vain: a master makes its snapshot first, or has a slow disk.
	arrivalsPause = 250 * time.Millisecond
	arrivalsPoll  = 10 * time.Millisecond
	// giveWayAtMost is how long one reading of a snapshot waits in all. It does not wait either once a quarter of its spool
	// is used.
	giveWayAtMost = 30 * time.Second
)

// count counts masters that are sending, with 1 or -1.
func (a *arrivals) count(more int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.senders += more
}

// came tells of bytes.
func (a *arrivals) came() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = time.Now()
}

// underWay tells whether bytes of a snapshot come just now.
func (a *arrivals) underWay() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.senders > 0 && time.Since(a.last) < arrivalsPause
}

// giveWay waits while snapshots arrive. What was read is committed before.
func (s *snapshotBytes) giveWay() error {
	for s.gaveWay < giveWayAtMost && s.p.arrivals.underWay() && s.p.spool.Bytes() < s.p.spool.Capacity()/4 {
		if s.p.open {
			if err := s.idle(); err != nil {
				return err
			}
		}
		begun := time.Now()
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-time.After(arrivalsPoll):
		}
		s.gaveWay += time.Since(begun)
	}
	return nil
}
