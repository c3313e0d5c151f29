package load_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/verify"
)

func cluster(tb testing.TB, masters int) *redis.ClusterClient {
	tb.Helper()
	return testkit.New(tb).Cluster(masters, 0).Client()
}

func single(tb testing.TB) *redis.Client {
	tb.Helper()
	return testkit.New(tb).Server("").Client()
}

// at is the deployment that a client speaks with.
func at(c redis.UniversalClient) verify.Deployment {
	if cc, ok := c.(*redis.ClusterClient); ok {
		return verify.At(cc.Options().Addrs...)
	}
	return verify.At(c.(*redis.Client).Options().Addr)
}

func TestFillIsTheSameForTheSameSeed(t *testing.T) {
	a, b := cluster(t, 3), cluster(t, 1)
	cfg := load.FillConfig{Keys: 5000, Seed: 7, TTLShare: 0.2, Prefix: "p:"}
	for _, c := range []redis.UniversalClient{a, b, b} { // b twice: a second Fill changes nothing
		if err := load.Fill(t.Context(), c, cfg); err != nil {
			t.Fatal(err)
		}
		cfg.Workers, cfg.Pipeline = 2, 33
	}
	// Expiry is relative, consumers are seen and entries delivered when they are.
	r, err := verify.Compare(t.Context(), at(a), at(b), verify.Options{TTLTolerance: 2 * time.Minute, MaxListed: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	if r.Keys != 5000 {
		t.Errorf("%d keys, want 5000", r.Keys)
	}
	for _, d := range r.Differences {
		if !strings.Contains(d.From, "delivered at") {
			t.Errorf("%v", d)
		}
	}
	expiring := 0
	types := map[string]int{}
	each(t, a, func(k string) {
		if a.PTTL(t.Context(), k).Val() > 0 {
			expiring++
		}
		types[a.Type(t.Context(), k).Val()]++
	})
	if expiring < 800 || expiring > 1200 || len(types) != 6 {
		t.Errorf("%d keys of 5000 with an expiry, types %v", expiring, types)
	}
}

func each(t *testing.T, c *redis.ClusterClient, fn func(string)) {
	t.Helper()
	masters := make(chan *redis.Client, 16)
	if err := c.ForEachMaster(t.Context(), func(_ context.Context, m *redis.Client) error { masters <- m; return nil }); err != nil {
		t.Fatal(err)
	}
	close(masters)
	for m := range masters {
		for it := m.Scan(t.Context(), 0, "", 1000).Iterator(); it.Next(t.Context()); {
			fn(it.Val())
		}
	}
}

func TestFillRefuses(t *testing.T) {
	for _, cfg := range []load.FillConfig{{Keys: -1}, {TTLShare: 0.6, ShortTTLShare: 0.6}, {Mix: load.Mix{String: -1, Int: 2}}} {
		if err := load.Fill(t.Context(), nil, cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

func TestWriterWritesEverything(t *testing.T) {
	for name, c := range map[string]redis.UniversalClient{"cluster": cluster(t, 3), "single": single(t)} {
		t.Run(name, func(t *testing.T) { writeEverything(t, c) })
	}
}

func writeEverything(t *testing.T, c redis.UniversalClient) {
	w, err := load.NewWriter(c, load.WriterConfig{Seed: 1, Prefix: "own:", Shared: "shared:", Keys: 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	n := w.Counts()
	t.Logf("%d commands/s, %d rejected, %d failed, %v", n.Commands/3, n.Rejected, n.Failed, n.Errors)
	if n.Failed != 0 || n.Rejected > n.Commands/5 {
		t.Errorf("%d commands, %d rejected, %d failed: %v", n.Commands, n.Rejected, n.Failed, n.Errors)
	}
	for word := range n.Errors {
		if !slices.Contains([]string{"ERR", "WRONGTYPE", "NOGROUP", "BUSYGROUP"}, word) {
			t.Errorf("errors %v", n.Errors)
		}
	}
	for name := range strings.FieldsSeq(`incr incrby decr append set setrange setnx getdel getex incrbyfloat mset setbit bitop
		bitfield rpush lpush lpop ltrim lset lrem lmove rpop hset hincrby hdel hsetnx hincrbyfloat sadd srem spop smove
		zadd zincrby zrem zpopmin zremrangebyrank xadd xtrim xgroup xreadgroup xdel xack xclaim expire pexpire pexpireat
		persist unlink del copy renamenx rename sinterstore sdiffstore sort zunionstore zinterstore zrangestore pfadd
		pfmerge geoadd multi exec eval`) {
		if n.ByName[name] == 0 && name != "multi" && name != "exec" {
			t.Errorf("no %s took effect: %v", name, n.ByName)
		}
	}
	// The script with undeclared keys reached more keys than its own.
	found, err := countKeys(t, c, "*near:*:{*")
	if err != nil || found < 10 {
		t.Errorf("%d keys by scripts that did not declare them, %v", found, err)
	}
}

func countKeys(t *testing.T, c redis.UniversalClient, pattern string) (int, error) {
	n := 0
	count := func(ctx context.Context, c *redis.Client) error {
		it := c.Scan(ctx, 0, pattern, 1000).Iterator()
		for it.Next(ctx) {
			n++
		}
		return it.Err()
	}
	if cc, ok := c.(*redis.ClusterClient); ok {
		var errs []error
		nodes := make(chan *redis.Client, 16)
		errs = append(errs, cc.ForEachMaster(t.Context(), func(_ context.Context, m *redis.Client) error { nodes <- m; return nil }))
		close(nodes)
		for m := range nodes {
			errs = append(errs, count(t.Context(), m))
		}
		return n, errors.Join(errs...)
	}
	return n, count(t.Context(), c.(*redis.Client))
}

func TestWriterKeepsItsRate(t *testing.T) {
	c := single(t)
	w, err := load.NewWriter(c, load.WriterConfig{Prefix: "p:", Rate: 500, Without: []string{"multi", "list", "set", "store"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_ = w.Run(ctx)
	if n := w.Counts().Commands; n < 700 || n > 1300 {
		t.Errorf("%d commands in 2 s, want about 1000", n)
	}
	if _, err := load.NewWriter(c, load.WriterConfig{Prefix: "p:", Without: []string{"nothing"}}); err == nil {
		t.Error("an unknown operation was left out")
	}
}

func TestWriterSurvivesItsServer(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer c.Close()
	w, err := load.NewWriter(c, load.WriterConfig{Prefix: "p:"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := w.Run(ctx); err != nil || w.Counts().Failed == 0 {
		t.Errorf("%v, %+v", err, w.Counts())
	}
}

func TestHistory(t *testing.T) {
	source, target := cluster(t, 1), cluster(t, 1)
	h, err := load.NewHistory(source, load.HistoryConfig{Prefix: "h:", Keys: 8, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := h.Run(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d numbers/s", h.Stats().Acked)
	copyAll := func() {
		t.Helper()
		each(t, source, func(k string) {
			if err := target.RestoreReplace(t.Context(), k, 0, source.Dump(t.Context(), k).Val()).Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
	copyAll()
	if err := h.WaitCaughtUp(t.Context(), source, target); err != nil {
		t.Fatal(err)
	}
	if vs, err := h.Check(t.Context(), source, target); err != nil || len(vs) > 0 {
		t.Fatalf("a true copy: %v, %v", vs, err)
	}
	if lost, err := h.SourceLost(t.Context(), source); err != nil || len(lost) > 0 {
		t.Fatalf("the source lost %v, %v", lost, err)
	}
	for _, c := range []struct {
		do   string
		want string
	}{
		{"rpop h:log:0", "Complete h:log:0"},
		{"rpush h:log:0 1", "Once h:log:0"},
		{"rpush h:log:0 999999999", "Once h:log:0"},
		{"linsert h:log:0 before 1 x|lrem h:log:0 1 2|lset h:log:0 0 2", "Ordered h:log:0"},
		{"incr h:inc:3", "Once h:inc:3"},
		{"decr h:inc:3", "Complete h:inc:3"},
		{"append h:cnt:4 1,", "Once h:cnt:4"},
		{"set h:cnt:4 1,", "Complete h:cnt:4"},
		{"set h:a:{5} 1|set h:b:{5} 1", "Complete h:a:{5}"},
		{"set h:b:{5} 1", "AtomicUnit h:a:{5}"},
		{"del h:log:6", "Complete h:log:6"},
	} {
		for l := range strings.SplitSeq(c.do, "|") {
			var args []any
			for w := range strings.FieldsSeq(l) {
				args = append(args, w)
			}
			if err := target.Do(t.Context(), args...).Err(); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
		}
		vs, err := h.Check(t.Context(), source, target)
		if err != nil || len(vs) != 1 || fmt.Sprint(vs[0].Promise, " ", vs[0].Key) != c.want {
			t.Errorf("%s: got %v, %v, want %s", c.do, vs, err, c.want)
		}
		copyAll()
	}
	if err := waitShort(t, h, source, target); err != nil {
		t.Errorf("after the last copy: %v", err)
	}
	tornIsSeen(t, h, source, target)
}

func waitShort(t *testing.T, h *load.History, source, target redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return h.WaitCaughtUp(ctx, source, target)
}

// tornIsSeen: the sampler remembers what is whole again at the end.
func tornIsSeen(t *testing.T, h *load.History, source, target redis.UniversalClient) {
	t.Helper()
	was := target.Get(t.Context(), "h:a:{7}").Val()
	target.Set(t.Context(), "h:a:{7}", "0", 0)
	if err := waitShort(t, h, source, target); err == nil {
		t.Error("a target that is behind has caught up")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := h.Sample(ctx, target); err != nil {
		t.Fatal(err)
	}
	target.Set(t.Context(), "h:a:{7}", was, 0)
	vs, err := h.Check(t.Context(), source, target)
	if err != nil || len(vs) != 1 || vs[0].Promise != load.AtomicUnit || vs[0].Key != "h:a:{7}" || h.Stats().Samples == 0 {
		t.Errorf("torn pair: %v, %v", vs, err)
	}
}

func BenchmarkFill(b *testing.B) {
	c := cluster(b, 3)
	for n := 0; b.Loop(); n++ {
		const keys = 100_000
		start := time.Now()
		if err := load.Fill(b.Context(), c, load.FillConfig{Keys: keys, Seed: uint64(n), TTLShare: 0.1}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(keys/time.Since(start).Seconds(), "keys/s")
	}
}

func BenchmarkCompare(b *testing.B) {
	from, to := cluster(b, 3), cluster(b, 3)
	for _, c := range []redis.UniversalClient{from, to} {
		if err := load.Fill(b.Context(), c, load.FillConfig{Keys: 100_000, Mix: load.Mix{String: 10, Hash: 5, LargeHash: 1, List: 4}}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		r, err := verify.Compare(b.Context(), at(from), at(to), verify.Options{})
		if err != nil || !r.Identical() {
			b.Fatal(r, err)
		}
		b.ReportMetric(float64(r.Keys)/r.Elapsed.Seconds(), "keys/s")
	}
}

// A replica of Redis's own is the copy we measure ourselves by: after the whole mix it must compare identical.
func TestReplicaIsIdentical(t *testing.T) {
	master, replica := single(t), single(t)
	host, port, _ := strings.Cut(master.Options().Addr, ":")
	if err := load.Fill(t.Context(), master, load.FillConfig{Keys: 3000, TTLShare: 0.1, ShortTTLShare: 0.1}); err != nil {
		t.Fatal(err)
	}
	if err := replica.Do(t.Context(), "replicaof", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	w, err := load.NewWriter(master, load.WriterConfig{Prefix: "p:", Shared: "s:", Keys: 50})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	_ = w.Run(ctx)
	if n, err := master.Do(t.Context(), "wait", 1, 10_000).Int(); n != 1 || err != nil {
		t.Fatalf("wait: %d, %v", n, err)
	}
	r, err := verify.Compare(t.Context(), at(master), at(replica), verify.Options{Rounds: 3, Interval: 500 * time.Millisecond})
	if err != nil || !r.Identical() || r.Keys < 3000 {
		t.Errorf("%v, %v", r, err)
	}
}
