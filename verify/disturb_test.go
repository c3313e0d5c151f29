package verify_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/verify"
)

// A target that is down for a moment is waited for; one that stays away ends the comparison, and the state is kept.
func TestTargetDownInTheMiddle(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	node := w.Server("")
	from, to := w.Server("").Client(), node.Client()
	wrong := manyKeys(t, resumed, from, to)
	// Some values are read by the client library.
	for _, c := range []client{from, to} {
		for i := range 20 {
			do(t, []client{c}, fmt.Sprintf("set big:%d $1500", i))
		}
	}
	state := w.Path("state")
	args := append(addresses(from, to), "--state", state, "--rounds", "2", "--interval", "100ms")
	down := func() {
		t.Helper()
		if err := to.Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, w, nil, append(args, "--keys-per-second", "20000", "--patience", "20s")...)
	until(t, c, state, resumed/2)
	down()
	time.Sleep(700 * time.Millisecond)
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exact(t, c.ends(different), resumed+20, wrong)
	c.says("waiting: target " + node.Addr())

	c = start(t, w, nil, append(args, "--keys-per-second", "20000", "--patience", "1s")...)
	until(t, c, state, resumed/2)
	down()
	c.ends(failed)
	c.says("target", node.Addr(), "given up after 1s", "can be started again")
	if _, err := os.Stat(state); err != nil {
		t.Error("the state was not kept")
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exact(t, start(t, w, nil, args...).ends(different), resumed+20, wrong)
}

// Slots that move at either side while they are compared, and one that stays half moved, hide nothing and invent nothing.
func TestSlotsMoveInTheMiddle(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := w.Cluster(2, 0), w.Cluster(3, 0)
	from, to := source.Client(), target.Client()
	wrong := manyKeys(t, resumed, from, to)
	var wg sync.WaitGroup
	once := sync.OnceFunc(func() {
		for _, c := range []*redistest.Cluster{source, target} {
			wg.Go(func() {
				a, b := c.Masters()[0], c.Masters()[1]
				for _, span := range [][2]int{{0, 40}, {5000, 5040}} {
					if err := c.MoveSlots(t.Context(), a, b, numbers(span[1])[span[0]:]...); err != nil {
						t.Error(err)
					}
				}
				if err := c.MoveSlots(t.Context(), b, a, numbers(20)...); err != nil { // and back
					t.Error(err)
				}
			})
		}
	})
	var notices []string
	opt := verify.Options{
		Rounds: 3, Interval: 50 * time.Millisecond, KeysPerSecond: 20_000, Page: 200,
		Notice: func(s string) { notices = append(notices, s) },
		Progress: func(p verify.Progress) {
			if p.Scanned > resumed/4 {
				once()
			}
		},
	}
	r := compare(t, from, to, opt)
	wg.Wait()
	if r.Total() != wrong || r.Unsettled != 0 || r.Counts[verify.Extra] != wrong/3 {
		t.Errorf("want %d differences in %d keys: %d keys, %v, %d unsettled, %d unstable", wrong, resumed+wrong/3, r.Keys, r.Counts, r.Unsettled, r.Unstable)
	}
	if r.Unstable == 0 && r.Keys != resumed+wrong/3 {
		t.Errorf("%d keys, want %d", r.Keys, resumed+wrong/3)
	}
	if !slices.ContainsFunc(notices, func(s string) bool { return strings.Contains(s, "slots moved") }) {
		t.Errorf("nothing was said of moving slots: %q", notices)
	}

	// A reshard that was given up: some keys of the slot are here, some there.
	a, b := source.Masters()[0], source.Masters()[1]
	key := func(i int) string { return fmt.Sprintf("{%s}:%d", slot.Tag(4000), i) }
	for i := range 200 {
		for _, c := range []client{from, to} {
			do(t, []client{c}, "set "+key(i)+" v")
		}
	}
	half(t, a, b, 4000, 100)
	do(t, []client{to}, "set "+key(3)+" w")
	for _, opt := range []verify.Options{{}, {Mode: verify.Keys}, {Mode: verify.Length}, {Mode: verify.Digest}, {Filter: verify.Filter{Types: []string{"string"}}}} {
		r := compare(t, from, to, opt)
		want := wrong
		if opt.Mode == verify.Keys {
			want -= wrong / 3
		} else if opt.Mode != verify.Length {
			want++
		}
		if r.Total() != want || r.Unstable != 0 {
			t.Errorf("half moved, %+v: %d differences, want %d: %v", opt, r.Total(), want, r.Counts)
		}
	}
}

// half moves n keys of a slot, which stays migrating.
func half(t *testing.T, from, to *redistest.Node, s, n int) {
	t.Helper()
	fromID, toID := from.Client().ClusterMyID(t.Context()).Val(), to.Client().ClusterMyID(t.Context()).Val()
	if err := to.Client().Do(t.Context(), "cluster", "setslot", s, "importing", fromID).Err(); err != nil {
		t.Fatal(err)
	}
	if err := from.Client().Do(t.Context(), "cluster", "setslot", s, "migrating", toID).Err(); err != nil {
		t.Fatal(err)
	}
	args := []any{"migrate", "127.0.0.1", to.Port(), "", 0, 10_000, "keys"}
	for _, k := range from.Client().ClusterGetKeysInSlot(t.Context(), s, n).Val() {
		args = append(args, k)
	}
	if err := from.Client().Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// A master dies and its replica takes over while its keys are compared.
func TestFailoverInTheMiddle(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	target := w.Cluster(3, 1) // two masters left are a majority
	from, to := w.Server("").Client(), target.Client()
	wrong := manyKeys(t, resumed, from, to)
	for i := range target.Masters() {
		for range target.ReplicasOf(i) {
			if n, err := target.Masters()[i].Client().Wait(t.Context(), 1, 10*time.Second).Result(); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	once := sync.OnceFunc(func() {
		if err := target.Masters()[0].Kill(); err != nil {
			t.Error(err)
		}
	})
	var notices []string
	r := compare(t, from, to, verify.Options{
		Rounds: 2, Interval: 50 * time.Millisecond, KeysPerSecond: 30_000, Notice: func(s string) { notices = append(notices, s) },
		Progress: func(p verify.Progress) {
			if p.Scanned > resumed/2 {
				once()
			}
		},
	})
	if r.Total() != wrong || r.Unsettled != 0 || r.Unstable != 0 || r.Keys != resumed+wrong/3 {
		t.Errorf("want %d differences in %d keys: %d keys, %v, %d unsettled, %d unstable", wrong, resumed+wrong/3, r.Keys, r.Counts, r.Unsettled, r.Unstable)
	}
	t.Logf("%q", notices)
}
