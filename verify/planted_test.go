package verify_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/verify"
)

// shape is one kind of key: how it is written, and how a copy of it can be wrong.
type shape struct {
	name  string
	share int // of a thousand keys
	write func(key string, n int) [][]any
	wrong []wrong
}

// wrong is one way of being wrong: commands for the target, and the kind that has to be found.
type wrong struct {
	name string
	kind verify.Kind
	do   func(key string, n int) [][]any
}

func cmds(c ...[]any) [][]any { return c }

func cmd(args ...any) []any { return args }

// one makes a wrong of one command with fixed arguments behind the key.
func one(name string, kind verify.Kind, command string, args ...any) wrong {
	return wrong{name, kind, func(key string, _ int) [][]any { return cmds(append([]any{command, key}, args...)) }}
}

const (
	expireAt = 4_000_000_000_000
	many100  = 100
)

// elements are n names with values that begin so.
func elements(n int, each func(i int) []any, command, key string) [][]any {
	args := []any{command, key}
	for i := range n {
		args = append(args, each(i)...)
	}
	return cmds(args)
}

func scored(i int) []any {
	return []any{strconv.FormatFloat(float64(i)+0.1, 'g', -1, 64), fmt.Sprint("member", i)}
}

func field(i int) []any { return []any{fmt.Sprint("field", i), fmt.Sprint("value", i)} }

func member(i int) []any { return []any{fmt.Sprint("member", i)} }

// everywhere are wrongs that any key can have.
var everywhere = []wrong{
	one("gone", verify.Missing, "del"),
	{"another type", verify.Type, func(key string, n int) [][]any {
		if strings.HasPrefix(key, "list") {
			return cmds(cmd("del", key), cmd("sadd", key, "a"))
		}
		return cmds(cmd("del", key), cmd("rpush", key, "a"))
	}},
	one("expiry added or moved", verify.Expiry, "pexpireat", expireAt+1),
	{"only at the target", verify.Extra, func(key string, _ int) [][]any { return cmds(cmd("set", key+":extra", "v")) }},
}

var shapes = []shape{
	{"string:int", 150, func(k string, n int) [][]any { return cmds(cmd("set", k, n)) }, []wrong{one("another number", verify.Value, "incr")}},
	{"string:embstr", 250, func(k string, n int) [][]any { return cmds(cmd("set", k, fmt.Sprint("value of ", n))) }, []wrong{one("a byte more", verify.Value, "append", "x"), one("another byte", verify.Value, "setrange", 3, "X")}},
	{"string:raw", 150, func(k string, n int) [][]any { return cmds(cmd("set", k, strings.Repeat(fmt.Sprint(n, " "), 20))) }, []wrong{one("the last byte", verify.Value, "setrange", 30, "X")}},
	{"string:expiring", 80, func(k string, n int) [][]any { return cmds(cmd("set", k, n, "pxat", expireAt)) }, []wrong{one("no expiry", verify.Expiry, "persist")}},
	{"string:binary", 20, func(k string, n int) [][]any {
		return cmds(cmd("set", k+"\x00\xff\r\n", fmt.Sprint("\x00\xff\r\n", n)))
	}, nil},
	{"string:big", 1, func(k string, n int) [][]any { return cmds(cmd("set", k, strings.Repeat(fmt.Sprint(n, "-"), 5000))) }, []wrong{one("a byte in the middle", verify.Value, "setrange", 9999, "X")}},
	{"list:small", 60, func(k string, _ int) [][]any { return elements(10, member, "rpush", k) }, []wrong{
		one("an item", verify.Value, "lset", 3, "x"), one("one more", verify.Value, "rpush", "x"), one("one less", verify.Value, "lpop"),
		{"order", verify.Value, func(k string, _ int) [][]any { return cmds(cmd("lset", k, 2, "member3"), cmd("lset", k, 3, "member2")) }},
	}},
	{"list:long", 2, func(k string, _ int) [][]any { return elements(2000, member, "rpush", k) }, []wrong{one("an item", verify.Value, "lset", 1500, "x"), one("the last item", verify.Value, "rpop")}},
	{"set:int", 30, func(k string, n int) [][]any {
		return elements(10, func(i int) []any { return []any{i + n} }, "sadd", k)
	}, []wrong{one("one more", verify.Value, "sadd", 99_999_999)}},
	{"set:small", 40, func(k string, _ int) [][]any { return elements(10, member, "sadd", k) }, []wrong{one("one less", verify.Value, "srem", "member4"), {"one exchanged", verify.Value, func(k string, _ int) [][]any {
		return cmds(cmd("srem", k, "member4"), cmd("sadd", k, "nobody4"))
	}}}},
	{"set:large", 3, func(k string, _ int) [][]any { return elements(600, member, "sadd", k) }, []wrong{one("one less", verify.Value, "srem", "member444")}},
	{"hash:small", 80, func(k string, _ int) [][]any { return elements(8, field, "hset", k) }, []wrong{one("a value", verify.Value, "hset", "field3", "x"), one("a field less", verify.Value, "hdel", "field3"), one("a field more", verify.Value, "hset", "f", "v")}},
	{"hash:large", 3, func(k string, _ int) [][]any { return elements(700, field, "hset", k) }, []wrong{one("a value", verify.Value, "hset", "field333", "x")}},
	{"hash:fields-expire", 30, func(k string, _ int) [][]any {
		return append(elements(8, field, "hset", k), cmd("hpexpireat", k, expireAt, "fields", 2, "field1", "field2"))
	}, []wrong{
		one("later", verify.FieldExpiry, "hpexpireat", expireAt+1, "fields", 1, "field2"), one("never", verify.FieldExpiry, "hpersist", "fields", 1, "field1"),
		one("another field", verify.FieldExpiry, "hpexpireat", expireAt, "fields", 1, "field5"), one("a value", verify.Value, "hset", "field7", "x"),
	}},
	{"hash:many-fields-expire", 1, func(k string, _ int) [][]any {
		return append(elements(700, field, "hset", k), cmd("hpexpireat", k, expireAt, "fields", 2, "field1", "field600"))
	}, []wrong{one("later", verify.FieldExpiry, "hpexpireat", expireAt+1, "fields", 1, "field600")}},
	{"zset:small", 50, func(k string, _ int) [][]any { return elements(10, scored, "zadd", k) }, []wrong{
		one("one less", verify.Value, "zrem", "member3"), one("a score's last bit", verify.Value, "zadd", strconv.FormatFloat(math.Nextafter(3.1, 4), 'g', -1, 64), "member3"),
		one("infinite", verify.Value, "zadd", "+inf", "member3"),
	}},
	{"zset:large", 2, func(k string, _ int) [][]any { return elements(300, scored, "zadd", k) }, []wrong{one("a score's last bit", verify.Value, "zadd", strconv.FormatFloat(math.Nextafter(222.1, 0), 'g', -1, 64), "member222")}},
	{"stream:plain", 25, func(k string, _ int) [][]any {
		return cmds(cmd("xadd", k, "1-1", "f", "v"), cmd("xadd", k, "1-2", "f", "v", "g", "w"), cmd("xadd", k, "2-0", "h", "x"))
	}, []wrong{one("an entry more", verify.Value, "xadd", "3-0", "f", "v"), one("an entry less", verify.Value, "xdel", "1-2"), one("the last id", verify.Value, "xsetid", "9-9")}},
	{"stream:groups", 24, func(k string, _ int) [][]any {
		return cmds(cmd("xadd", k, "1-1", "f", "v"), cmd("xadd", k, "1-2", "f", "v"), cmd("xgroup", "create", k, "g", "0"),
			cmd("xgroup", "createconsumer", k, "g", "c"), cmd("xreadgroup", "group", "g", "c", "count", 1, "streams", k, ">"),
			cmd("xclaim", k, "g", "c", 0, "1-1", "time", 1_700_000_000_000, "retrycount", 1, "justid"))
	}, []wrong{
		{"a group more", verify.Group, func(k string, _ int) [][]any { return cmds(cmd("xgroup", "create", k, "h", "0")) }},
		{"a consumer more", verify.Consumer, func(k string, _ int) [][]any { return cmds(cmd("xgroup", "createconsumer", k, "g", "d")) }},
		{"a consumer more that has something pending", verify.Group, func(k string, _ int) [][]any {
			return cmds(cmd("xclaim", k, "g", "d", 0, "1-1", "time", 1_700_000_000_000, "retrycount", 1, "justid"))
		}},
		{"the last delivered", verify.Group, func(k string, _ int) [][]any { return cmds(cmd("xgroup", "setid", k, "g", "1-2")) }},
		one("nothing pending", verify.Group, "xack", "g", "1-1"),
		one("delivered again", verify.Group, "xclaim", "g", "c", 0, "1-1", "time", 1_700_000_000_000, "retrycount", 2, "justid"),
		one("delivered later", verify.Group, "xclaim", "g", "c", 0, "1-1", "time", 1_700_000_000_001, "retrycount", 1, "justid"),
		one("an entry more", verify.Value, "xadd", "3-0", "f", "v"),
	}},
}

// planted is what a test has written: n keys, alike at both sides but for wrongs.
type planted struct {
	keys   []string // as written, by number
	shapes []int
	want   map[string]verify.Kind
	kinds  map[string]int // how often each wrong was planted
}

// fill writes n keys to all clients.
func (p *planted) fill(t *testing.T, n int, clients ...client) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		at := rng.IntN(1000)
		s := 0
		for ; at >= shapes[s].share; s++ {
			at -= shapes[s].share
		}
		key := fmt.Sprintf("%s:%d", shapes[s].name, i)
		if shapes[s].name == "string:binary" {
			key += "\x00\xff\r\n"
		}
		p.keys = append(p.keys, key)
		p.shapes = append(p.shapes, s)
	}
	g, ctx := errgroup.WithContext(t.Context())
	for _, c := range clients {
		for part := range slices.Chunk(numbers(n), max(n/4, 1)) {
			g.Go(func() error {
				for some := range slices.Chunk(part, 500) {
					_, err := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
						for _, i := range some {
							key := strings.TrimSuffix(p.keys[i], "\x00\xff\r\n")
							for _, args := range shapes[p.shapes[i]].write(key, i) {
								_ = pipe.Process(ctx, keyed(t, args))
							}
						}
						return nil
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// keyed is a command whose key the client finds.
func keyed(t *testing.T, args []any) *redis.Cmd {
	c := redis.NewCmd(t.Context(), args...)
	switch args[0] {
	case "xgroup":
		c.SetFirstKeyPos(2)
	case "xreadgroup":
		c.SetFirstKeyPos(int8(len(args) - 2))
	}
	return c
}

// plant makes n keys of the target wrong, each in one way.
func (p *planted) plant(t *testing.T, n int, target client) {
	t.Helper()
	p.want, p.kinds = map[string]verify.Kind{}, map[string]int{}
	rng := rand.New(rand.NewPCG(3, 4))
	pipe := target.Pipeline()
	for _, i := range rng.Perm(len(p.keys))[:n] {
		s := shapes[p.shapes[i]]
		ways := slices.Concat(s.wrong, s.wrong, everywhere)
		w := ways[rng.IntN(len(ways))]
		if s.name == "string:expiring" && w.name == "another type" {
			w = everywhere[0] // it would lose its expiry too
		}
		key := p.keys[i]
		for _, args := range w.do(key, i) {
			_ = pipe.Process(t.Context(), keyed(t, args))
		}
		if w.kind == verify.Extra {
			key += ":extra"
		}
		p.want[key] = w.kind
		p.kinds[s.name+": "+w.name]++
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// found compares and checks that the planted differences are found, and nothing else.
func (p *planted) found(t *testing.T, from, to client, opt verify.Options) verify.Result {
	t.Helper()
	got := map[string]verify.Kind{}
	text := map[string]string{}
	var mu sync.Mutex
	opt.Each = func(d verify.Difference) {
		mu.Lock()
		defer mu.Unlock()
		if k, ok := got[d.Key]; ok {
			t.Errorf("%v was told as %s before", d, k)
		}
		got[d.Key] = d.Kind
		text[d.Key] = d.String()
	}
	r := compare(t, from, to, opt)
	bad := 0
	for key, kind := range p.want {
		if got[key] != kind {
			if bad++; bad < 20 {
				t.Errorf("%q: found %q, want %q\n%s", key, got[key], kind, text[key])
			}
		}
		delete(got, key)
	}
	for key, kind := range got {
		if bad++; bad < 20 {
			t.Errorf("false alarm: %q %s\n%s", key, kind, text[key])
		}
	}
	counts := map[verify.Kind]int64{}
	for _, k := range p.want {
		counts[k]++
	}
	if !maps.Equal(counts, r.Counts) {
		t.Errorf("counted %v, want %v", r.Counts, counts)
	}
	return r
}

// plantedKeys are the sizes of the large case; "make planted" has a million keys.
func plantedKeys(t *testing.T) (keys, wrongs int) {
	t.Helper()
	keys, wrongs = 200_000, 2000
	if v := os.Getenv("REDRIVER_PLANTED_KEYS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		keys, wrongs = n, max(n/many100, 1)
	}
	return keys, wrongs
}

func versioned(t *testing.T, version string, masters int) client {
	t.Helper()
	return testkit.New(t).ClusterWith(redistest.Config{Version: version, Masters: masters}).Client()
}

// Differences of all kinds, one in a hundred keys of all types: found all, and nothing else.
func TestPlantedDifferencesAreFoundAndNothingElse(t *testing.T) {
	from, to := versioned(t, "redis-7.4", 3), versioned(t, "redis-8.6", 2)
	var p planted
	keys, wrongs := plantedKeys(t)
	p.fill(t, keys, from, to)
	start := time.Now()
	if r := compare(t, from, to, verify.Options{}); !r.Identical() || r.Keys != int64(keys) {
		t.Fatalf("before anything is planted: %v", r)
	}
	t.Logf("%d keys compared in %s", keys, time.Since(start).Round(time.Millisecond))
	p.plant(t, wrongs, to)
	r := p.found(t, from, to, verify.Options{Rounds: 2, Interval: time.Millisecond})
	t.Logf("%d ways of being wrong, by kind %v, in %s", len(p.kinds), r.Counts, r.Elapsed.Round(time.Millisecond))
	if keys >= 100_000 {
		for _, k := range verify.Kinds {
			if r.Counts[k] == 0 && k != verify.Function {
				t.Errorf("no difference of kind %s was planted", k)
			}
		}
	}
}

// The same on every way of reading: in pieces, by digests, without what old servers lack.
func TestPlantedDifferencesOnEveryWayOfReading(t *testing.T) {
	from, to := versioned(t, "redis-8.6", 2), versioned(t, "redis-8.6", 1)
	var p planted
	p.fill(t, 10_000, from, to)
	p.plant(t, 1000, to)
	for name, opt := range map[string]verify.Options{
		"digests":           {Mode: verify.Digest},
		"pieces":            {LargeBytes: 1},
		"small pages":       {Page: 3, Workers: 1},
		"more than is kept": {MaxRecheck: 10, Rounds: 2, Interval: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			if opt.MaxRecheck != 0 {
				opt.MaxListed = 1
			}
			p.found(t, from, to, opt)
		})
	}
	t.Run("lengths", func(t *testing.T) {
		r := compare(t, from, to, verify.Options{Mode: verify.Length})
		if r.Counts[verify.Missing] == 0 || r.Counts[verify.Extra] == 0 || r.Counts[verify.Value] == 0 || r.Counts[verify.Expiry] == 0 || r.Counts[verify.Type] == 0 || r.Counts[verify.Group] != 0 {
			t.Errorf("%v", r)
		}
	})
	t.Run("keys", func(t *testing.T) {
		want := map[verify.Kind]int64{}
		for _, k := range p.want {
			if k == verify.Missing || k == verify.Extra || k == verify.Type {
				want[k]++
			}
		}
		if r := compare(t, from, to, verify.Options{Mode: verify.Keys}); !maps.Equal(r.Counts, want) {
			t.Errorf("counted %v, want %v", r.Counts, want)
		}
	})
}
