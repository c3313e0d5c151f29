package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/rdb"
)

// send publishes an event in chunks of the sizes that cut says, whose number is not known at the beginning: all of it for
// an upTo of -1, else it gives up after so many chunks, and before the last byte in any case.
func (l *lane) send(p int32, e *event.Event, cut func() int, upTo int) {
	l.t.Helper()
	l.chunks(e, cut)(p, upTo)
}

// divide is send for an event that comes a part at a time, in chunks of one size.
func (l *lane) divide(e *event.Event, size int) func(p int32, upTo int) {
	return l.chunks(e, func() int { return size })
}

// chunks returns what publishes the next chunks of an event.
func (l *lane) chunks(e *event.Event, cut func() int) func(p int32, upTo int) {
	e.Shard, e.Generation, e.CapturedMs, e.ReplID = l.shard, l.generation, time.Now().Add(-l.ago).UnixMilli(), l.replID
	value := codec.AppendRaw(nil, e)
	l.attempt++
	attempt, i := l.attempt, uint32(0)
	return func(p int32, upTo int) {
		rest, whole := len(value), upTo < 0
		if !whole {
			rest--
		}
		for ; rest > 0 && upTo != 0; i++ {
			n := min(max(cut(), 1), rest)
			if i == 0 {
				n = min(max(n, 200), rest) // the header and more
			}
			count := uint32(0)
			if n == rest && whole {
				count = i + 1
			}
			buf := append(make([]byte, codec.ChunkHeaderBytes), value[:n]...)
			value, rest = value[n:], rest-n
			upTo--
			l.cl.Produce(context.Background(), &kgo.Record{
				Topic: l.topic.Name, Partition: p, Key: codec.RecordKey(e), Value: codec.FrameChunk(buf, l.shard, attempt, i, count),
			}, func(_ *kgo.Record, err error) {
				if err != nil {
					l.t.Errorf("produce: %v", err)
				}
			})
		}
	}
}

func sizes(rng *rand.Rand, most int) func() int {
	return func() int { return 1 + rng.IntN(most) }
}

// builtSamples are those that commands can build.
func builtSamples(t *testing.T) []sampleValue {
	return slices.DeleteFunc(samples(t), func(v sampleValue) bool { return v.typ == moduleType })
}

// TestRebuildOfEveryType builds values of every type and version in pieces, at targets of every version.
func TestRebuildOfEveryType(t *testing.T) {
	all := builtSamples(t)
	for _, version := range targetVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			rng := seed(t)
			r := newVersionRig(t, version)
			l := r.laneAlone()
			hold := []time.Duration{0, testHold}[rng.IntN(2)]
			l.commit(func() {
				l.begin()
				for _, v := range all {
					p, e := l.entry(v.name, v.payload)
					l.send(p, e, sizes(rng, 1+rng.IntN(400)), -1)
				}
			})
			l.commit(l.end)
			cfg := r.config()
			cfg.ExpiryHold, cfg.Unsupported = hold, UnsupportedKeep
			s := r.start(cfg)
			r.waitApplied(s)
			r.checkBuilt(all, hold)
			r.noneStaged()
			t.Logf("hold %s, %d parts", hold, s.Status().Units)
		})
	}
}

// noneStaged checks that no staging key is left.
func (r *rig) noneStaged() {
	r.Helper()
	if left := r.staged(); len(left) > 0 {
		r.Errorf("left at the target: %q", left)
	}
}

// staged are the staging keys at a target of one node.
func (r *rig) staged() []string { return r.target.Client().Keys(r.Context(), "redriver!s!*").Val() }

// checkBuilt is checkValues for values that were built with commands.
func (r *rig) checkBuilt(all []sampleValue, hold time.Duration) {
	r.Helper()
	target := r.targetFormat()
	for _, v := range all {
		payload, err := r.target.Client().Dump(r.Context(), v.name).Result()
		if err != nil {
			r.Errorf("%s, type %d: %v", v.name, v.typ, err)
			continue
		}
		want := heldFacts(buildable(factsOf(r, v.payload)), target, hold.Milliseconds())
		if diff := diffFacts(want, factsOf(r, payload)); diff != "" {
			r.Errorf("%s, type %d: %s", v.name, v.typ, diff)
		}
	}
}

// buildable leaves out what no command can make: pending entries whose entry is gone.
func buildable(f facts) facts {
	there := map[string]bool{}
	var lines []string
	for _, l := range f.lines {
		words := strings.Fields(l)
		if len(words) == 0 {
			words = []string{""}
		}
		if words[0] == "entry" {
			there[words[1]] = true
		}
		if at := strings.Index(l, " at "); words[0] == "pending" && at > 0 {
			if before := strings.Fields(l[:at]); !there[before[len(before)-1]] {
				continue
			}
		}
		lines = append(lines, l)
	}
	f.lines = lines
	return f
}

// giants are random values of every type, as a server writes them, with a name that says how they were made.
func giants(t testing.TB, rng *rand.Rand, w *testkit.World, version string, n int) (out []sampleValue) {
	t.Helper()
	ctx := t.Context()
	c := w.Server(version).Client()
	text := func(most int) string {
		b := make([]byte, rng.IntN(most))
		for i := range b {
			b[i] = byte(rng.Uint32()) >> rng.IntN(8)
		}
		return string(b)
	}
	at := time.Now().Add(100 * 24 * time.Hour)
	for i := range n {
		key := fmt.Sprintf("{%d}giant", i)
		size := 1 + rng.IntN(3000)
		p := c.Pipeline()
		if i%7 == 6 { // packs well: a chunk of it is many parts
			p.Set(ctx, key, strings.Repeat(text(40)+"x", 1+rng.IntN(100_000)), 0)
			size = 0
		}
		for j := range size {
			switch i % 7 {
			case 0:
				p.Append(ctx, key, strings.Repeat(text(30), 1+rng.IntN(20)))
			case 1:
				p.RPush(ctx, key, text(60))
			case 2:
				p.SAdd(ctx, key, fmt.Sprint(j, text(40)))
			case 3:
				p.ZAdd(ctx, key, redis.Z{Score: rng.NormFloat64() * 1e6, Member: fmt.Sprint(j, text(20))})
			case 4:
				f := fmt.Sprint("f", j)
				p.HSet(ctx, key, f, text(50))
				if rng.IntN(3) == 0 {
					p.Do(ctx, "HPEXPIREAT", key, at.UnixMilli()+int64(rng.IntN(20)), "FIELDS", 1, f)
				}
			case 5:
				p.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: fmt.Sprintf("%d-%d", 1000+j/3, 1+j%3), Values: []string{"f", text(40), "g", text(10)}})
			}
		}
		if i%7 == 5 {
			p.XGroupCreate(ctx, key, "g", "0")
			p.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{key, ">"}, Count: int64(1 + size/2)})
			p.XGroupCreateConsumer(ctx, key, "g", "idle")
		}
		if _, err := p.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		payload := c.Dump(ctx, key).Val()
		typ, _, v, err := rdb.SplitPayload([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, sampleValue{key, payload, typ, rdb.FormatOf(v)})
	}
	return out
}

// watchWhole polls the keys until ctx ends: at no moment may one be there in part.
func (r *rig) watchWhole(ctx context.Context, all []sampleValue, hold time.Duration) (looks int, faults []string) {
	want := map[string]facts{}
	target := r.targetFormat()
	for _, v := range all {
		want[v.name] = heldFacts(factsOf(r, v.payload), target, hold.Milliseconds())
	}
	c := r.target.Client()
	for ctx.Err() == nil {
		for _, v := range all {
			payload, err := c.Dump(ctx, v.name).Result()
			if err != nil {
				continue
			}
			looks++
			got, err := tryFactsOf(payload)
			if err != nil {
				return looks, append(faults, err.Error())
			}
			if diff := diffFacts(want[v.name], got); diff != "" {
				return looks, append(faults, fmt.Sprintf("%s is there in part: %s", v.name, diff))
			}
		}
	}
	return looks, faults
}

// TestRebuildKilled kills sinks with -9 while they rebuild: what they leave is continued, and never seen in part. In between
// lanes give up, and send again with other cuts.
func TestRebuildKilled(t *testing.T) {
	for _, version := range []string{"redis-7.4", "valkey-9.1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			rng := seed(t)
			r := newVersionRig(t, version)
			l := r.laneAlone()
			all := giants(t, rng, r.w, version, 24)
			parts := 0
			l.commit(l.begin)
			for _, v := range all {
				p, e := l.entry(v.name, v.payload)
				whole := len(e.Value)
				for rng.IntN(3) == 0 { // given up
					l.commit(func() { l.send(p, e, sizes(rng, 200), 1+rng.IntN(1+whole/200)) })
				}
				most := []int{100, 300, 5000, 30_000}[rng.IntN(4)]
				l.commit(func() { l.send(p, e, sizes(rng, most), -1) })
				parts += 2 * whole / most
			}
			l.commit(l.end)
			cfg := r.config()
			cfg.ExpiryHold, cfg.BatchUnits, cfg.Instance = testHold, 2, "one"
			ctx, cancel := context.WithCancel(t.Context())
			var looks int
			var faults []string
			var wait sync.WaitGroup
			wait.Go(func() { looks, faults = r.watchWhole(ctx, all, testHold) }) // ends with cancel
			client := r.target.Client()
			staged := r.staged
			checkpoints := func() string {
				keys := client.Keys(t.Context(), "redriver!c!*").Val()
				slices.Sort(keys)
				var text strings.Builder
				for _, k := range keys {
					fmt.Fprintln(&text, client.Get(t.Context(), k).Val())
				}
				return text.String()
			}
			s := r.child(cfg)
			kills, within, partly := 0, 0, 0
			complete := func() bool {
				n := int64(0)
				for _, v := range all {
					n += client.Exists(t.Context(), v.name).Val()
				}
				return n == int64(len(all))
			}
			for ; kills < 60 && !complete(); kills++ {
				before := checkpoints()
				r.w.Eventually(20*time.Second, "the sink goes on", func() error {
					if !s.Running() {
						t.Fatalf("the sink ended: %s", s.LogTail(5))
					}
					if checkpoints() == before && !complete() {
						return errors.New("nothing has changed")
					}
					return nil
				})
				if within >= 3 && rng.IntN(3) == 0 {
					time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
				} else {
					for len(staged()) == 0 && !complete() {
						time.Sleep(time.Millisecond)
					}
				}
				if err := s.Kill(); err != nil {
					t.Fatal(err)
				}
				if len(staged()) > 0 {
					within++
				}
				if strings.Count(checkpoints(), " ") > 3*strings.Count(checkpoints(), "\n") {
					partly++
				}
				s = r.child(cfg)
			}
			r.w.Eventually(60*time.Second, "everything is there", func() error {
				if !s.Running() {
					t.Fatalf("the sink ended: %s", s.LogTail(5))
				}
				if !complete() || len(staged()) > 0 {
					return fmt.Errorf("staged %q", staged())
				}
				return nil
			})
			if within < 3 {
				t.Errorf("only %d of %d kills met a value in the middle", within, kills)
			}
			cancel()
			wait.Wait()
			for _, f := range faults {
				t.Error(f)
			}
			r.checkBuilt(all, testHold)
			t.Logf("%d kills, %d in the middle of a value, %d in the middle of a chunk; %d chunks, %d looks at whole keys", kills, within, partly, parts, looks)
		})
	}
}

// TestRebuildGivenUp: what an event left that was given up is removed, whatever comes behind it.
func TestRebuildGivenUp(t *testing.T) {
	t.Parallel()
	rng := seed(t)
	r := newVersionRig(t, "redis-7.4")
	r.partitions = 1
	l := r.laneAlone()
	all := giants(t, rng, r.w, "redis-7.4", 12)
	small := samplesNamed(t, "redis-5.0/hash-long")[0]
	cfg := r.config()
	s := r.start(cfg)
	unfinished := func(v sampleValue) {
		p, e := l.entry(v.name, v.payload)
		l.number[p]-- // it does not count
		l.commit(func() { l.send(p, e, sizes(rng, 100), 2+rng.IntN(1+len(e.Value)/100)) })
	}
	whole := func(v sampleValue) {
		p, e := l.entry(v.name, v.payload)
		l.commit(func() { l.send(p, e, sizes(rng, 500), -1) })
	}
	for i, v := range all {
		l.commit(l.begin)
		unfinished(v)
		if i%2 == 0 {
			r.waitApplied(s) // and it is seen at the target
		}
		switch i % 4 {
		case 0: // another record of its lane, in the same slot
			same := small
			same.name = v.name
			p, e := l.entry(same.name, same.payload)
			l.commit(func() { l.publish(p, e, nil) })
			whole(v)
		case 1: // another snapshot
			unfinished(v)
			l.commit(l.begin)
			whole(v)
		case 2: // chunks of another event
			whole(all[(i+1)%len(all)])
			whole(v)
		case 3: // chunks of the same
			whole(v)
		}
		if i%3 == 0 {
			s.stop()
			s = r.start(cfg)
		}
		l.commit(func() { // a snapshot of all, so that the sweep leaves it
			for _, other := range all[:i] {
				p, e := l.entry(other.name, other.payload)
				l.publish(p, e, nil)
			}
			l.end()
		})
		r.waitApplied(s)
		r.noneStaged()
		r.checkBuilt(all[:i+1], 0)
	}
}

// TestRebuildMoves has a partition go from sink to sink while its values are rebuilt.
func TestRebuildMoves(t *testing.T) {
	t.Parallel()
	rng := seed(t)
	r := newVersionRig(t, "redis-7.4")
	l := r.laneAlone()
	all := giants(t, rng, r.w, "redis-7.4", 18)
	cfg := r.config()
	cfg.BatchUnits = 20
	sinks := []*running{r.start(cfg), r.start(cfg)}
	l.commit(l.begin)
	for _, v := range all {
		p, e := l.entry(v.name, v.payload)
		l.commit(func() { l.send(p, e, sizes(rng, 200), -1) })
		sinks[0].stop()
		sinks = append(sinks[1:], r.start(cfg))
	}
	l.commit(l.end)
	r.w.Eventually(60*time.Second, "everything is there", func() error {
		if n := r.target.Client().DBSize(t.Context()).Val(); n < int64(len(all)) {
			return fmt.Errorf("%d keys", n)
		}
		for _, v := range all {
			if r.target.Client().Exists(t.Context(), v.name).Val() == 0 {
				return fmt.Errorf("%s is not there", v.name)
			}
		}
		return nil
	})
	r.checkBuilt(all, 0)
	r.noneStaged()
}
