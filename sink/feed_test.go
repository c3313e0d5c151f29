package sink

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/slot"
)

// largeWrites publishes writes of large values, each a good part of what a sink may hold of a partition.
func largeWrites(l *lane, n int, first, last slot.Slot) {
	value := strings.Repeat("v", 300<<10)
	l.commit(func() {
		for i := range n {
			s := first + slot.Slot(i*97)%(last-first)
			l.do([]string{"SET", fmt.Sprintf("{%s}:%d", slot.Tag(s), i), value})
		}
	})
}

// TestFullQueuesDoNotWaitForQuietPartitions: partitions whose queues are full all the time are not held up by fetches that
// wait for the others.
func TestFullQueuesDoNotWaitForQuietPartitions(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	l := r.lane()
	l.source.Set(t.Context(), "first", 1, 0)
	l.snapshot()
	cfg := r.config()
	cfg.FetchBytes = 4 << 20
	s := r.start(cfg)
	r.same(s)
	quarter := slot.Slot(slot.Count / 4)
	begun := time.Now()
	largeWrites(l, 400, 0, quarter) // two partitions of eight
	r.same(s)
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("120 MB took %v", took)
	}
	s.stop()
}

// TestAMasterThatHangsHoldsNoOtherPartitionBack: what is read for it fills all the memory there is, and the others go on.
//
// Fault (sink): a target node hangs, with more to be written to it than the sink has memory for. Partitions of the others go on.
func TestAMasterThatHangsHoldsNoOtherPartitionBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	l := r.lane()
	l.source.Set(t.Context(), "first", 1, 0)
	l.snapshot()
	cfg := r.config()
	cfg.FetchBytes = 4 << 20
	s := r.start(cfg)
	r.same(s)
	for _, m := range r.target.Masters() { // else all of them go down with the one
		if err := m.Client().ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	hung := r.target.Masters()[0]
	if err := hung.Pause(); err != nil {
		t.Fatal(err)
	}
	largeWrites(l, 60, 0, 2000)
	other := fmt.Sprintf("{%s}:other", slot.Tag(16000))
	for n := range 20 {
		value := strconv.Itoa(n)
		l.commit(func() { l.do([]string{"SET", other, value}) })
		err := testkit.Poll(t.Context(), 4*time.Second, func() error {
			if got := r.target.Masters()[2].Client().Get(t.Context(), other).Val(); got != value {
				return fmt.Errorf("it is %q", got)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("write %d to another master: %v\n%+v", n, err, s.Status())
		}
	}
	if err := hung.Continue(); err != nil {
		t.Fatal(err)
	}
	r.same(s)
	s.stop()
}
