package verify_test

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/verify"
)

// largeMembers is the size of the large sorted set; the other values are in proportion.
func largeMembers(t *testing.T) int {
	t.Helper()
	v := os.Getenv("REDRIVER_LARGE_MEMBERS")
	if v == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// restoreLarge writes a value of n elements at all clients.
func restoreLarge(t *testing.T, key string, kind rdb.ValueKind, n int, add func(e *rdb.Encoder, i int) error, cs ...client) {
	t.Helper()
	const version = 10 // of Redis 7.0's RDB
	var e rdb.Encoder
	if err := e.Reset(kind, rdb.Format{Version: version}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := add(&e, i); err != nil {
			t.Fatal(err)
		}
	}
	typ, value := e.Value()
	payload := rdb.AppendPayload(nil, typ, value, version)
	for _, c := range cs {
		if err := c.Do(t.Context(), "restore", key, 0, payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// Values of any size are compared in bounded memory: one score among millions, one byte of a long string, one field.
func TestLargeValuesInBoundedMemory(t *testing.T) {
	w := testkit.New(t)
	patient := func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute }
	from, to := w.Server("").NewClient(patient), w.Server("").NewClient(patient)
	n := largeMembers(t)
	both := []client{from, to}
	restoreLarge(t, "zset", rdb.ValueZset, n, func(e *rdb.Encoder, i int) error {
		e.AppendScored([]byte("member:"+strconv.Itoa(i)), float64(i)+0.25)
		return nil
	}, both...)
	restoreLarge(t, "hash", rdb.ValueHash, n*3/10, func(e *rdb.Encoder, i int) error {
		return e.AppendField([]byte("field:"+strconv.Itoa(i)), []byte("value "+strconv.Itoa(i)), 0)
	}, both...)
	for _, c := range both {
		if err := c.Set(t.Context(), "string", strings.Repeat("0123456789", n*2), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	debug.FreeOSMemory()
	last := strconv.Itoa(n - 7)
	do(t, []client{to}, "zadd zset "+last+".5 member:"+last, fmt.Sprintf("setrange string %d x", n*19), fmt.Sprintf("hset hash field:%d other", n*3/10-5))
	list := w.Path("list")
	run := start(t, w, nil, append(addresses(from, to), "--rounds", "1", "--differences", list)...)
	s := run.ends(different)
	if s.Total() != 3 || s.Counts[verify.Value] != 3 {
		t.Errorf("want three values: %s", run.LogTail(5))
	}
	want := map[string]string{
		"zset": fmt.Sprintf(`member "member:%d" score %d.25`, n-7, n-7), "string": fmt.Sprintf("at byte %d ", n*19), "hash": fmt.Sprintf(`field "field:%d"`, n*3/10-5),
	}
	for _, d := range readList(t, list) {
		if !strings.Contains(d.From, want[d.Key]) {
			t.Errorf("%s: %v", d.Key, d)
		}
	}
	u := run.Usage()
	const limit = 256 << 20
	t.Logf("%d members: peak %d MB, CPU %s, wall %.1f s, %d MB read", n, u.PeakRSSBytes>>20, u.CPU, s.Seconds, s.BytesRead>>20)
	if u.PeakRSSBytes > limit || u.PeakRSSBytes == 0 {
		t.Errorf("%d MB of memory, want at most %d", u.PeakRSSBytes>>20, limit>>20)
	}
}
