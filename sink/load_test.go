package sink

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/redis/rdb"
)

// calls is how often the target was given a command, of INFO commandstats.
func (r *rig) calls(command string) int {
	stats := r.target.Masters()[0].Client().Info(r.Context(), "commandstats").Val()
	_, n, _ := strings.Cut(stats, "cmdstat_"+command+":calls=")
	n, _, _ = strings.Cut(n, ",")
	calls, _ := strconv.Atoi(n)
	return calls
}

// TestLoadOfEveryType has targets of every version load values of every type and version at once, where they know the type.
// The others are built in pieces, or joined.
func TestLoadOfEveryType(t *testing.T) {
	var all []sampleValue
	for _, v := range samples(t) {
		if v.typ != moduleType {
			all = append(all, v)
		}
	}
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
					l.send(p, e, sizes(rng, 200+rng.IntN(5000)), -1)
				}
			})
			l.commit(l.end)
			cfg := r.config()
			cfg.ExpiryHold, cfg.Unsupported, cfg.RebuildBytes = hold, UnsupportedKeep, 1
			s := r.start(cfg)
			r.waitApplied(s)
			r.checkLoaded(all, hold)
			r.noneStaged()
			if n := r.calls("restore"); n < 20 {
				t.Errorf("only %d values were loaded at once", n)
			}
		})
	}
}

// checkLoaded is checkValues for values of which some were loaded, and some built with commands.
func (r *rig) checkLoaded(all []sampleValue, hold time.Duration) {
	r.Helper()
	target := r.targetFormat()
	exact := 0
	for _, v := range all {
		payload, err := r.target.Client().Dump(r.Context(), v.name).Result()
		if err != nil {
			r.Errorf("%s, type %d: %v", v.name, v.typ, err)
			continue
		}
		want, got := factsOf(r, v.payload), factsOf(r, payload)
		if diffFacts(heldFacts(want, target, hold.Milliseconds()), got) == "" {
			exact++
			continue
		}
		if diff := diffFacts(heldFacts(buildable(want), target, hold.Milliseconds()), got); diff != "" {
			r.Errorf("%s, type %d: %s", v.name, v.typ, diff)
		}
	}
	r.Logf("hold %s, %d of %d values are exact", hold, exact, len(all))
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
	l.commit(func() {
		l.begin()
		p, e := l.entry(v.name, v.payload)
		l.send(p, e, func() int { return 500_000 }, -1)
		l.end()
	})
	cfg := r.config()
	cfg.RebuildBytes = 1000
	r.waitApplied(r.start(cfg))
	r.checkBuilt([]sampleValue{v}, 0)
	r.noneStaged()
}
