package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
)

// expiryWorld is a master of an old version, a source that carries it, and a newer server to replay the log at.
type expiryWorld struct {
	t      *testing.T
	w      *testkit.World
	cfg    Config
	s      *Source
	master *redis.Client
	target *redis.Client
	issued map[string]time.Time // when a key's first command was
}

func newExpiryWorld(t *testing.T, version string, change func(*Config), args ...string) *expiryWorld {
	t.Helper()
	w := testkit.New(t)
	c := w.ClusterWith(redistest.Config{Version: version, Masters: 1, Args: args})
	x := &expiryWorld{t: t, w: w, master: c.Masters()[0].Client(), target: w.Server("redis-7.0").Client(), issued: map[string]time.Time{}}
	x.cfg = Config{
		Connector: "src", Prefix: w.Name("s"), Kafka: kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}, DataDir: t.TempDir(),
		Partitions: 4, Dialer: &topology.Dialer{}, Seeds: c.Addrs(),
	}
	if change != nil {
		change(&x.cfg)
	}
	return x
}

func (x *expiryWorld) start() {
	x.t.Helper()
	s, err := New(x.cfg, slog.New(slog.NewTextHandler(x.t.Output(), nil)))
	if err != nil {
		x.t.Fatal(err)
	}
	x.s = s
	ctx, cancel := context.WithCancel(x.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	x.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			x.t.Errorf("run: %v", err)
		}
	})
}

func (x *expiryWorld) do(line string, more ...any) {
	x.t.Helper()
	var args []any
	for word := range strings.FieldsSeq(line) {
		args = append(args, word)
	}
	if err := x.master.Do(x.t.Context(), append(args, more...)...).Err(); err != nil {
		x.t.Fatalf("%s: %v", line, err)
	}
}

// caughtUp waits until all that the master has done is in the log.
func (x *expiryWorld) caughtUp() {
	x.t.Helper()
	at, err := lookAt(x.t.Context(), x.master)
	if err != nil {
		x.t.Fatal(err)
	}
	x.w.Eventually(60*time.Second, "the log has it all", func() error {
		for _, n := range x.s.Status() {
			if n.Committed.Offset >= at.offset {
				return nil
			}
			err = fmt.Errorf("%s, committed %d of %d (%s)", n.Stage, n.Committed.Offset, at.offset, n.LastError)
		}
		return err
	})
}

// replay applies the log to the target, and returns when the link has read the units, by their first key.
func (x *expiryWorld) replay() map[string]time.Time {
	x.t.Helper()
	adm, err := x.cfg.Kafka.Admin()
	if err != nil {
		x.t.Fatal(err)
	}
	defer adm.Close()
	topic, read := x.cfg.Prefix+".changes", map[string]time.Time{}
	spans, err := kafka.Spans(x.t.Context(), adm, topic)
	if err != nil {
		x.t.Fatal(err)
	}
	err = x.cfg.Kafka.ReadCommitted(x.t.Context(), topic, spans, func(r *kgo.Record) error {
		var e event.Event
		if err := codec.DecodeRaw(r.Key, r.Value, &e); err != nil || e.Kind != event.Unit {
			return err
		}
		read[string(e.Key)] = time.UnixMilli(e.CapturedMs)
		for rest := e.Commands; len(rest) > 0; {
			n, args, err := resp.ParseCommand(rest, nil)
			if err != nil {
				return err
			}
			rest = rest[n:]
			call := make([]any, len(args))
			for i, a := range args {
				call[i] = a
			}
			if err := x.target.Do(x.t.Context(), call...).Err(); err != nil {
				return fmt.Errorf("%s: %w", args, err)
			}
		}
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return read
}

// expiries of a key at both ends, Unix milliseconds by the master's clock; -1 without expiry, -2 without the key.
func (x *expiryWorld) expiries(key string) (atMaster, atTarget int64) {
	x.t.Helper()
	pipe := x.master.Pipeline()
	ttl, now := pipe.Do(x.t.Context(), "PTTL", key), pipe.Time(x.t.Context())
	if _, err := pipe.Exec(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
	atMaster, _ = ttl.Val().(int64)
	if atMaster >= 0 {
		atMaster += now.Val().UnixMilli()
	}
	atTarget, err := x.target.Do(x.t.Context(), "PEXPIRETIME", key).Int64()
	if err != nil {
		x.t.Fatal(err)
	}
	return atMaster, atTarget
}

// writeTimesToLive makes every kind of relative command that old masters replicate, each on a key of its own, and returns
// the keys.
func (x *expiryWorld) writeTimesToLive(round int) (keys []string) {
	x.t.Helper()
	payload, err := x.master.Dump(x.t.Context(), "payload").Result()
	if err != nil {
		x.t.Fatal(err)
	}
	for i, lines := range []string{
		"SET K v|EXPIRE K 1000", "SET K v|PEXPIRE K 1000000", "SETEX K 1000 v", "PSETEX K 1000000 v", "SET K v EX 1000", "SET K v PX 1000000 NX",
		"SET K v|SET K v XX EX 1000", "SET K v EX 5 EX 1000", "RESTORE K 1000000 P", "SET K v|RESTORE K 1000000 P REPLACE", "RESTORE K 1000000 P IDLETIME 7",
		"RESTORE-ASKING K 1000000 P", "RESTORE K 0 P", "EVAL redis.call('setex',KEYS[1],1000,'v') 1 K", "SET K v|EVAL redis.call('expire',KEYS[1],1000) 1 K",
		"HSET K f v|EXPIRE K 1000|HSET K g v", "SETEX K 1000 v|PERSIST K", "SETEX K 1000 v|EXPIRE K -1", "SETEX K 1000 v|SET K v", "SET K v|EXPIREAT K 2000000000",
		"SETEX K 1000 v|SET K w KEEPTTL", "SET K v|GETEX K EX 1000", "SET K v|GETEX K PX 1000000", "SET K v EX 1000 GET", "SET K v|GETEX K EXAT 2000000000",
	} {
		key := fmt.Sprintf("k%d-%d", round, i)
		x.issued[key] = time.Now()
		for line := range strings.SplitSeq(lines, "|") {
			var args []any
			for word := range strings.FieldsSeq(line) {
				switch word {
				case "K":
					args = append(args, key)
				case "P":
					args = append(args, payload)
				default:
					args = append(args, word)
				}
			}
			err := x.master.Do(x.t.Context(), args...).Err()
			if err != nil && !errors.Is(err, redis.Nil) && !strings.Contains(err.Error(), "syntax error") && !strings.Contains(err.Error(), "unknown command") {
				x.t.Fatalf("%s: %v", line, err)
			}
		}
		keys = append(keys, key)
	}
	tx := x.master.TxPipeline()
	for _, name := range []string{"a", "b"} {
		key := fmt.Sprintf("{m%d}%s", round, name)
		tx.SetEx(x.t.Context(), key, "v", 1000*time.Second)
		tx.Expire(x.t.Context(), key, 2000*time.Second)
		x.issued[key] = time.Now()
		keys = append(keys, key)
	}
	if _, err := tx.Exec(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
	return keys
}

// TestTimesToLiveOfOldMastersArriveAsPointsInTime: replayed at any later time, what an old master's stream says leaves the
// expiries that the master has; a master whose clock is off has them by its clock.
func TestTimesToLiveOfOldMastersArriveAsPointsInTime(t *testing.T) {
	for version, skews := range map[string][]time.Duration{"redis-5.0": {time.Hour}, "redis-6.0": {0}, "redis-6.2": {0, time.Hour}} {
		for _, skew := range skews {
			t.Run(fmt.Sprint(version, " off by ", skew), func(t *testing.T) {
				t.Parallel()
				x := newExpiryWorld(t, version, func(c *Config) {
					// The lane falls behind the link, as behind a slow Kafka.
					c.Commits = rate.NewLimiter(rate.Every(time.Second), 1)
					c.lookAt = func(ctx context.Context, client *redis.Client) (look, error) {
						l, err := lookAt(ctx, client)
						l.at = l.at.Add(skew)
						return l, err
					}
				})
				x.do("SET payload v")
				x.start()
				x.w.Eventually(30*time.Second, "streams", streaming(x.s, 1))
				var keys []string
				for round := range 3 {
					keys = append(keys, x.writeTimesToLive(round)...)
					time.Sleep(400 * time.Millisecond)
				}
				x.caughtUp()
				status := x.s.Status()[0]
				read := x.replay()
				tolerance := status.ClockError.Milliseconds() + stampStep.Milliseconds() + 50
				late := tolerance // times count from when the link has read them, which a busy machine may do late
				for _, key := range keys {
					late = max(late, tolerance+read[key].Sub(x.issued[key]).Milliseconds())
				}
				kinds, worst := map[bool]int{}, int64(0)
				for _, key := range keys {
					want, got := x.expiries(key)
					kinds[want > 0]++
					if want > 0 && want < 1_999_999_999_000 { // not one that was a point in time
						want += skew.Milliseconds()
					}
					worst = max(worst, want-got, got-want)
					if d := want - got; d < -late || d > tolerance {
						t.Errorf("%s expires at %d, at the target at %d: %d ms off", key, want, got, d)
					}
				}
				if (status.ClockSkew - skew).Abs() > status.ClockError+10*time.Millisecond {
					t.Errorf("the clock is measured to be off by %v within %v", status.ClockSkew, status.ClockError)
				}
				if status.MadeAbsolute < 3*12 || kinds[true] < 3*15 || kinds[false] < 3*3 {
					t.Errorf("%d commands were made absolute; %d keys with and %d without expiry", status.MadeAbsolute, kinds[true], kinds[false])
				}
				t.Logf("%d commands made absolute, worst %d ms off, clock within %v", status.MadeAbsolute, worst, status.ClockError)
			})
		}
	}
}

// TestTimesToLiveThatWaitedBehindASnapshot: the master sends what it does meanwhile only when the snapshot is through; they
// count from when it was done all the same.
func TestTimesToLiveThatWaitedBehindASnapshot(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var looked time.Time
	gap := clockEach // the longest between two looks: a busy machine is no fault
	x := newExpiryWorld(t, "redis-6.2", func(c *Config) {
		c.lookAt = func(ctx context.Context, client *redis.Client) (look, error) {
			mu.Lock()
			defer mu.Unlock()
			if !looked.IsZero() {
				gap = max(gap, time.Since(looked))
			}
			looked = time.Now()
			return lookAt(ctx, client)
		}
	}, "--rdb-key-save-delay", "100000")
	for i := range 50 {
		x.do("SET old" + strconv.Itoa(i) + " v")
	}
	x.start()
	x.w.Eventually(30*time.Second, "the snapshot is under way", func() error {
		if n := x.master.InfoMap(t.Context(), "persistence").Item("Persistence", "rdb_bgsave_in_progress"); n != "1" {
			return fmt.Errorf("not yet: %q", n)
		}
		return nil
	})
	var keys []string
	done := map[string]time.Time{}
	for i := range 6 {
		key := "new" + strconv.Itoa(i)
		x.do("SETEX " + key + " 1000 v")
		done[key] = time.Now()
		keys = append(keys, key)
		time.Sleep(500 * time.Millisecond)
	}
	x.w.Eventually(30*time.Second, "streams", streaming(x.s, 1))
	x.caughtUp()
	read := x.replay()
	if late := read[keys[0]].Sub(done[keys[0]]); late < 2*time.Second {
		t.Fatalf("the first one was read after %v: nothing has waited", late)
	}
	mu.Lock()
	most := gap + 300*time.Millisecond
	mu.Unlock()
	for _, key := range keys {
		want, got := x.expiries(key)
		if late := got - want; late < -50 || late > most.Milliseconds() {
			t.Errorf("%s, read after %v, expires %d ms late", key, read[key].Sub(done[key]), late)
		} else {
			t.Logf("%s, read after %v, expires %d ms late", key, read[key].Sub(done[key]).Round(time.Millisecond), late)
		}
	}
}
