package verify_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/verify"
)

// pairsOf are versions to compare: each with the newest Redis, and with the next one.
func pairsOf(versions []string) (pairs [][2]string) {
	const newest = "redis-8.6"
	for i, v := range versions {
		if v != newest {
			pairs = append(pairs, [2]string{v, newest})
		}
		if i+1 < len(versions) && versions[i+1] != newest {
			pairs = append(pairs, [2]string{v, versions[i+1]})
		}
	}
	return pairs
}

// fieldExpiry are the versions whose hashes have fields that expire.
var fieldExpiry = []string{"redis-7.4", "redis-8.0", "redis-8.6", "valkey-9.1"}

// fillVersion writes what the version knows, and a copy to the other by the same commands.
func fillVersion(t *testing.T, both []client, field bool) (keys int64) {
	t.Helper()
	plant(t, both)
	for i := range 40 {
		k := strconv.Itoa(i)
		do(t, both, "set int:"+k+" "+strconv.Itoa(i*i*i-1000), "set lzf:"+k+" "+strings.Repeat("abcd", 10*i+1), "setbit bits:"+k+" "+strconv.Itoa(37*i)+" 1",
			"pfadd hll:"+k+" a b c "+k, "geoadd geo:"+k+" 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
			"rpush list:"+k+" "+strings.TrimSpace(strings.Repeat("x"+k+" ", 20*i+1)), "sadd set:"+k+" 1 -5 70000 5000000000",
			fmt.Sprintf("set ttl:%d v", i), fmt.Sprintf("pexpireat ttl:%d %d", i, int64(expireAt)+int64(i)))
		do(t, both, "sadd words:"+k+" "+strings.Join([]string{"one", "two", "three", k}, " "), "hset hash:"+k+" f 1 g "+strings.Repeat("v", 3*i+1),
			"zadd zset:"+k+" 0.1 a -inf b 1e300 c 5e-324 d "+k+" e")
	}
	keys = 54 + 40*11
	if field {
		do(t, both, "hset fields f v g w", fmt.Sprintf("hpexpireat fields %d fields 1 g", int64(expireAt)))
		keys++
	}
	return keys
}

// Deployments of any two versions that hold the same are identical, and each difference is found.
func TestAnyTwoVersions(t *testing.T) {
	versions := []string{"redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0", "redis-8.6", "valkey-8.0", "valkey-8.1", "valkey-9.1"}
	for _, pair := range pairsOf(versions) {
		t.Run(pair[0]+" and "+pair[1], func(t *testing.T) {
			t.Parallel()
			w := testkit.New(t)
			from, to := w.Server(pair[0]).Client(), w.Server(pair[1]).Client()
			field := slices.Contains(fieldExpiry, pair[0]) && slices.Contains(fieldExpiry, pair[1])
			keys := fillVersion(t, []client{from, to}, field)
			modes := []verify.Options{{}, {LargeBytes: 1}, {Mode: verify.Digest}, {Mode: verify.Length}, {Mode: verify.Keys}}
			for _, opt := range modes {
				for _, p := range [][2]client{{from, to}, {to, from}} {
					if r := compare(t, p[0], p[1], opt); !r.Identical() || r.Keys != keys {
						t.Errorf("mode %q, large %d: %d keys, want %d: %v", opt.Mode, opt.LargeBytes, r.Keys, keys, r)
					}
				}
			}
			want := map[string][]verify.Kind{}
			wrong := func(key string, kind verify.Kind, command string) {
				do(t, []client{to}, command)
				want[key] = []verify.Kind{kind}
			}
			wrong("int:3", verify.Value, "incr int:3")
			wrong("lzf:30", verify.Value, "setrange lzf:30 77 X")
			wrong("list:20", verify.Value, "lset list:20 200 y")
			wrong("set:2", verify.Value, "srem set:2 70000")
			wrong("words:2", verify.Value, "sadd words:2 four")
			wrong("hash:30", verify.Value, "hset hash:30 g x")
			wrong("zset:3", verify.Value, "zadd zset:3 0.10000000000000002 a")
			wrong("geo:1", verify.Value, "zrem geo:1 Palermo")
			wrong("hll:1", verify.Value, "pfadd hll:1 other")
			wrong("ttl:1", verify.Expiry, "persist ttl:1")
			wrong("ttl:2", verify.Expiry, "pexpireat ttl:2 4000000900000")
			wrong("diff:stream", verify.Value, "xadd diff:stream 9-9 f v")
			wrong("same:stream", verify.Group, "xgroup create same:stream another 0")
			wrong("big:zset", verify.Value, "zincrby big:zset 1 m4000")
			wrong("only", verify.Extra, "set only v")
			wrong("int:1", verify.Missing, "del int:1")
			wrong("bits:1", verify.Type, "del bits:1")
			do(t, []client{to}, "rpush bits:1 a")
			if field {
				wrong("fields", verify.FieldExpiry, fmt.Sprintf("hpexpireat fields %d fields 1 g", int64(expireAt)+1))
			}
			for _, opt := range modes[:3] {
				got := map[string][]verify.Kind{}
				r := compare(t, from, to, opt)
				for _, d := range r.Differences {
					got[d.Key] = append(got[d.Key], d.Kind)
				}
				for k := range want {
					if !slices.Equal(got[k], want[k]) {
						t.Errorf("mode %q, large %d: %s: %v, want %v", opt.Mode, opt.LargeBytes, k, got[k], want[k])
					}
				}
				if len(got) != len(want) {
					t.Errorf("mode %q, large %d: %v", opt.Mode, opt.LargeBytes, r)
				}
			}
		})
	}
}

// Libraries of functions that an old side cannot have are missing there.
func TestFunctionsAgainstAnOldVersion(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to := w.Server("redis-7.4"), w.Server("redis-6.2")
	if r := compare(t, from.Client(), to.Client(), verify.Options{}); !r.Identical() {
		t.Errorf("%v", r)
	}
	if err := from.Client().FunctionLoad(t.Context(), library("lib", "1")).Err(); err != nil {
		t.Fatal(err)
	}
	if r := compare(t, from.Client(), to.Client(), verify.Options{}); r.Counts[verify.Function] != 1 {
		t.Errorf("%v", r)
	}
}
