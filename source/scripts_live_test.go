package source_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/source"
)

// Masters before Redis 7 may be told to replicate scripts. One that is loaded before the snapshot, one behind it, and one
// that the stream brings as EVAL first: all are in the log as EVAL. By default the same masters send what scripts do.
func TestScriptsOfOldMasters(t *testing.T) {
	t.Parallel()
	const body = "return redis.call('incrby', KEYS[1], ARGV[1])"
	for _, version := range []string{"redis-5.0", "redis-6.2"} {
		for setting, want := range map[string]string{"no": "eval", "yes": "incrby"} {
			t.Run(version+"-"+setting, func(t *testing.T) {
				t.Parallel()
				w := testkit.New(t)
				c := w.ClusterWith(redistest.Config{Version: version, Masters: 3, Args: []string{"--lua-replicate-commands", setting, "--repl-diskless-sync-delay", "0"}})
				onEach := func(args ...any) (answer string) {
					for _, m := range c.Masters() {
						answer = fmt.Sprint(m.Client().Do(t.Context(), args...).Val())
					}
					return answer
				}
				before := onEach("SCRIPT", "LOAD", body)
				if err := c.Client().EvalSha(t.Context(), before, []string{"a"}, 1).Err(); err != nil {
					t.Fatal(err)
				}
				kc := kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}
				cfg := source.Config{
					Connector: "src", Prefix: w.Name("s"), Kafka: kc, DataDir: t.TempDir(), Partitions: 4, Dialer: &topology.Dialer{}, Seeds: c.Addrs()[:1],
				}
				r := start(t, cfg)
				w.Eventually(30*time.Second, "streams", func() error { return r.caughtUp(t.Context(), c) })
				call := func(sum string) {
					for range 2 {
						if err := c.Client().EvalSha(t.Context(), sum, []string{"a"}, 1).Err(); err != nil {
							t.Fatal(err)
						}
					}
				}
				call(before)
				call(onEach("SCRIPT", "LOAD", body+" "))
				if err := c.Client().Eval(t.Context(), body+"  ", []string{"a"}, 1).Err(); err != nil {
					t.Fatal(err)
				}
				// In a process that begins in the middle: it takes a snapshot to learn what the script is.
				r.stop(t)
				r = start(t, cfg)
				w.Eventually(30*time.Second, "streams", func() error { return r.caughtUp(t.Context(), c) })
				call(before)
				if err := c.Client().Set(t.Context(), "a", "end", 0).Err(); err != nil {
					t.Fatal(err)
				}
				var commands []string
				w.Eventually(30*time.Second, "published", func() error {
					commands = nil
					generations := map[event.Shard]event.Generation{}
					adm, err := kc.Admin()
					if err != nil {
						return err
					}
					defer adm.Close()
					spans, err := kafka.Spans(t.Context(), adm, cfg.Prefix+".changes")
					if err != nil {
						return err
					}
					ended := false
					err = kc.ReadCommitted(t.Context(), cfg.Prefix+".changes", spans, func(rec *kgo.Record) error {
						var e event.Event
						if err := codec.DecodeRaw(rec.Key, rec.Value, &e); err != nil {
							return err
						}
						generations[e.Shard] = max(generations[e.Shard], e.Generation)
						switch {
						case string(e.Key) != "a":
						case e.Kind == event.Unit && strings.Contains(string(e.Commands), "\r\nend\r\n"), e.Kind == event.Entry && strings.Contains(string(e.Value), "end"):
							ended = true
						case e.Kind == event.Unit:
							commands = append(commands, string(e.Commands))
						}
						return nil
					})
					if err == nil && !ended {
						err = fmt.Errorf("not at the end: %d commands, generations %v", len(commands), generations)
					}
					return err
				})
				r.stop(t)
				if len(commands) < 5 {
					t.Errorf("%d commands are in the log", len(commands))
				}
				for _, text := range commands {
					if !strings.Contains(strings.ToLower(text), "\r\n"+want+"\r\n") || strings.Contains(strings.ToLower(text), "evalsha") {
						t.Errorf("want %s: %q", want, text)
					}
				}
			})
		}
	}
}
