package sink

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

// spread carries commands out at the source, and publishes them as one unit with keys of several slots.
func (l *lane) spread(line string) {
	l.t.Helper()
	pipe := l.source.TxPipeline()
	var lines []string
	for c := range strings.SplitSeq(line, "; ") {
		var args []any
		for w := range strings.FieldsSeq(c) {
			args = append(args, w)
		}
		lines = append(lines, c)
		pipe.Do(l.t.Context(), args...)
	}
	results, _ := pipe.Exec(l.t.Context()) // each has its own error
	kept := lines[:0]
	for i, c := range lines {
		if err := results[i].Err(); err == nil || errors.Is(err, redis.Nil) {
			kept = append(kept, c) // what fails is in no stream
		}
	}
	if len(kept) == 0 {
		return
	}
	line = strings.Join(kept, "; ")
	wireBytes, n := wire(line)
	first := strings.Fields(line)[1]
	begin := l.offset
	l.offset += event.Offset(len(wireBytes))
	l.publish(0, &event.Event{
		Kind: event.Unit, Begin: begin, End: l.offset, Prev: l.prev[0], Slot: slot.Of([]byte(first)), Key: []byte(first), Commands: wireBytes,
		Count: uint32(n), Atomic: n > 1, Spread: true,
	}, nil)
	l.prev[0] = l.offset
}

// TestSpread: commands over several slots are worked out at a cluster, one by one and within transactions.
func TestSpread(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	r.partitions = 1
	l := r.lane()
	l.snapshot()
	s := r.start(r.config())
	at := strconv.FormatInt(time.Now().Add(time.Hour).Truncate(time.Second).UnixMilli(), 10)
	for _, units := range [][]string{
		{"MSET a 1 b 2 c 3", "SADD set1 x y", "SADD set2 y z", "HSET h1 f v", "PEXPIREAT h1 " + at, "RPUSH l1 1 2 3", "GEOADD geo1 1 1 m 40 40 n"},
		{"RENAME h1 h2", "COPY h2 h3", "SUNIONSTORE set3 set1 set2", "SMOVE set1 set2 x", "LMOVE l1 l2 LEFT RIGHT", "DEL a c none"},
		{"PFADD p1 a b", "PFADD p2 c", "PFMERGE p3 p1 p2", "SETBIT bit1 7 1", "BITOP NOT bit2 bit1", "SORT l1 STORE l3", "MSETNX x 1 y 2"},
		// What a transaction does to one key alone is a part of it too, and so is an expiry that is all that changes.
		{"GEOSEARCHSTORE geo2 geo1 FROMLONLAT 40 40 BYRADIUS 3000 km; SADD set1 1 2; PEXPIREAT h3 " + at},
		// Each takes the other's place: nothing of either may be lost between two slots.
		{"RENAME set1 tmp; RENAME set2 set1; RENAME tmp set2", "COPY b d; INCR b; INCR d; RENAME d b"},
		{"SUNIONSTORE gone none1 none2", "SINTERSTORE set3 set1 none", "RENAME h2 h1"},
	} {
		l.commit(func() {
			for _, u := range units {
				l.spread(u)
			}
		})
	}
	r.same(s)
	s.stop()
	if left := stagingAt(t, r); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}

	for line, word := range map[string]string{
		"SORT l1 BY w_* STORE l9": "SORT", "EVALSHA 0 2 a b": "EVALSHA",
	} {
		in := newIntake(0, 1, limits{}, 0, newSeenStore(0, ""), startPlan{done: make([]int64, slot.Count)})
		commands, n := wire(line)
		u := &unit{commands: commands, count: n}
		err := in.addSpread(&batch{}, u)
		if e := (*SpreadError)(nil); !errors.As(err, &e) || e.Command != word {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func stagingAt(t *testing.T, r *rig) (keys []string) {
	t.Helper()
	for _, m := range r.target.Masters() {
		found, err := m.Client().Keys(t.Context(), "redriver!s!*").Result()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, found...)
	}
	return keys
}

// TestSpreadCrash: the sink crashes again and again among such units.
func TestSpreadCrash(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	r.partitions = 1
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	key := func(kind string) string { return kind + strconv.Itoa(rng.IntN(8)) }
	for range 12 {
		s := r.start(r.config())
		for range 6 {
			l.commit(func() {
				for range 15 {
					switch rng.IntN(8) {
					case 0:
						l.spread("RPUSH " + key("l") + " " + strconv.Itoa(rng.IntN(100)))
					case 1:
						l.spread("LMOVE " + key("l") + " " + key("l") + " LEFT RIGHT")
					case 2:
						l.spread("INCR " + key("n") + "; INCR " + key("n"))
					case 3:
						l.spread("MSET " + key("n") + " 1 " + key("n") + " 2")
					case 4:
						l.spread("DEL " + key("n") + " " + key("l"))
					case 5:
						l.spread("INCR " + key("n") + "; COPY " + key("l") + " " + key("l") + " REPLACE; RPUSH " + key("l") + " x")
					case 6:
						l.spread("BITOP XOR " + key("bit") + " " + key("bit") + " " + key("n"))
					default:
						l.random(rng)
					}
				}
			})
			time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
		}
		s.crash()
	}
	s := r.start(r.config())
	r.same(s)
	s.stop()
}
