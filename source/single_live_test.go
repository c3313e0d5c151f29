package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
)

// singleRun is a source of a single server or a pair.
type singleRun struct {
	*Source
	t   *testing.T
	w   *testkit.World
	end func()
}

func singleConfig(t *testing.T, w *testkit.World, seeds ...*redistest.Node) Config {
	cfg := Config{Connector: "src", Prefix: w.Name("s"), Kafka: kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}, DataDir: t.TempDir(), Dialer: &topology.Dialer{Timeout: 2 * time.Second}}
	for _, n := range seeds {
		cfg.Seeds = append(cfg.Seeds, n.Addr())
	}
	return cfg
}

func runSingle(t *testing.T, w *testkit.World, cfg Config) *singleRun {
	t.Helper()
	s, err := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &singleRun{Source: s, t: t, w: w, end: func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}}
	w.Eventually(30*time.Second, "streams", streaming(s, 1))
	return r
}

// committed waits until all that the master has is in Kafka.
func (r *singleRun) committed(master *redistest.Node) {
	r.t.Helper()
	want, err := strconv.ParseInt(infoOf(master, "master_repl_offset"), 10, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	r.w.Eventually(30*time.Second, "all committed", func() error {
		if s := r.Status()[0]; s.Committed.Offset < event.Offset(want) || s.Master != master.Addr() || s.Stage != StageStreaming {
			return fmt.Errorf("want %d of %s: %+v", want, master.Addr(), s)
		}
		return nil
	})
}

func infoOf(n *redistest.Node, field string) string {
	text, _ := n.Client().Info(context.Background(), "replication").Result()
	return topology.ParseInfo(text)[field]
}

// pair makes the second a replica of the first.
func pair(t *testing.T, w *testkit.World, version string) (a, b *redistest.Node) {
	t.Helper()
	a, b = w.Server(version), w.Server(version)
	if err := b.Client().Do(t.Context(), "REPLICAOF", "127.0.0.1", strconv.Itoa(a.Port())).Err(); err != nil {
		t.Fatal(err)
	}
	w.Eventually(20*time.Second, "in step", func() error {
		if infoOf(b, "master_link_status") != "up" {
			return errors.New("link is down")
		}
		return nil
	})
	return a, b
}

// logged replays what the log holds, as "database command", in order.
func logged(t *testing.T, cfg Config) (lines []string) {
	t.Helper()
	adm, err := cfg.Kafka.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	topic := cfg.Prefix + ".changes"
	spans, err := kafka.Spans(t.Context(), adm, topic)
	if err != nil {
		t.Fatal(err)
	}
	if len(spans) != 1 {
		t.Errorf("the topic has %d partitions", len(spans))
	}
	err = cfg.Kafka.ReadCommitted(t.Context(), topic, spans, func(r *kgo.Record) error {
		var e event.Event
		if err := codec.DecodeRaw(r.Key, r.Value, &e); err != nil {
			return err
		}
		switch e.Kind {
		case event.Unit:
			db := strconv.Itoa(int(e.DB))
			for rest := e.Commands; len(rest) > 0; {
				n, args, err := resp.ParseCommand(rest, nil)
				if err != nil {
					return err
				}
				rest = rest[n:]
				var words []string
				for _, a := range args {
					words = append(words, string(a))
				}
				if strings.EqualFold(words[0], "SELECT") {
					db = words[1]
					continue
				}
				lines = append(lines, db+" "+strings.Join(words, " "))
			}
		case event.Flush:
			lines = append(lines, fmt.Sprintf("%d flush all %v", e.DB, e.AllDBs))
		case event.Entry:
			lines = append(lines, fmt.Sprintf("%d entry %s", e.DB, e.Key))
		default:
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var c chain.Checker
	if err := c.All(t.Context(), cfg.Kafka, topic); err != nil {
		t.Error(err)
	}
	return lines
}

func wantLog(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log holds\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// Databases in snapshot and stream, and over restarts: the stream does not say SELECT again (traps 9, 54).
func TestDatabasesOfASingleServer(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"redis-7.0", "redis-8.6", "valkey-8.1"} {
		t.Run(version, func(t *testing.T) {
			w := testkit.New(t)
			n := w.Server(version)
			ctx := t.Context()
			of := func(db int) *redis.Client {
				c := n.NewClient(func(o *redis.Options) { o.DB = db })
				t.Cleanup(func() { c.Close() })
				return c
			}
			zero, three, twelve := of(0), of(3), of(12)
			three.Set(ctx, "s", 1, 0)
			cfg := singleConfig(t, w, n)
			r := runSingle(t, w, cfg)
			three.Set(ctx, "a", 1, 0)
			r.committed(n)
			three.Set(ctx, "a", 2, 0)
			r.committed(n)
			r.end()
			three.Set(ctx, "a", 3, 0)
			r = runSingle(t, w, cfg)
			three.Set(ctx, "a", 4, 0)
			r.committed(n)
			r.end()
			twelve.MSet(ctx, "a", 5, "b", 6)
			r = runSingle(t, w, cfg)
			zero.Do(ctx, "SWAPDB", 0, 3)
			zero.Do(ctx, "MOVE", "a", 12)
			zero.Do(ctx, "MOVE", "a", 7)
			zero.Do(ctx, "COPY", "s", "s2", "DB", 5)
			three.FlushDB(ctx)
			if _, err := zero.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "x", 1, 0)
				p.Do(ctx, "SELECT", 9)
				p.Set(ctx, "y", 1, 0)
				p.Do(ctx, "SELECT", 0)
				p.Set(ctx, "z", 1, 0)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			three.FlushAll(ctx)
			twelve.Set(ctx, "last", 1, 0)
			r.committed(n)
			if s := r.Status()[0]; s.Generation != 1 {
				t.Errorf("generation %d", s.Generation)
			}
			r.end()
			wantLog(t, logged(t, cfg), "3 entry s", "3 set a 1", "3 set a 2", "3 set a 3", "3 set a 4", "12 mset a 5 b 6", "0 SWAPDB 0 3",
				"0 MOVE a 7", "0 COPY s s2 DB 5", "3 flush all false", "0 set x 1", "9 set y 1", "0 set z 1", "3 flush all true", "12 set last 1")
		})
	}
}

// FAILOVER without a target takes the replica and not us (trap 83), and we follow, without a snapshot.
func TestFailoverNeverChoosesUs(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"redis-7.0", "redis-8.6", "valkey-8.1"} {
		t.Run(version, func(t *testing.T) {
			w := testkit.New(t)
			a, b := pair(t, w, version)
			cfg := singleConfig(t, w, a, b)
			a.Client().Set(t.Context(), "k", "v", 0)
			r := runSingle(t, w, cfg)
			defer r.end()
			// Ours is the first in the master's list after it has lost and taken back its replica.
			b.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "master")
			for round := range 4 {
				for i := range 20 {
					a.Client().Incr(t.Context(), "n")
					if i == 10 {
						r.committed(a)
					}
				}
				r.committed(a)
				w.Eventually(20*time.Second, "in step", func() error {
					if infoOf(b, "master_link_status") != "up" {
						return errors.New("link is down")
					}
					return nil
				})
				if err := a.Client().Do(t.Context(), "FAILOVER").Err(); err != nil {
					t.Fatal(err)
				}
				w.Eventually(20*time.Second, "the replica is the master", func() error {
					if infoOf(b, "role") != "master" || infoOf(a, "role") != "slave" || infoOf(a, "master_failover_state") != "no-failover" {
						return fmt.Errorf("%s %s, round %d", infoOf(a, "role"), infoOf(a, "master_failover_state"), round)
					}
					return nil
				})
				a, b = b, a
				a.Client().Incr(t.Context(), "n")
				r.committed(a)
			}
			if s := r.Status()[0]; s.Generation != 1 {
				t.Errorf("generation %d", s.Generation)
			}
			n := 0
			for _, l := range logged(t, cfg) {
				if l == "0 incr n" {
					n++
				}
			}
			if n != 84 {
				t.Errorf("%d increments in the log", n)
			}
		})
	}
}

// The master of a pair dies and its replica is promoted: the stream goes on from there by a partial resynchronisation.
func TestThePromotedNodeOfAPairIsFollowed(t *testing.T) {
	t.Parallel()
	for _, seeds := range []int{1, 2} {
		t.Run(fmt.Sprint(seeds, " addresses given"), func(t *testing.T) {
			w := testkit.New(t)
			a, b := pair(t, w, "")
			cfg := singleConfig(t, w, []*redistest.Node{a, b}[:seeds]...)
			r := runSingle(t, w, cfg)
			five := a.NewClient(func(o *redis.Options) { o.DB = 5 })
			defer five.Close()
			five.Set(t.Context(), "k", 1, 0)
			five.Set(t.Context(), "k", 2, 0)
			r.committed(a)
			// The replica and we: the GETACK of WAIT itself lies behind what is acknowledged.
			if n := five.Wait(t.Context(), 2, 10*time.Second).Val(); n != 2 {
				t.Errorf("%d have acknowledged", n)
			}
			if err := a.Kill(); err != nil {
				t.Fatal(err)
			}
			b.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE")
			b.Client().Set(t.Context(), "k", 3, 0)
			r.committed(b)
			if s := r.Status()[0]; s.Generation != 1 {
				t.Errorf("generation %d", s.Generation)
			}
			r.end()
			wantLog(t, logged(t, cfg), "5 set k 1", "5 set k 2", "0 set k 3")
		})
	}
}
