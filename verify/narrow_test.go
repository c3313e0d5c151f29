package verify_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/verify"
)

// found lists the keys that differ.
func foundKeys(t *testing.T, from, to client, opt verify.Options) []string {
	t.Helper()
	var keys []string
	opt.Each = func(d verify.Difference) { keys = append(keys, d.Key) }
	compare(t, from, to, opt)
	slices.Sort(keys)
	return keys
}

func TestFilters(t *testing.T) {
	from, to := cluster(t, 2), single(t)
	do(t, []client{from}, "set a:1 v", "set a:2 v", "set b:1 v", "sadd b:2 v", "hset c f v", "set t:1 v", "sadd t:2 v")
	do(t, []client{to}, "set a:2 w", "set extra:1 v", "sadd extra:2 v", "sadd t:1 v", "set t:2 v")
	for _, c := range []struct {
		name string
		f    verify.Filter
		want string
	}{
		{"none", verify.Filter{}, "a:1 a:2 b:1 b:2 c extra:1 extra:2 t:1 t:2"},
		{"prefixes", verify.Filter{Prefixes: []string{"a:", "ext"}}, "a:1 a:2 extra:1 extra:2"},
		{"patterns", verify.Filter{Patterns: []string{"*:2", "[c]"}}, "a:2 b:2 c extra:2 t:2"},
		{"both", verify.Filter{Patterns: []string{"*:2"}, Prefixes: []string{"a"}}, "a:1 a:2 b:2 extra:2 t:2"},
		// A key of two types counts if either is wanted.
		{"sets", verify.Filter{Types: []string{"set"}}, "b:2 extra:2 t:1 t:2"},
		{"hashes and sets", verify.Filter{Types: []string{"hash", "set"}}, "b:2 c extra:2 t:1 t:2"},
		{"strings of a prefix", verify.Filter{Types: []string{"string"}, Prefixes: []string{"t:", "extra"}}, "extra:1 t:1 t:2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, mode := range []verify.Mode{verify.Full, verify.Keys, verify.Digest, verify.Length} {
				want := strings.Fields(c.want)
				if mode == verify.Keys || mode == verify.Length {
					want = slices.DeleteFunc(want, func(k string) bool { return k == "a:2" }) // as long as the other
				}
				if got := foundKeys(t, from, to, verify.Options{Filter: c.f, Mode: mode}); !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", mode, got, want)
				}
			}
		})
	}
	var one slot.Set
	one.Add(slot.Of([]byte("b:1")))
	one.Add(slot.Of([]byte("extra:2")))
	if got := foundKeys(t, from, to, verify.Options{Filter: verify.Filter{Slots: one}}); !slices.Equal(got, []string{"b:1", "extra:2"}) {
		t.Errorf("slots: %v", got)
	}
}

func TestDatabases(t *testing.T) {
	w := testkit.New(t)
	a, b, c := w.Server(""), w.Server(""), cluster(t, 1)
	in := func(n interface {
		NewClient(...func(*redis.Options)) *redis.Client
	}, db int,
	) client {
		cl := n.NewClient(func(o *redis.Options) { o.DB = db })
		t.Cleanup(func() { _ = cl.Close() })
		return cl
	}
	for _, db := range []int{0, 3, 5} {
		do(t, []client{in(a, db), in(b, db)}, fmt.Sprintf("set same:%d v", db), "set everywhere v", "set big $2000")
	}
	do(t, []client{in(a, 3)}, "set three v")
	do(t, []client{in(b, 7)}, "set seven v")
	do(t, []client{in(b, 5)}, "set big $2001")
	do(t, []client{c}, "set same:3 v", "set everywhere v", "set big $2000", "set other v")
	got := map[string]int{}
	r := compare(t, a.Client(), b.Client(), verify.Options{Each: func(d verify.Difference) { got[d.Key] = d.DB }})
	if len(got) != 3 || got["three"] != 3 || got["seven"] != 7 || got["big"] != 5 || r.Keys != 11 {
		t.Errorf("%v: %v", got, r)
	}
	if keys := foundKeys(t, a.Client(), b.Client(), verify.Options{Databases: []verify.Databases{{From: 0, To: 0}}}); len(keys) > 0 {
		t.Errorf("database 0: %v", keys)
	}
	if keys := foundKeys(t, a.Client(), b.Client(), verify.Options{Databases: []verify.Databases{{From: 3, To: 5}}}); !slices.Equal(keys, []string{"big", "same:3", "same:5", "three"}) {
		t.Errorf("databases 3:5: %v", keys)
	}
	if keys := foundKeys(t, a.Client(), c, verify.Options{Databases: []verify.Databases{{From: 3, To: 0}}}); !slices.Equal(keys, []string{"other", "three"}) {
		t.Errorf("database 3 into a cluster: %v", keys)
	}
	if _, err := verify.Compare(t.Context(), at(a.Client()), at(c), verify.Options{}); err == nil || !strings.Contains(err.Error(), "database 3") {
		t.Errorf("several databases and a cluster: %v", err)
	}
	repaired(t, a.Client(), c, verify.Options{Databases: []verify.Databases{{From: 3, To: 0}}}, 2)
}

func TestSample(t *testing.T) {
	from, to := cluster(t, 2), single(t)
	manyKeys(t, 3000, from, to)
	r := compare(t, from, to, verify.Options{Mode: verify.Sample, SampleN: 100})
	if r.Keys < 95 || r.Keys > 102 || r.Total() == 100 {
		t.Errorf("%v", r)
	}
	r = compare(t, from, from, verify.Options{Mode: verify.Sample, SampleN: 300})
	if !r.Identical() || r.Keys > 300 || r.Keys < 200 || !strings.Contains(r.String(), "NO DIFFERENCE IN THE SAMPLE") || !strings.Contains(r.String(), "95 % probability") {
		t.Errorf("%v", r)
	}
	r = compare(t, from, to, verify.Options{Mode: verify.Sample, SampleN: 100_000})
	if r.Keys < 2900 || r.Counts[verify.Extra] == 0 || r.Counts[verify.Missing] == 0 {
		t.Errorf("more than there are: %v", r)
	}
}

// Rates hold, for keys of both sides together and for bytes.
func TestRates(t *testing.T) {
	t.Parallel()
	from, to := single(t), single(t)
	const n = 6000
	manyKeys(t, n, from, to)
	for _, c := range []client{from, to} {
		do(t, []client{c}, "set value $300", "set large $1200")
	}
	r := compare(t, from, to, verify.Options{KeysPerSecond: 6000})
	if rate := 2 * n / r.Elapsed.Seconds(); rate < 4800 || rate > 7200 {
		t.Errorf("%.0f keys/s, want 6000", rate)
	}
	r = compare(t, from, to, verify.Options{BytesPerSecond: 1 << 20})
	if rate := float64(r.BytesRead) / r.Elapsed.Seconds(); rate < 0.8*(1<<20) || rate > 1.2*(1<<20) {
		t.Errorf("%.0f bytes/s, want %d", rate, 1<<20)
	}
}

// A list of differences gives back every key byte for byte, and the summary is what the comparison was.
func TestListOfDifferences(t *testing.T) {
	w := testkit.New(t)
	from, to := w.Server("").Client(), w.Server("").Client()
	var keys []string
	for i := range 256 {
		keys = append(keys, string([]byte{byte(i)}), string([]byte{'k', byte(i), 0xc3}))
	}
	keys = append(keys, "", `"quoted"`, `back\slash`, "\u00e9\u4e2d", "\u2028", "<&>", strings.Repeat("long", 100), "{\"json\":1}", "\ufffd")
	pipe := from.Pipeline()
	for _, k := range keys {
		pipe.Set(t.Context(), k, "v", 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := w.Path("list")
	run := start(t, w, nil, append(addresses(from, to), "--rounds", "1", "--differences", list)...)
	s := run.ends(different)
	var got []string
	for _, d := range readList(t, list) {
		if d.Kind != verify.Missing || d.Slot != slot.Of([]byte(d.Key)) || d.From != "string" || d.To != "none" {
			t.Errorf("%+v", d)
		}
		got = append(got, d.Key)
	}
	slices.Sort(keys)
	slices.Sort(got)
	if !slices.Equal(got, keys) || s.Total() != int64(len(keys)) || s.Keys != int64(len(keys)) || s.Verdict != fmt.Sprintf("DIFFERENT: %d differences", len(keys)) {
		t.Errorf("%d of %d keys came back, %q", len(got), len(keys), s.Verdict)
	}
	// To standard output, with a summary for people behind it.
	plain := w.Redriver("verify", "--from", "redis://"+at(from).Addrs[0], "--to", "redis://"+at(to).Addrs[0], "--rounds", "1", "--differences", "-", "--listed", "2")
	_ = plain.Wait()
	lines := strings.Split(strings.TrimSpace(plain.Log()), "\n")
	var d verify.Difference
	if err := json.Unmarshal([]byte(lines[0]), &d); err != nil || len(lines) != len(keys)+6 || lines[len(lines)-1] != s.Verdict {
		t.Errorf("%d lines, %v\n%s", len(lines), err, plain.LogTail(8))
	}
	// Nowhere to write to.
	run = start(t, w, nil, append(addresses(from, to), "--differences", w.Path("no", "list"))...)
	run.ends(failed)
	run.says("open list of differences")
	same1 := start(t, w, nil, append(addresses(from, from), "--mode", "keys")...)
	if s := same1.ends(same); !s.Identical {
		t.Error(same1.Log())
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	from, to := single(t), single(t)
	manyKeys(t, 10_000, from, to)
	var last verify.Progress
	n, left := 0, 0
	r := compare(t, from, to, verify.Options{KeysPerSecond: 20_000, Rounds: 2, Interval: time.Millisecond, Progress: func(p verify.Progress) {
		if p.Scanned < last.Scanned || p.Compared < last.Compared || p.Bytes < last.Bytes || p.Round < last.Round {
			t.Errorf("%+v after %+v", p, last)
		}
		if p.Left > 0 {
			left++
			if p.Left > 5*time.Second {
				t.Errorf("%s left of one second", p.Left)
			}
		}
		n++
		last = p
	}})
	if n < 20 || left < 10 || last.Round != 2 || last.Scanned != last.Total || last.Differences != r.Total() || last.Total < 19_000 {
		t.Errorf("%d times, %d with time left, last %+v", n, left, last)
	}
}
