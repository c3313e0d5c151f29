package source

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redriver/redriver/source/spool"
)

// TestSnapshotsArriveFirst: a lane reads nothing of a snapshot while bytes of one come, within bounds.
func TestSnapshotsArriveFirst(t *testing.T) {
	t.Parallel()
	const capacity = 1 << 20
	for _, test := range []struct {
		name        string
		senders     int
		come        time.Duration // for how long bytes come
		spooled     int
		least, most time.Duration
	}{
		{name: "nothing comes", spooled: 1000},
		{name: "a master is asked, and makes its snapshot", senders: 1, spooled: 1000},
		{name: "bytes come for a while, and then none", senders: 1, come: 5 * time.Second, spooled: 1000, least: 5 * time.Second, most: 5300 * time.Millisecond},
		{name: "bytes come for hours", senders: 1, come: 3 * time.Hour, spooled: 1000, least: giveWayAtMost, most: giveWayAtMost + time.Second},
		{name: "the spool fills", senders: 1, come: 5 * time.Second, spooled: capacity / 2},
		{name: "the last sender has ended", come: 5 * time.Second, spooled: 1000},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sp, err := spool.Open(spool.Config{Dir: t.TempDir(), MemoryBytes: capacity / 2, DiskBytes: capacity / 2})
				if err != nil {
					t.Fatal(err)
				}
				defer sp.Close()
				if _, err := sp.Begin(spool.Header{Kind: spool.Snapshot}); err != nil {
					t.Fatal(err)
				}
				if err := sp.Append(t.Context(), make([]byte, test.spooled)); err != nil {
					t.Fatal(err)
				}
				a := &arrivals{}
				a.count(test.senders)
				begun := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				var coming sync.WaitGroup
				defer coming.Wait()
				defer cancel()
				coming.Go(func() { // ends with ctx
					for time.Since(begun) < test.come && ctx.Err() == nil {
						a.came()
						time.Sleep(50 * time.Millisecond)
					}
				})
				synctest.Wait()
				p := &publisher{lane: &lane{arrivals: a, spool: sp}, open: true}
				committed := 0
				s := &snapshotBytes{p: p, ctx: ctx, r: sp.Reader(spool.Place{Section: sp.Sections()[0].Number}), idle: func() error {
					committed++
					p.open = false
					return nil
				}}
				if _, err := io.ReadFull(s, make([]byte, test.spooled)); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took < test.least || took > test.most {
					t.Errorf("read after %v, want %v to %v", took, test.least, test.most)
				}
				if want := min(1, int(test.least)); committed != want {
					t.Errorf("committed %d times before it waited, want %d", committed, want)
				}
			})
		})
	}
}
