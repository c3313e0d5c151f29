package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/slot"
)

// largeValue makes a value of about size bytes on the way: front, and then n times next.
type largeValue struct {
	key   string
	typ   byte
	n     int
	front func(dst []byte, n int) []byte
	next  func(dst []byte, i int) []byte
	check func(t *testing.T, r *rig, key string, n int)
}

func lengthOf(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0x81), uint64(n))
}

func largeMember(i int) string { return fmt.Sprintf("member:%010d", i) }

func largeValues(size int) []largeValue {
	line := strings.Repeat("0123456789abcde\n", 64<<10/16)
	return []largeValue{
		{
			key: "zset", typ: 5, n: size / 26, front: lengthOf,
			next: func(dst []byte, i int) []byte {
				return binary.LittleEndian.AppendUint64(rdb.AppendText(dst, []byte(largeMember(i))), math.Float64bits(float64(i)/7))
			},
			check: func(t *testing.T, r *rig, key string, n int) {
				c := r.target.Client()
				if got := c.ZCard(t.Context(), key).Val(); got != int64(n) {
					t.Errorf("%d members, want %d", got, n)
				}
				for i := 0; i < n; i += 1 + n/1000 {
					if got := c.ZScore(t.Context(), key, largeMember(i)).Val(); got != float64(i)/7 {
						t.Fatalf("score of %s is %v", largeMember(i), got)
					}
				}
			},
		},
		{
			key: "hash", typ: 4, n: size / 80, front: lengthOf,
			next: func(dst []byte, i int) []byte {
				return rdb.AppendText(rdb.AppendText(dst, []byte(largeMember(i))), []byte(line[i%1000:i%1000+60]))
			},
			check: func(t *testing.T, r *rig, key string, n int) {
				c := r.target.Client()
				if got := c.HLen(t.Context(), key).Val(); got != int64(n) {
					t.Errorf("%d fields, want %d", got, n)
				}
				for i := 0; i < n; i += 1 + n/1000 {
					if got := c.HGet(t.Context(), key, largeMember(i)).Val(); got != line[i%1000:i%1000+60] {
						t.Fatalf("field %s is %q", largeMember(i), got)
					}
				}
			},
		},
		{
			key: "string", typ: 0, n: size / len(line), front: func(dst []byte, n int) []byte { return lengthOf(dst, n*len(line)) },
			next: func(dst []byte, i int) []byte { return append(append(dst, line[i%1000:]...), line[:i%1000]...) },
			check: func(t *testing.T, r *rig, key string, n int) {
				c := r.target.Client()
				for i := range n {
					from := int64(i * len(line))
					if got := c.GetRange(t.Context(), key, from, from+int64(len(line))-1).Val(); got != line[i%1000:]+line[:i%1000] {
						t.Fatalf("piece %d is another", i)
					}
				}
				if got := c.StrLen(t.Context(), key).Val(); got != int64(n*len(line)) {
					t.Errorf("%d bytes", got)
				}
			},
		},
	}
}

// publish sends the value in chunks of nearly a MiB, a few to each transaction.
func (v *largeValue) publish(l *lane) {
	l.t.Helper()
	p := l.partition(slot.Of([]byte(v.key)))
	l.number[p]++
	l.attempt++
	e := &event.Event{
		Kind: event.Entry, Shard: l.shard, Generation: l.generation, ReplID: l.replID, Begin: l.offset, End: l.offset,
		Number: l.number[p], Slot: slot.Of([]byte(v.key)), Key: []byte(v.key), Type: v.typ, RDBVersion: 9, IdleSeconds: -1, Freq: -1,
	}
	const chunkBytes, perCommit = 950_000, 30
	rest := v.front(codec.AppendRaw(nil, e), v.n)
	index := uint32(0)
	for i := 0; i < v.n || len(rest) > 0; {
		l.commit(func() {
			for range perCommit {
				for ; i < v.n && len(rest) < chunkBytes; i++ {
					rest = v.next(rest, i)
				}
				n, count := min(len(rest), chunkBytes), uint32(0)
				if n == len(rest) && i == v.n {
					count = index + 1
				}
				buf := append(make([]byte, codec.ChunkHeaderBytes, codec.ChunkHeaderBytes+n), rest[:n]...)
				rest = append(rest[:0], rest[n:]...)
				l.cl.Produce(context.Background(), &kgo.Record{
					Topic: l.topic.Name, Partition: p, Key: e.Key, Value: codec.FrameChunk(buf, l.shard, l.attempt, index, count),
				}, nil)
				index++
				if count > 0 {
					return
				}
			}
		})
	}
}

// latency PINGs the target each millisecond until ctx ends.
func (r *rig) latency(ctx context.Context) (times []time.Duration) {
	c := r.target.Masters()[0].NewClient()
	defer c.Close()
	for ctx.Err() == nil {
		at := time.Now()
		if c.Ping(context.WithoutCancel(ctx)).Err() == nil {
			times = append(times, time.Since(at))
		}
		time.Sleep(time.Millisecond)
	}
	return times
}

// TestLargeValues brings values of REDRIVER_LARGE_MB each (default 40), in pieces or at once, in a process of its own, and reports
// what that process holds and what the target's other clients feel.
func TestLargeValues(t *testing.T) {
	mb := 40
	if v := os.Getenv("REDRIVER_LARGE_MB"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		mb = n
	}
	for _, v := range largeValues(mb << 20) {
		t.Run(v.key+" in pieces", func(t *testing.T) { v.bring(t, mb, 1) })
		if v.key != "string" { // never at once
			t.Run(v.key+" at once", func(t *testing.T) { v.bring(t, mb, mb<<22) })
		}
	}
}

func (v *largeValue) bring(t *testing.T, mb, restoreBytes int) {
	w := testkit.New(t)
	name := w.Name("large")
	r := &rig{
		TB: t, w: w, kafka: kafka.Config{Brokers: []string{w.Kafka().Addr()}}, prefix: name, name: name, partitions: 1,
		target: w.Cluster(1, 0),
	}
	l := r.laneAlone()
	l.commit(l.begin)
	v.publish(l)
	l.commit(l.end)
	cfg := r.config()
	cfg.FetchBytes, cfg.RestoreBytes = 32<<20, restoreBytes
	ctx, cancel := context.WithCancel(t.Context())
	var times []time.Duration
	var wait sync.WaitGroup
	wait.Go(func() { times = r.latency(ctx) }) // ends with cancel
	began := time.Now()
	s := r.child(cfg)
	r.w.Eventually(10*time.Minute, "the value is there", func() error {
		if !s.Running() {
			t.Fatalf("the sink ended: %s", s.LogTail(5))
		}
		if r.target.Client().Exists(t.Context(), v.key).Val() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	took := time.Since(began)
	cancel()
	wait.Wait()
	used, target := s.Usage(), r.target.Masters()[0].Process().Usage()
	peak := used.PeakRSSBytes
	v.check(t, r, v.key, v.n)
	r.noneStaged()
	slices.Sort(times)
	at := func(q float64) time.Duration {
		return times[int(q*float64(len(times)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("%d MiB, %d elements: %.1fs, CPU of the sink %.2fs, of the target %.2fs, sink %d MiB at most; PING p50 %s p99 %s p99.9 %s max %s of %d",
		mb, v.n, took.Seconds(), used.CPU.Seconds(), target.CPU.Seconds(), peak>>20, at(.5), at(.99), at(.999), at(1), len(times))
	if peak > 256<<20 {
		t.Errorf("the sink held %d MiB", peak>>20)
	}
	if n := r.calls("restore"); (n > 0) != (restoreBytes > 1) {
		t.Errorf("%d times RESTORE", n)
	}
}
