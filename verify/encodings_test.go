package verify_test

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/verify"
)

// Equal values in other clothes are no differences: the configuration decides how a server keeps and sends them.
func TestEncodingsDoNotMatter(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	for _, version := range []string{"redis-7.0", "redis-8.6"} {
		small := w.Server(version, "--rdbcompression", "no").Client()
		large := w.Server(version, "--hash-max-listpack-entries", "0", "--zset-max-listpack-entries", "0", "--set-max-intset-entries", "0",
			"--list-max-listpack-size", "1", "--stream-node-max-entries", "2", "--hash-max-listpack-value", "1").Client()
		both := []client{small, large}
		plant(t, both)
		for i := range 100 {
			k := strconv.Itoa(i)
			do(t, both, "hset h"+k+" a 1 b 22222 c "+strings.Repeat("x", i+1), "zadd z"+k+" 1 a 2.5 b -0.1 c inf d", "sadd i"+k+" 1 2 3 70000 "+k,
				"rpush l"+k+" "+strings.TrimSpace(strings.Repeat("item ", i+1)), "set s"+k+" "+strings.Repeat("lzf!", 30*i+1))
		}
		// A list grown from the other end, and one that lost its middle, is cut into other nodes.
		for i := range 500 {
			do(t, []client{small}, fmt.Sprintf("rpush grown %d", i))
			do(t, []client{large}, fmt.Sprintf("lpush grown %d", 499-i))
		}
		for key, encodings := range map[string][2]string{"h7": {"listpack", "hashtable"}, "z7": {"listpack", "skiplist"}, "i7": {"intset", "hashtable|listpack"}, "l99": {"listpack|quicklist", "quicklist"}} {
			for i, c := range both {
				if got := c.ObjectEncoding(t.Context(), key).Val(); !strings.Contains(encodings[i], got) {
					t.Errorf("%s, side %d: %s is a %s, want %s", version, i, key, got, encodings[i])
				}
			}
		}
		for _, opt := range []verify.Options{{}, {LargeBytes: 1}, {Mode: verify.Digest}} {
			for _, p := range [][2]client{{small, large}, {large, small}} {
				if r := compare(t, p[0], p[1], opt); !r.Identical() || r.Keys != 54+500+1 {
					t.Errorf("%s %+v: %v", version, opt, r)
				}
			}
		}
		do(t, []client{large}, "hset h7 b 22223", "zadd z7 2.6 b", "srem i7 70000", "lset l99 50 other", "lset grown 250 x")
		for _, opt := range []verify.Options{{}, {LargeBytes: 1}, {Mode: verify.Digest}} {
			if r := compare(t, small, large, opt); r.Counts[verify.Value] != 5 || r.Total() != 5 {
				t.Errorf("%s %+v: want 5 values\n%v", version, opt, r)
			}
		}
	}
}

// A value that MEMORY USAGE takes for small, because it asks five elements, and that is large: it is read in pieces.
func TestSkewedValueIsReadInPieces(t *testing.T) {
	t.Parallel()
	from, to := single(t), single(t)
	for _, c := range []client{from, to} {
		many(3000, "e%", c, t, "rpush", "skewed")
		many(600, "f% v%", c, t, "hset", "skewed:hash")
		pipe := c.Pipeline()
		for i := range 40 {
			pipe.HSet(t.Context(), "skewed:hash", fmt.Sprint("big", i), strings.Repeat("v", 1<<20))
			pipe.RPush(t.Context(), "skewed", strings.Repeat("w", 1<<20))
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		do(t, []client{c}, "set beside v", "sadd beside:set a b")
	}
	if n := from.MemoryUsage(t.Context(), "skewed").Val(); n > 1<<20 {
		t.Logf("the list is told to take %d bytes: not the case that was meant", n)
	}
	opt := verify.Options{LargeBytes: 8 << 20}
	if r := compare(t, from, to, opt); !r.Identical() || r.Keys != 4 {
		t.Errorf("%v", r)
	}
	do(t, []client{to}, "hset skewed:hash big17 x", "rpop skewed", "set beside w")
	if r := compare(t, from, to, opt); r.Counts[verify.Value] != 3 || r.Total() != 3 {
		t.Errorf("%v", r)
	}
}

// A field's value that looks like another's expiry does not hide that.
func TestValueCannotImitateExpiry(t *testing.T) {
	w := testkit.New(t)
	from, to := w.Server("redis-8.6").Client(), w.Server("redis-8.6").Client()
	const at = 4_000_000_000_000
	raw := make([]byte, 0, 17)
	raw = append(raw, 0xff)
	for i := range 8 {
		raw = append(raw, byte(uint64(at)>>(8*i)))
	}
	raw = append(raw, 1, 0, 0, 0, 0, 0, 0, 0)
	if err := to.HSet(t.Context(), "h", "f", "v"+string(raw), "g", "w").Err(); err != nil {
		t.Fatal(err)
	}
	do(t, []client{from}, "hset h f v g w", fmt.Sprintf("hpexpireat h %d fields 1 f", int64(at)))
	if r := compare(t, from, to, verify.Options{}); r.Counts[verify.Value] != 1 {
		t.Errorf("%v", r)
	}
}

// Strings larger than what a decoder gives at once, one of them the beginning of the other.
func TestStringThatIsABeginning(t *testing.T) {
	from, to := single(t), single(t)
	for _, n := range []int{0, 1 << 20, 2 << 20} {
		for _, c := range []client{from, to} {
			if err := c.Set(t.Context(), fmt.Sprint("s", n), strings.Repeat("v", n), 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		do(t, []client{to}, fmt.Sprintf("append s%d x", n))
	}
	for _, opt := range []verify.Options{{LargeBytes: 64 << 20}, {}} {
		for _, p := range [][2]client{{from, to}, {to, from}} {
			if r := compare(t, p[0], p[1], opt); r.Counts[verify.Value] != 3 || r.Total() != 3 || !strings.Contains(r.String(), "at byte 2097152") {
				t.Errorf("%v", r)
			}
		}
	}
}

func library(name, body string) string {
	return fmt.Sprintf("#!lua name=%s\nredis.register_function('%s', function() return %s end)", name, name, body)
}

// loadOn puts a library on some masters of a cluster.
func loadOn(t *testing.T, nodes []*redis.Client, libs ...string) {
	t.Helper()
	for _, n := range nodes {
		for _, l := range libs {
			if err := n.Do(t.Context(), "function", "load", "replace", l).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from := w.Server("").Client()
	cluster := w.Cluster(2, 0)
	to := cluster.Client()
	var nodes []*redis.Client
	for _, n := range cluster.Masters() {
		nodes = append(nodes, n.Client())
	}
	do(t, []client{from, to}, "set k v")
	same, other := library("same", "1"), library("other", "1")
	loadOn(t, []*redis.Client{from}, same, other, library("gone", "1"), library("partly", "1"))
	loadOn(t, nodes, same, library("other", "2"), library("extra", "1"))
	loadOn(t, nodes[:1], library("partly", "1"))
	want := map[string]string{"other": "other code", "gone": "target none", "extra": "source none", "partly": "not the same on all masters"}
	got := map[string]string{}
	opt := verify.Options{Each: func(d verify.Difference) {
		if d.Kind == verify.Function {
			got[d.Key] = d.String()
		}
	}}
	r := compare(t, from, to, opt)
	if r.Counts[verify.Function] != 4 || r.Total() != 4 || r.Keys != 1 {
		t.Errorf("%v", r)
	}
	for name, text := range want {
		if !strings.Contains(got[name], text) {
			t.Errorf("%s: %q does not say %q", name, got[name], text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("found %v", maps.Collect(maps.All(got)))
	}
	opt.Repair = true
	if r := compare(t, from, to, opt); r.Total() != 0 || r.Repaired != 4 {
		t.Errorf("repair: %v", r)
	}
	if r := compare(t, from, to, verify.Options{}); !r.Identical() {
		t.Errorf("after repair: %v", r)
	}
}
