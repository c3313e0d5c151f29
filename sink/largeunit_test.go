package sink

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// largeUnits are units with a command that is split, a string that is built, and many small commands, of keys that others
// write too; most of them show when they are done twice or in part.
func largeUnits(rng *rand.Rand, id, n int) [][]string {
	key := func(kind string) string { return fmt.Sprintf("{%d}:%s", id, kind) }
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return string(b)
	}
	many := func(each int, words ...string) []string {
		for i := range 12_000 {
			if each == 2 {
				words = append(words, strconv.Itoa(i))
			}
			words = append(words, fmt.Sprintf("%d-%0100d", n, i))
		}
		return words
	}
	at := strconv.FormatInt(time.Now().Add(time.Hour).Truncate(time.Second).UnixMilli(), 10)
	incr := []string{"INCR", key("n")}
	switch n % 8 {
	case 0:
		return [][]string{many(1, "RPUSH", key("l"))}
	case 1:
		return [][]string{{"SET", key("s"), text(1_200_000), "PXAT", at}}
	case 2: // the expiry that it has stays
		return [][]string{{"SET", key("s"), text(1_100_000), "KEEPTTL"}, {"APPEND", key("s"), "x"}, incr}
	case 3:
		return [][]string{incr, many(2, "ZADD", key("z")), many(2, "HSET", key("h")), {"SET", key("s"), text(1_300_000), "XX", "GET"}, incr}
	case 4:
		return [][]string{many(1, "LPUSH", key("l")), {"LTRIM", key("l"), "0", "99"}, many(1, "SREM", key("set")), incr}
	case 5: // one that cannot be split, nor built
		return [][]string{{"APPEND", key("a"), text(1_100_000)}}
	case 6:
		mset := []string{"MSET"}
		for i := range 3000 {
			mset = append(mset, fmt.Sprintf("%s%d", key("m"), i), text(400))
		}
		return [][]string{mset, many(1, "SADD", key("set"))}
	default:
		var out [][]string
		for range 2000 {
			out = append(out, []string{"APPEND", key("many"), text(100)}, incr)
		}
		return out
	}
}

// Units of the stream that are larger than what is held have the same effect as they had at the source, once, also when
// sinks are killed with -9 while they come, and beside others.
func TestLargeUnitsTakeEffectOnce(t *testing.T) {
	r := newRig(t, 2, 0)
	r.partitions = 2
	rng := seed(t)
	l := r.lane()
	l.limit = 100_000
	l.snapshot()
	cfg := r.config()
	cfg.RebuildBytes, cfg.ExpiryHold, cfg.Instance = 4<<10, 0, "one"
	s := r.child(cfg)
	kills := 0
	for n := range 24 {
		l.commit(func() {
			l.do(largeUnits(rng, n%3, n)...)
			for range 5 {
				l.random(rng)
			}
		})
		if n%3 == 2 {
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			kills++
			s = r.child(cfg)
		}
	}
	r.same()
	r.noneStaged()
	if out := s.LogTail(100); strings.Contains(out, "level=ERROR") {
		t.Error(out)
	}
	t.Logf("%d kills", kills)
}

// A large string goes in pieces to a target that has a replica, if nothing of its transaction was sent before.
func TestLargeStringsGoToReplicasInPieces(t *testing.T) {
	r := newRig(t, 1, 1)
	l := r.lane()
	l.limit = 100_000
	l.snapshot()
	cfg := r.config()
	cfg.RebuildBytes, cfg.ExpiryHold = 4<<10, 0
	s := r.prepare(cfg)
	s.replicaBytes = 1 << 20
	running := r.run(s)
	value := strings.Repeat("abcdefghij", 200_000)
	at := strconv.FormatInt(time.Now().Add(time.Hour).Truncate(time.Second).UnixMilli(), 10)
	l.commit(func() {
		l.do([]string{"SET", "{1}a", value, "PXAT", at})
		l.do([]string{"SET", "{1}a", value + "1", "KEEPTTL"}, []string{"INCR", "{1}n"})
		l.do([]string{"INCR", "{1}n"}, []string{"SET", "{1}b", value + "2"})
	})
	r.same(running)
	r.noneStaged()
	stats := r.target.Masters()[0].Client().Info(t.Context(), "commandstats").Val()
	_, pieces, _ := strings.Cut(stats, "cmdstat_setrange:calls=")
	pieces, _, _ = strings.Cut(pieces, ",")
	if n, _ := strconv.Atoi(pieces); n != 2*(1+len(value)/stringPieceBytes+1) {
		t.Errorf("%d pieces were written", n)
	}
}
