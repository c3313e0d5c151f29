package sink

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// TestOpenSlot (trap 84): a slot whose move nobody ends holds up what needs both sides of it, and no other slot; also when the
// sink starts again meanwhile.
//
// Fault (sink): a slot of the target stays half moved. What needs both sides of it waits; all other slots go on.
func TestOpenSlot(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, 0)
	r.partitions = 1
	l := r.lane()
	l.snapshot()
	s := r.start(r.config())
	open := "{a}n"
	var others []string
	for i := range 50 {
		others = append(others, fmt.Sprintf("{other%d}n", i))
	}
	work := func() {
		l.commit(func() {
			l.do([]string{"INCR", open})
			for _, k := range others {
				l.do([]string{"INCR", k})
				l.do([]string{"SET", k + ":s", strconv.Itoa(time.Now().Nanosecond())})
			}
			l.do([]string{"APPEND", open, "0"})
			l.do([]string{"SET", "{a}blind", strconv.Itoa(time.Now().Nanosecond())})
		})
	}
	work()
	r.same(s)
	m := r.target.Masters()
	n := int(slot.Of([]byte("a")))
	from, to := m[0], m[1]
	if n > 8191 {
		from, to = to, from
	}
	move, err := r.target.OpenSlot(t.Context(), from, to, n)
	if err != nil {
		t.Fatal(err)
	}
	// The key is on one side now, the slot's checkpoint on the other.
	if err := move.Keys(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	othersGoOn := func() {
		t.Helper()
		r.w.Eventually(30*time.Second, "the other slots go on", func() error {
			for _, k := range others {
				for _, k := range []string{k, k + ":s"} {
					want, got := l.source.Get(t.Context(), k).Val(), r.target.Client().Get(t.Context(), k).Val()
					if want != got {
						return fmt.Errorf("%s is %s, not %s", k, got, want)
					}
				}
			}
			return nil
		})
		if p := s.Status().Partitions[0]; p.Lag == 0 || p.LastError == "" {
			t.Errorf("the partition does not show that a slot waits: %+v", p)
		}
	}
	for range 3 {
		work()
		othersGoOn()
	}
	before := to.Client().Get(t.Context(), open)
	s.crash()
	work()
	s = r.start(r.config())
	othersGoOn()
	work()
	othersGoOn()
	s.stop()
	s = r.start(r.config())
	work()
	othersGoOn()
	if now := to.Client().Get(t.Context(), open); now.Val() != before.Val() {
		t.Errorf("something was written to the open slot: %s became %s", before.Val(), now.Val())
	}
	// A control event waits for it as well.
	l.source.Del(t.Context(), others[0])
	l.snapshot()
	if err := move.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.target.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.same(s)
	work()
	r.same(s)
	r.w.Eventually(30*time.Second, "nothing waits any more", func() error {
		if p := s.Status().Partitions[0]; p.Lag > 0 || p.Restart < p.Applied {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	s.stop()
}

// TestWipedTarget: a target that was emptied under a sink is noticed, whatever part of it it was, and nothing is filled in
// behind anybody's back.
//
// Fault (sink): the target is emptied under the sink, in part or as a whole. The sink stops and says so; nothing is filled
// in silently.
func TestWipedTarget(t *testing.T) {
	for name, partitions := range map[string]int32{"in part": 1, "as a whole": 8} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2, 0) // of eight partitions each lies at one node
			r.partitions = partitions
			rng := seed(t)
			l := r.lane()
			l.snapshot()
			s := r.start(r.config())
			work := func() {
				l.commit(func() {
					for range 300 {
						l.random(rng)
					}
				})
			}
			work()
			r.same(s)
			r.w.Eventually(30*time.Second, "it is shown how far the sink is", func() error { return r.committed() })
			wipe := func(n *redistest.Node) {
				if err := n.Client().FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
			wipe(r.target.Masters()[0])
			size := func() int64 { return r.target.Masters()[0].Client().DBSize(t.Context()).Val() }
			left := int64(-1)
			for range 2 { // it stays so
				work()
				err := s.await()
				if e := (*StartError)(nil); !errors.As(err, &e) || e.Hint == "" {
					t.Fatalf("got %v", err)
				}
				// What was under way when it was noticed is there.
				if n := size(); left >= 0 && n != left {
					t.Errorf("%d keys were written to the wiped node", n-left)
				}
				left = size()
				s = r.start(r.config())
			}
			_ = s.await()
			// What the message says.
			wipe(r.target.Masters()[0])
			wipe(r.target.Masters()[1])
			r.deleteGroup()
			s = r.start(r.config())
			r.same(s)
			s.stop()
		})
	}
}

// committed tells whether the sink's group has commits for all partitions.
func (r *rig) committed() error {
	adm, err := r.kafka.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	commits, err := adm.FetchOffsets(r.Context(), GroupName(r.name))
	if err != nil {
		return err
	}
	if n := len(commits.Sorted()); n < int(r.partitions) {
		return fmt.Errorf("%d commits", n)
	}
	return nil
}

func (r *rig) deleteGroup() {
	r.Helper()
	adm, err := r.kafka.Admin()
	if err != nil {
		r.Fatal(err)
	}
	defer adm.Close()
	if resp, err := adm.DeleteGroup(r.Context(), GroupName(r.name)); err != nil || resp.Err != nil {
		r.Fatal(err, resp.Err)
	}
}
