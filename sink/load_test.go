package sink

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/redis/rdb"
)

// calls is how often the target's masters were given a command, of INFO commandstats.
func (r *rig) calls(command string) (sum int) {
	for _, m := range r.target.Masters() {
		stats := m.Client().Info(r.Context(), "commandstats").Val()
		_, n, _ := strings.Cut(stats, "cmdstat_"+command+":calls=")
		n, _, _ = strings.Cut(n, ",")
		calls, _ := strconv.Atoi(n)
		sum += calls
	}
	return sum
}

// TestLoadOfEveryType has targets of every version load values of every type and version at once, where they know the type:
// with all that a value has, and its time. The others are built in pieces.
func TestLoadOfEveryType(t *testing.T) {
	all := builtSamples(t)
	at := time.Now().Add(100 * 24 * time.Hour).Truncate(time.Second)
	for _, version := range targetVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			rng := seed(t)
			r := newVersionRig(t, version)
			l := r.laneAlone()
			hold := []time.Duration{0, testHold}[rng.IntN(2)]
			target := r.targetFormat()
			whole := map[string]bool{} // loaded at once
			l.commit(func() {
				l.begin()
				for i, v := range all {
					p, e := l.entry(v.name, v.payload)
					e.ExpireAtMs = at.UnixMilli()
					if i%3 == 0 {
						e.IdleSeconds = 5
					}
					cut := sizes(rng, 200+rng.IntN(5000))
					if i%2 == 0 { // all of it is in the first chunk
						cut = func() int { return 1 << 20 }
						_, known := rdb.EstimateOf(e.Type, e.Value, v.format)
						whole[v.name] = known && len(e.Value) > 8 && target.Loads(v.typ, v.format) && (hold == 0 || !rdb.HasTimedFields(v.typ, v.format))
					}
					l.send(p, e, cut, -1)
				}
			})
			l.commit(l.end)
			cfg := r.config()
			cfg.ExpiryHold, cfg.Unsupported, cfg.RebuildBytes = hold, UnsupportedKeep, 1
			s := r.start(cfg)
			r.waitApplied(s)
			r.noneStaged()
			exact := 0
			for _, v := range all {
				payload, err := r.target.Client().Dump(t.Context(), v.name).Result()
				if err != nil {
					t.Errorf("%s, type %d: %v", v.name, v.typ, err)
					continue
				}
				want := factsOf(t, v.payload)
				if whole[v.name] {
					exact++
				} else if got := heldFacts(want, target, hold.Milliseconds()); diffFacts(got, factsOf(t, payload)) != "" {
					want = buildable(want)
				}
				if diff := diffFacts(heldFacts(want, target, hold.Milliseconds()), factsOf(t, payload)); diff != "" {
					t.Errorf("%s, type %d: %s", v.name, v.typ, diff)
				}
				before := time.Until(at.Add(hold))
				left := r.target.Client().PTTL(t.Context(), v.name).Val()
				if after := time.Until(at.Add(hold)); left > before+time.Second || left < after-time.Minute {
					t.Errorf("%s, type %d: expires in %s, want %s", v.name, v.typ, left, after)
				}
			}
			t.Logf("hold %s, %d of %d values were loaded at once for sure", hold, exact, len(all))
			if exact < 20 {
				t.Error("too few")
			}
		})
	}
}

// TestLoadUnderAnotherConfiguration: a value of which some chunks came under one configuration is whole, whatever the next one
// makes of such values.
func TestLoadUnderAnotherConfiguration(t *testing.T) {
	for name, bytes := range map[string][2]int{"at once, then in pieces": {1 << 20, 1}, "in pieces, then at once": {1, 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := seed(t)
			r := newVersionRig(t, "redis-7.4")
			r.partitions = 1
			l := r.laneAlone()
			all := giants(t, rng, r.w, "redis-7.4", 7)[1:6] // one of each collection
			cfg := r.config()
			cfg.ExpiryHold, cfg.RebuildBytes = 0, 1
			l.commit(l.begin)
			for i, v := range all {
				cfg.RestoreBytes = bytes[0]
				s := r.start(cfg)
				p, e := l.entry(v.name, v.payload)
				pieces := l.divide(e, 1+len(e.Value)/8)
				l.commit(func() { pieces(p, 5) })
				r.waitApplied(s)
				s.stop()
				cfg.RestoreBytes = bytes[1]
				s = r.start(cfg)
				l.commit(func() { pieces(p, -1) })
				r.waitApplied(s)
				r.checkBuilt(all[:i+1], 0)
				s.stop()
			}
			s := r.start(cfg)
			l.commit(l.end)
			r.waitApplied(s)
			r.checkBuilt(all, 0)
			r.noneStaged()
		})
	}
}

// TestValueLongerThanItsBeginIsBuiltInPieces: what is judged to be small by its first elements and is not is never loaded at
// once, and nothing is asked of anybody.
func TestValueLongerThanItsBeginIsBuiltInPieces(t *testing.T) {
	t.Parallel()
	r := newVersionRig(t, "redis-7.0")
	l := r.laneAlone()
	list := func(long int) string {
		value := lengthOf(nil, 4000)
		for i := range 4000 {
			text := fmt.Sprint("element", i)
			if i >= 2000 {
				text += strings.Repeat("x", long)
			}
			value = rdb.AppendText(value, []byte(text))
		}
		return string(rdb.AppendPayload(nil, 1, value, 9)) // a plain list
	}
	var all []sampleValue
	l.commit(l.begin)
	for i, long := range []int{0, 400, 10, 500} { // about 50, 850, 70, 1050 KB; each seems to be of 50, and counts as 256
		v := sampleValue{name: fmt.Sprintf("{1}%d", i), payload: list(long), typ: 1, format: rdb.FormatOf(9)}
		p, e := l.entry(v.name, v.payload)
		l.commit(func() { l.send(p, e, func() int { return 5000 }, -1) })
		all = append(all, v)
	}
	l.commit(l.end)
	cfg := r.config()
	cfg.RebuildBytes, cfg.RestoreBytes = 1000, 300_000
	s := r.start(cfg)
	r.waitApplied(s)
	r.checkBuilt(all, 0)
	r.noneStaged()
	if n, renames := r.calls("restore"), r.calls("rename"); n != 2 || renames != 2 {
		t.Errorf("%d values were loaded at once, %d were built, want 2 and 2", n, renames)
	}
}

// TestLoadThatTheTargetCutsIsBuiltInPieces: a target that takes no argument of that size closes the connection.
func TestLoadThatTheTargetCutsIsBuiltInPieces(t *testing.T) {
	t.Parallel()
	r := newVersionRig(t, "redis-7.0")
	r.set(r.target.Masters()[0], "proto-max-bulk-len", "1mb")
	l := r.laneAlone()
	value := lengthOf(nil, 40_000)
	for i := range 40_000 {
		value = rdb.AppendText(value, fmt.Appendf(nil, "element:%050d", i))
	}
	v := sampleValue{name: "big", payload: string(rdb.AppendPayload(nil, 1, value, 9)), typ: 1, format: rdb.FormatOf(9)}
	small := sampleValue{name: "{big}small", payload: string(rdb.AppendPayload(nil, 1, rdb.AppendText(lengthOf(nil, 1), []byte("x")), 9)), typ: 1, format: rdb.FormatOf(9)}
	l.commit(l.begin)
	l.commit(func() {
		p, e := l.entry(small.name, small.payload)
		l.publish(p, e, nil)
		p, e = l.entry(v.name, v.payload)
		l.send(p, e, func() int { return 500_000 }, -1)
	})
	l.commit(l.end)
	cfg := r.config()
	cfg.RebuildBytes = 1000
	r.waitApplied(r.start(cfg))
	r.checkBuilt([]sampleValue{v, small}, 0)
	r.noneStaged()
	if n := r.calls("rename"); n != 1 {
		t.Errorf("%d values were built in pieces", n)
	}
}
