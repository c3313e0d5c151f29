package sim

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// The link to the master meets trouble at every byte of the handshake, of the first kilobytes of a snapshot and of the
// stream behind it, in turn: the source recovers each time, nothing is missing in the log or stands there twice, and a
// snapshot that has arrived is not asked for again.
func TestCutsAtEveryByte(t *testing.T) {
	for _, kind := range []struct {
		name string
		kind troubleKind
		step int // half-open connections wait for a timeout each, late ones for what is late
	}{
		{"cut", cut, 1}, {"half-open", silent, 13}, {"late", delayed, 13},
	} {
		for _, up := range []bool{true, false} {
			for _, diskless := range []bool{false, true} {
				direction := map[bool]string{true: "to the master", false: "to us"}[up]
				t.Run(fmt.Sprintf("%s %s, diskless %v", kind.name, direction, diskless), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c := &cuts{kind: kind.kind, step: kind.step, up: up, diskless: diskless}
						if err := c.run(t); err != nil {
							t.Error(err)
						}
					})
				})
			}
		}
	}
}

// cuts gives each link to the master trouble at the byte behind that of the link before.
type cuts struct {
	kind         troubleKind
	step         int
	up, diskless bool
	at           int
}

const (
	// upTo is how many bytes of a link are tried: those that we send are the handshake and some acknowledgements.
	upToUs, upToMaster = 2600, 400
	// again is how many bytes are tried a second time, when the snapshot has arrived: of a partial resynchronisation.
	again = 400
)

func (c *cuts) run(t *testing.T) error {
	w := newWorld(t, 1, io.Discard)
	defer w.close()
	w.from = newDeployment(w.net, "m", 1, false, 1)
	defer w.from.close()
	w.from.transfer = func(*rand.Rand) transfer { return transfer{diskless: c.diskless, pause: 2 * keepAliveEach} }
	load := newWorkload(w.from, w.rng(2))
	load.expiries = false
	load.burst(60)
	limit := upToUs
	if c.up {
		limit = upToMaster
	}
	var cycles int
	w.net.judge = func(wi *wire, first []byte) {
		if !bytes.Contains(first, []byte("PING")) {
			return // not the link, which begins so
		}
		if c.at >= limit && cycles == 0 {
			cycles, c.at, limit = 1, 0, again
		}
		if c.at < limit {
			wi.meet(c.up, trouble{kind: c.kind, after: c.at, late: 3 * time.Second})
			c.at += c.step
		}
	}
	// Links that end time and again with the first acknowledgement, before anything is read, look like a command that the
	// master cannot send: a snapshot is the way past it.
	w.excused = c.up && c.kind == cut
	w.startSource(filepath.Join(w.dir, "data"), 2)
	for n := 1; cycles == 0 || c.at < limit; n++ {
		time.Sleep(time.Second)
		load.burst(1)
		if c.kind == delayed && n%10 == 0 {
			w.net.cut(to(w.from.masters()[0].addr)) // to be late is no reason to connect again
		}
	}
	w.from.calm.Store(true)
	err := w.settleSource()
	w.stopSource()
	if err != nil {
		return err
	}
	return w.compareLog()
}
