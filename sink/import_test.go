package sink

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
)

// TestImportMode replays writes to keys whose time has passed long ago into a target that is in import mode: nothing is lost,
// times are exact, and Finish ends the mode. A node that is switched off meanwhile is noticed and switched on again.
func TestImportMode(t *testing.T) {
	for _, version := range []string{"valkey-8.1", "valkey-9.1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := testkit.New(t)
			r := &rig{
				TB: t, w: w, kafka: kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}, prefix: "p", name: "t", partitions: 2,
				target: w.ClusterWith(redistest.Config{Version: version, Masters: 1, ReplicasPerMaster: 1}),
			}
			l := r.laneAlone()
			l.commit(func() {
				l.begin()
				l.end()
			})
			past := strconv.FormatInt(time.Now().Add(-time.Hour).UnixMilli(), 10)
			later := time.Now().Add(time.Hour).UnixMilli()
			write := func(commands ...string) {
				l.commit(func() {
					for _, c := range commands {
						words := strings.Fields(c)
						l.write(words[1], resp.AppendCommand(nil, words...), 1)
					}
				})
			}
			write("SET a 1 PXAT "+past, "INCR a", "PERSIST a", "HSET h f 1", "PEXPIREAT h "+past, "HSET h g 2", fmt.Sprintf("PEXPIREAT h %d", later),
				"RPUSH l x", "PEXPIREAT l "+past, "SET gone 1 PXAT "+past, "DEL gone")
			cfg := r.config()
			cfg.ExpiryMode = ExpiryImport
			s := r.start(cfg)
			r.waitApplied(s)
			mode := func(n *redistest.Node) string {
				return n.Client().ConfigGet(t.Context(), "import-mode").Val()["import-mode"]
			}
			for _, n := range r.target.Nodes() {
				if got := mode(n); got != "yes" {
					t.Errorf("import mode at %s is %s", n.Addr(), got)
				}
			}
			c := r.target.Masters()[0].Client()
			if got := c.Get(t.Context(), "a").Val(); got != "2" || c.PTTL(t.Context(), "a").Val() != -1 {
				t.Errorf("a is %q, expires in %s", got, c.PTTL(t.Context(), "a").Val())
			}
			if got := c.PExpireTime(t.Context(), "h").Val().Milliseconds(); got != later || c.HLen(t.Context(), "h").Val() != 2 {
				t.Errorf("h expires at %d, want %d, with %d fields", got, later, c.HLen(t.Context(), "h").Val())
			}
			if n := c.DBSize(t.Context()).Val() - int64(len(c.Keys(t.Context(), "redriver!*").Val())); n != 3 {
				t.Errorf("%d keys, not a, h, and l, which is hidden", n)
			}

			for _, n := range r.target.Nodes() {
				n.Client().ConfigSet(t.Context(), "import-mode", "no")
			}
			time.Sleep(2 * importCheck)
			write("SET b 1 PXAT "+past, "INCR b", "PERSIST b")
			r.w.Eventually(20*time.Second, "it goes on in import mode", func() error {
				if got := c.Get(t.Context(), "b").Val(); got != "2" || mode(r.target.Masters()[0]) != "yes" {
					return fmt.Errorf("b is %q, import mode is %s", got, mode(r.target.Masters()[0]))
				}
				return nil
			})
			s.stop()
			if _, err := Finish(t.Context(), &topology.Dialer{Timeout: 2 * time.Second}, r.target.Addrs()); err != nil {
				t.Fatal(err)
			}
			for _, n := range r.target.Nodes() {
				if got := mode(n); got != "no" {
					t.Errorf("import mode at %s is %s in the end", n.Addr(), got)
				}
			}
			if err := c.Get(t.Context(), "l").Err(); err != redis.Nil { //nolint:errorlint // go-redis's own
				t.Errorf("l is still there: %v", err)
			}
		})
	}
}

// TestImportModeNeedsValkey: elsewhere the sink does not start.
func TestImportModeNeedsValkey(t *testing.T) {
	t.Parallel()
	r := newVersionRig(t, "redis-8.6")
	l := r.laneAlone()
	l.commit(func() {
		l.begin()
		l.end()
	})
	cfg := r.config()
	cfg.ExpiryMode = ExpiryImport
	if err := r.start(cfg).await(); err == nil || !strings.Contains(err.Error(), "needs Valkey 8.1") {
		t.Errorf("sink ended with %v", err)
	}
}
