package verify_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/verify"
)

// A sink holds expiry times: what has expired at the source is there until the source's word of it arrives, and is no
// difference; what has not expired is one.
func TestWhatHasExpiredAtTheSourceMayWaitAtAHoldingTarget(t *testing.T) {
	const hold = 10_000 * time.Hour
	w := testkit.New(t)
	from, to := w.Server("redis-7.4").Client(), w.Server("redis-7.4").Client()
	at := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).UnixMilli(), 10) }
	do(t, []client{to}, "set dead v pxat "+at(hold-time.Second), "set alive v pxat "+at(hold+time.Hour))
	for _, n := range []int{3, 300} { // in one block, and in a table
		key := "h" + strconv.Itoa(n)
		many(n, "f% v%", from, t, "hset", key)
		many(n, "f% v%", to, t, "hset", key)
		do(t, []client{to}, "hset "+key+" dead v", "hpexpireat "+key+" "+at(hold-time.Second)+" fields 1 dead")
	}
	for _, large := range []int64{0, 1} {
		r := compare(t, from, to, verify.Options{ExpiryHold: hold, LargeBytes: large})
		if r.Total() != 1 || r.Differences[0].Key != "alive" {
			t.Errorf("large from %d bytes on: %v", large, r)
		}
	}
	do(t, []client{to}, "hset h300 alive v", "hpexpireat h300 "+at(hold+time.Hour)+" fields 1 alive", "del alive")
	for _, large := range []int64{0, 1} {
		r := compare(t, from, to, verify.Options{ExpiryHold: hold, LargeBytes: large})
		if r.Total() != 1 || r.Differences[0].Key != "h300" || !strings.Contains(r.String(), `"alive"`) {
			t.Errorf("large from %d bytes on: %v", large, r)
		}
	}
}
