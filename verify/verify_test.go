package verify_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/verify"
)

type client = redis.UniversalClient

func cluster(tb testing.TB, masters int) *redis.ClusterClient {
	tb.Helper()
	return testkit.New(tb).Cluster(masters, 0).Client()
}

func single(tb testing.TB) *redis.Client {
	tb.Helper()
	return testkit.New(tb).Server("").Client()
}

// do runs commands, each a line of words, at every client. $N stands for N thousand bytes, \x for bytes.
func do(t *testing.T, cs []client, lines ...string) {
	t.Helper()
	for _, c := range cs {
		for _, l := range lines {
			var args []any
			for w := range strings.FieldsSeq(l) {
				if n, err := strconv.Atoi(strings.TrimPrefix(w, "$")); err == nil && w[0] == '$' {
					w = strings.Repeat("v", n*1000)
				}
				if strings.Contains(w, `\`) {
					u, err := strconv.Unquote(`"` + w + `"`)
					if err != nil {
						t.Fatal(err)
					}
					w = u
				}
				args = append(args, w)
			}
			cmd := redis.NewCmd(t.Context(), args...)
			if strings.EqualFold(args[0].(string), "xgroup") {
				cmd.SetFirstKeyPos(2)
			}
			if strings.EqualFold(args[0].(string), "xreadgroup") {
				cmd.SetFirstKeyPos(int8(len(args) - 2))
			}
			if err := c.Process(t.Context(), cmd); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
		}
	}
}

// many is a command with n numbered arguments, in an order of its own for each side.
func many(n int, format string, c client, t *testing.T, args ...any) {
	t.Helper()
	for chunk := range slices.Chunk(numbers(n), 1000) {
		a := slices.Clone(args)
		for _, i := range chunk {
			for w := range strings.FieldsSeq(strings.ReplaceAll(format, "%", strconv.Itoa(i))) {
				a = append(a, w)
			}
		}
		if err := c.Do(t.Context(), a...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers(n int) []int {
	ns := make([]int, n)
	for i := range ns {
		ns[i] = i
	}
	return ns
}

// plant writes values of every type and size that are equal at all sides.
func plant(t *testing.T, cs []client) {
	at := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	for _, p := range []string{"same:", "ttl:", "diff:", "big:", "{tag}:", `\x00\xff\r\n:`} {
		do(t, cs,
			"set "+p+"str value", "set "+p+"int 12345", "set "+p+"long $20",
			"hset "+p+"hash f v g w", "rpush "+p+"list a b c", "sadd "+p+"set a b c", "sadd "+p+"intset 1 2 3",
			"zadd "+p+"zset 1.1 a 0 b inf c -inf d 3.0000000000000004 e",
			"xadd "+p+"stream 1-1 f v f w", "xadd "+p+"stream 2-1 g v", "xgroup create "+p+"stream grp 0",
			"xgroup create "+p+"stream idle $", "xreadgroup group grp con count 1 streams "+p+"stream >")
		for _, k := range []string{"str", "hash", "list", "set", "zset", "stream"} {
			if p == "ttl:" {
				do(t, cs, "pexpireat "+p+k+" "+at)
			}
			// Delivery times are the clock's: what a source hands on is what both sides get here.
			do(t, cs, "xclaim "+p+"stream grp con 0 1-1 time 1700000000000 retrycount 1 justid")
		}
	}
	for _, c := range cs {
		many(5000, "f% v%", c, t, "hset", "big:hash")
		many(5000, "m%", c, t, "sadd", "big:set")
		many(5000, "%.25 m%", c, t, "zadd", "big:zset")
		many(5000, "e%", c, t, "rpush", "big:list")
		for i := range 2500 {
			if err := c.Do(t.Context(), "xadd", "big:stream", fmt.Sprintf("%d-0", 10+i), "f", i).Err(); err != nil {
				t.Fatal(err)
			}
		}
		do(t, []client{c}, "set big:str $3000")
	}
}

// The differences to plant: commands at one side, and what must be found.
var differences = []struct {
	from, to string
	key      string
	kinds    []verify.Kind
	text     string
}{
	{from: "set only:from v", key: "only:from", kinds: []verify.Kind{verify.Missing}},
	{from: "set only:exp v px 3600000", key: "only:exp", kinds: []verify.Kind{verify.Missing}, text: "until"},
	{to: "set only:to v", key: "only:to", kinds: []verify.Kind{verify.Extra}},
	{to: `sadd only:\x00\xfe v`, key: "only:\x00\xfe", kinds: []verify.Kind{verify.Extra}, text: `only:\x00\xfe`},
	{from: "set type:a 1", to: "sadd type:a 1", key: "type:a", kinds: []verify.Kind{verify.Type}, text: "source string, target set"},
	{from: "set type:b 1 px 3600000", to: "rpush type:b 1", key: "type:b", kinds: []verify.Kind{verify.Type, verify.Expiry}},
	{to: "set diff:str Value", key: "diff:str", kinds: []verify.Kind{verify.Value}, text: `"Value"`},
	{to: "set diff:int 12346", key: "diff:int", kinds: []verify.Kind{verify.Value}},
	{to: "setrange diff:long 19999 x", key: "diff:long", kinds: []verify.Kind{verify.Value}, text: "byte 19999"},
	{to: "hset diff:hash f x", key: "diff:hash", kinds: []verify.Kind{verify.Value}, text: `field "f" = "x"`},
	{to: "lset diff:list 2 x", key: "diff:list", kinds: []verify.Kind{verify.Value}, text: "index 2"},
	{to: "srem diff:set c", key: "diff:set", kinds: []verify.Kind{verify.Value}, text: `no member "c"`},
	{to: "sadd diff:intset 4", key: "diff:intset", kinds: []verify.Kind{verify.Value}, text: `source no member "4"`},
	{to: "zadd diff:zset 3.0000000000000009 e", key: "diff:zset", kinds: []verify.Kind{verify.Value}, text: `member "e" score 3.000000000000000`},
	{to: "xadd diff:stream 3-1 f v", key: "diff:stream", kinds: []verify.Kind{verify.Value}, text: "entry 3-1"},
	{to: "set big:str x", key: "big:str", kinds: []verify.Kind{verify.Value}},
	{to: "hdel big:hash f17", key: "big:hash", kinds: []verify.Kind{verify.Value}, text: `no field "f17"`},
	{to: "sadd big:set another", key: "big:set", kinds: []verify.Kind{verify.Value}, text: `member "another"`},
	{to: "zincrby big:zset 1 m4999", key: "big:zset", kinds: []verify.Kind{verify.Value}, text: `"m4999"`},
	{to: "rpop big:list", key: "big:list", kinds: []verify.Kind{verify.Value}, text: "target no index 5002"},
	{to: "xdel big:stream 2009-0", key: "big:stream", kinds: []verify.Kind{verify.Value}, text: "2009-0"},
	{to: "xsetid same:stream 9-9", key: "same:stream", kinds: []verify.Kind{verify.Value}, text: "last-generated-id 9-9"},
	{to: "xgroup create ttl:stream more 0", key: "ttl:stream", kinds: []verify.Kind{verify.Group}, text: `no group "more"`},
	{to: "xack {tag}:stream grp 1-1", key: "{tag}:stream", kinds: []verify.Kind{verify.Group}, text: "pending"},
	{to: `xgroup createconsumer \x00\xff\r\n:stream idle new`, key: "\x00\xff\r\n:stream", kinds: []verify.Kind{verify.Consumer}, text: `consumer "new" 0 pending`},
	{
		from: "xadd claim 1-1 f v|xgroup create claim g 0|xreadgroup group g c streams claim >|xclaim claim g c 0 1-1 time 1700000000000 retrycount 1 justid",
		to:   "xadd claim 1-1 f v|xgroup create claim g 0|xreadgroup group g c streams claim >|xclaim claim g c 0 1-1 time 1700000000001 retrycount 1 justid",
		key:  "claim", kinds: []verify.Kind{verify.Group}, text: "delivered at 1700000000001",
	},
	{from: "xadd trim 1-1 f v|xadd trim 2-1 f v|xdel trim 2-1", to: "xadd trim 1-1 f v|xsetid trim 2-1", key: "trim", kinds: []verify.Kind{verify.Value}, text: "entries-added"},
	{to: "persist ttl:str", key: "ttl:str", kinds: []verify.Kind{verify.Expiry}, text: "target no expiry"},
	{to: "pexpire ttl:hash 1000000|hset ttl:hash f x", key: "ttl:hash", kinds: []verify.Kind{verify.Value, verify.Expiry}},
	{from: "set ms v pxat 4000000000000", to: "set ms v pxat 4000000000001", key: "ms", kinds: []verify.Kind{verify.Expiry}, text: "4000000000001"},
}

func TestFindsExactlyWhatDiffers(t *testing.T) {
	t.Parallel()
	from, to := cluster(t, 1), cluster(t, 1)
	both := []client{from, to}
	plant(t, both)

	// Own keys count nowhere, keys like them do.
	tag := slot.Slot(77)
	for _, k := range [][]byte{own.Key(own.Checkpoint, "a", tag), own.Key(own.Fence, "b", tag), own.Key(own.Watermark, "c", tag), own.StagingKey("a", 3, tag)} {
		if err := to.Set(t.Context(), string(k), "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r := compare(t, from, to, verify.Options{})
	if !r.Identical() || r.Own != 4 || r.Keys != 54 {
		t.Fatalf("equal sides, 4 own keys, 54 keys: %d own, %d keys\n%v", r.Own, r.Keys, r)
	}
	if !strings.HasSuffix(r.String(), "\nIDENTICAL") {
		t.Fatalf("no verdict: %v", r)
	}

	want := map[string][]verify.Kind{"redriver!c!a!{nobody}": {verify.Extra}}
	do(t, []client{to}, "set redriver!c!a!{nobody} x")
	for _, d := range differences {
		if d.from != "" {
			do(t, []client{from}, strings.Split(d.from, "|")...)
		}
		if d.to != "" {
			do(t, []client{to}, strings.Split(d.to, "|")...)
		}
		want[d.key] = d.kinds
	}
	for _, opt := range []verify.Options{{}, {Page: 7, LargeBytes: 1}, {Rounds: 3, Interval: time.Millisecond}, {MaxRecheck: 3}} {
		r := compare(t, from, to, opt)
		check(t, r, want)
	}
	r = compare(t, from, to, verify.Options{MaxListed: 5})
	if len(r.Differences) != 5 || r.Total() != int64(total(want)) || !strings.Contains(r.String(), "and 28 more") {
		t.Errorf("capped at 5: %v", r)
	}
}

func total(want map[string][]verify.Kind) int {
	n := 0
	for _, k := range want {
		n += len(k)
	}
	return n
}

// at is the deployment that a client speaks with.
func at(c client) verify.Deployment {
	if cc, ok := c.(*redis.ClusterClient); ok {
		return verify.At(cc.Options().Addrs...)
	}
	return verify.At(c.(*redis.Client).Options().Addr)
}

func compare(t *testing.T, from, to client, opt verify.Options) verify.Result {
	t.Helper()
	r, err := verify.Compare(t.Context(), at(from), at(to), opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func check(t *testing.T, r verify.Result, want map[string][]verify.Kind) {
	t.Helper()
	got := map[string][]verify.Kind{}
	lines := map[string]string{}
	for _, d := range r.Differences {
		got[d.Key] = append(got[d.Key], d.Kind)
		lines[d.Key] += d.String() + "\n"
		if s := slot.Of([]byte(d.Key)); d.Slot != s {
			t.Errorf("%q: slot %d, want %d", d.Key, d.Slot, s)
		}
	}
	for _, ks := range []map[string][]verify.Kind{got, want} {
		for _, k := range ks {
			slices.Sort(k)
		}
	}
	for k := range maps.Keys(want) {
		if !slices.Equal(got[k], want[k]) {
			t.Errorf("%q: got %v, want %v\n%s", k, got[k], want[k], lines[k])
		}
		delete(got, k)
	}
	if len(got) > 0 {
		t.Errorf("found too much: %v\n%v", got, r)
	}
	for _, d := range differences {
		if !strings.Contains(lines[d.key], d.text) {
			t.Errorf("%q: %q does not say %q", d.key, lines[d.key], d.text)
		}
	}
}

func TestShapesDoNotMatter(t *testing.T) {
	t.Parallel()
	three, one := cluster(t, 3), single(t)
	plant(t, []client{three, one})
	for _, p := range [][2]client{{three, one}, {one, three}} {
		if r := compare(t, p[0], p[1], verify.Options{}); !r.Identical() || r.Keys != 54 {
			t.Errorf("%v", r)
		}
	}
	do(t, []client{one}, "del same:str")
	if r := compare(t, three, one, verify.Options{}); r.Counts[verify.Missing] != 1 || r.Total() != 1 {
		t.Errorf("%v", r)
	}
}

func TestRounds(t *testing.T) {
	from, to := single(t), single(t)
	do(t, []client{from}, "set late v", "set never v")
	rounds := 0
	r := compare(t, from, to, verify.Options{Rounds: 3, Interval: 20 * time.Millisecond, Progress: func(p verify.Progress) {
		if p.Round != rounds {
			rounds = p.Round
			if rounds == 1 {
				do(t, []client{to}, "set late v")
			}
		}
	}})
	if r.Rounds != 3 || rounds != 3 || r.Total() != 1 || r.Differences[0].Key != "never" || r.Keys != 2 {
		t.Errorf("%+v", r)
	}
}

func TestExpiryAroundNow(t *testing.T) {
	t.Parallel()
	from, to := single(t), single(t)
	do(t, []client{from}, "set soon v px 300", "set later v px 60000")
	r := compare(t, from, to, verify.Options{})
	ok := r.Total() == 1 && r.Differences[0].Key == "later"
	if !ok {
		t.Errorf("a key about to expire counts, or one with time left does not: %v", r)
	}
	do(t, []client{from}, "set k v pxat 4000000000000", "hset h f v", "del later")
	do(t, []client{to}, "set k v pxat 4000003600000", "hset h f v")
	if r := compare(t, from, to, verify.Options{ExpiryHold: time.Hour}); !r.Identical() {
		t.Errorf("hold: %v", r)
	}
	if r := compare(t, from, to, verify.Options{TTLTolerance: time.Hour}); !r.Identical() {
		t.Errorf("tolerance: %v", r)
	}
	if r := compare(t, from, to, verify.Options{TTLTolerance: time.Hour - time.Millisecond}); r.Counts[verify.Expiry] != 1 {
		t.Errorf("tolerance: %v", r)
	}
}
