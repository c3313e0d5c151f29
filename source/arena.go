package source

import (
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// promise is called when Kafka has a record, or does not take it.
type promise = func(*kgo.Record, error)

// arena hands out memory for records in large pieces, and takes a piece back when Kafka has all that lies in it. The next
// lane that needs one finds it warm in the processor's cache; the garbage collector gets those that no lane needs.
type arena struct {
	pieces *sync.Pool // of all lanes of a source
	bytes  int        // of a piece
	settle promise    // of each record
	cur    *piece
}

const (
	// bytesPerRecord and minRecords say how many records a piece has: either may be used up first.
	bytesPerRecord = 256
	minRecords     = 64
)

// piece is memory for records. out counts those that are not settled, and the arena while it hands out of it.
type piece struct {
	memory  []byte
	records []kgo.Record
	bytesN  int  // in use
	n       int  // records in use
	foreign bool // a record carries what is not in memory
	out     atomic.Int32
	failed  atomic.Bool

	pieces *sync.Pool // where it goes back to
	settle promise    // of the arena
	done   promise    // the one above, and then letGo
}

// take hands out a record, whose content is anything, memory for what it carries, and what is to be called when it is settled.
func (a *arena) take(n int) (*kgo.Record, []byte, promise) {
	fits := n > 0 && n <= a.bytes/4
	p := a.cur
	if p == nil || p.n == len(p.records) || fits && n > len(p.memory)-p.bytesN {
		p = a.next()
	}
	p.out.Add(1)
	r := &p.records[p.n]
	p.n++
	if !fits {
		p.foreign = true
		return r, make([]byte, n), p.done
	}
	memory := p.memory[p.bytesN : p.bytesN+n : p.bytesN+n]
	p.bytesN += n
	return r, memory, p.done
}

func (a *arena) next() *piece {
	if a.cur != nil {
		a.cur.letGo(nil)
	}
	p, ok := a.pieces.Get().(*piece)
	if !ok {
		p = &piece{memory: make([]byte, a.bytes), records: make([]kgo.Record, max(a.bytes/bytesPerRecord, minRecords)), pieces: a.pieces}
		p.done = func(r *kgo.Record, err error) {
			p.settle(r, err)
			p.letGo(err)
		}
	}
	p.settle = a.settle
	p.out.Store(1)
	a.cur = p
	return p
}

// letGo counts one down. A piece with a record that failed is not used again: the client may still look at that one.
func (p *piece) letGo(err error) {
	if err != nil {
		p.failed.Store(true)
	}
	if p.out.Add(-1) > 0 || p.failed.Load() {
		return
	}
	if p.foreign {
		clear(p.records[:p.n])
	}
	p.bytesN, p.n, p.foreign = 0, 0, false
	p.pieces.Put(p)
}
