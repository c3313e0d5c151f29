package verify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/verify"
)

// repaired repairs, and checks that every difference that was there is told as repaired, and none is left.
func repaired(t *testing.T, from, to client, opt verify.Options, want int64) {
	t.Helper()
	before := compare(t, from, to, opt)
	if before.Total() < want {
		t.Errorf("%d differences before, want %d: %v", before.Total(), want, before.Counts)
	}
	keys := map[string]bool{}
	opt.Repair = true
	opt.Each = func(d verify.Difference) {
		keys[d.Key] = true
		if !d.Repaired {
			t.Errorf("not repaired: %v", d)
		}
	}
	r := compare(t, from, to, opt)
	if r.Total() != 0 || r.Unsettled != 0 || r.Repaired != int64(len(keys)) || r.Keys != before.Keys {
		t.Errorf("%d of %d repaired, %d keys looked at, %d before\n%v", r.Repaired, len(keys), r.Keys, before.Keys, r)
	}
	opt.Repair, opt.Each = false, nil
	if r := compare(t, from, to, opt); !r.Identical() {
		t.Errorf("after repair: %v", r)
	}
}

// Every way of being wrong is put right: by payload, rebuilt from pieces, and where the target is older than the source.
func TestRepairOfEveryDifference(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, from, to string
		opt            verify.Options
	}{
		{"payloads", "redis-8.6", "redis-8.6", verify.Options{}},
		{"rounds", "redis-8.6", "redis-8.6", verify.Options{Rounds: 2, Interval: time.Millisecond}},
		{"pieces", "redis-8.6", "redis-8.6", verify.Options{LargeBytes: 1}},
		{"older target", "redis-8.6", "redis-7.4", verify.Options{}},
		{"other family", "valkey-9.1", "redis-8.6", verify.Options{}},
		{"newer target", "redis-7.4", "valkey-9.1", verify.Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := testkit.New(t)
			from, to := w.Server(c.from).Client(), w.Server(c.to).Client()
			var p planted
			p.fill(t, 3000, from, to)
			p.plant(t, 600, to)
			repaired(t, from, to, c.opt, 600)
		})
	}
}

// Values too large for one reply, streams with groups, into a cluster and out of one, into versions that know less.
func TestRepairOfLargeValues(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"redis-5.0", "redis-6.2", "redis-7.0", "valkey-8.0"} {
		t.Run(version, func(t *testing.T) {
			w := testkit.New(t)
			from, to := w.Server("redis-8.6").Client(), w.Server(version).Client()
			plant(t, []client{from})
			do(t, []client{from}, "xadd empty 5-5 f v", "xdel empty 5-5", "xgroup create empty g 3-3", "set none x", "setrange none 0 y")
			do(t, []client{to}, "set big:str x", "rpush extra a")
			repaired(t, from, to, verify.Options{LargeBytes: 64 << 10}, 50)
		})
	}
	t.Run("clusters", func(t *testing.T) {
		w := testkit.New(t)
		from, to := w.Cluster(2, 0).Client(), w.Cluster(1, 0).Client()
		plant(t, []client{from})
		do(t, []client{from, to}, "rpush {t}:both a b")
		do(t, []client{to}, "rpush {t}:both c")
		repaired(t, from, to, verify.Options{LargeBytes: 1}, 55)
		for _, k := range to.Keys(t.Context(), "redriver*").Val() {
			t.Errorf("left over: %q", k)
		}
	})
}

// Where the target's expiry times are later by a hold, so are those of a repair, of keys and of fields.
func TestRepairWithHold(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	const hold = 30 * time.Minute // shorter than what is left: nothing is dead
	from, to := w.Server("redis-8.6").Client(), w.Server("redis-8.6").Client()
	soon := time.Now().Add(time.Hour).UnixMilli()
	do(t, []client{from}, fmt.Sprintf("set k v pxat %d", soon), "hset h f v g w", fmt.Sprintf("hpexpireat h %d fields 1 f", soon),
		fmt.Sprintf("pexpireat h %d", soon), "hset plain f v", "set e v", "hset same f v", fmt.Sprintf("hpexpireat same %d fields 1 f", soon))
	// Equal times are wrong under a hold.
	do(t, []client{to}, fmt.Sprintf("set e v pxat %d", soon), "hset same f v", fmt.Sprintf("hpexpireat same %d fields 1 f", soon))
	for _, mode := range []verify.Mode{verify.Full, verify.Digest} {
		if r := compare(t, from, to, verify.Options{Mode: mode, ExpiryHold: hold}); r.Counts[verify.FieldExpiry] != 1 || r.Counts[verify.Expiry] != 1 || r.Counts[verify.Missing] != 3 {
			t.Errorf("%s: %v", mode, r)
		}
	}
	repaired(t, from, to, verify.Options{ExpiryHold: hold}, 5)
	want := soon + hold.Milliseconds()
	if got := to.Do(t.Context(), "pexpiretime", "h").Val(); got != want {
		t.Errorf("h expires at %v, want %d", got, want)
	}
	if got := to.Do(t.Context(), "hpexpiretime", "h", "fields", 1, "f").Val(); fmt.Sprint(got) != fmt.Sprintf("[%d]", want) {
		t.Errorf("its field expires at %v, want %d", got, want)
	}
}

// The command tells of each key that it has repaired, and counts them; what the target cannot hold it names, and goes on.
func TestRepairByTheCommand(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to := w.Server("redis-8.6").Client(), w.Server("redis-7.0").Client()
	do(t, []client{from, to}, "set a v", "set b v")
	do(t, []client{from}, "set a w", "set only v", "hset fields f v g w", fmt.Sprintf("hpexpireat fields %d fields 1 f", int64(expireAt)))
	do(t, []client{to}, "set extra v")
	loadOn(t, []*redis.Client{from}, library("lib", "1"))
	list := w.Path("list")
	args := append(addresses(from, to), "--repair", "--rounds", "1", "--differences", list)
	run := start(t, w, nil, args...)
	s := run.ends(different)
	run.says("fields", "the target knows no expiry of hash fields")
	if s.Repaired != 4 || s.Total() != 1 || s.Counts[verify.Missing] != 1 {
		t.Errorf("%s", run.LogTail(5))
	}
	got := map[string]bool{}
	for _, d := range readList(t, list) {
		got[d.Key] = d.Repaired
	}
	if len(got) != 5 || !got["a"] || !got["only"] || !got["extra"] || !got["lib"] || got["fields"] {
		t.Errorf("listed %v", got)
	}
	if text := to.Get(t.Context(), "a").Val() + to.Get(t.Context(), "only").Val() + to.Get(t.Context(), "extra").Val(); text != "wv" {
		t.Errorf("the target has %q", text)
	}
	if keys := to.Keys(t.Context(), "redriver*").Val(); len(keys) > 0 {
		t.Errorf("left over: %s", strings.Join(keys, " "))
	}
}
