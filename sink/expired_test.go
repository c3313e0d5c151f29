package sink

import (
	"fmt"
	"testing"
	"time"

	"github.com/redriver/redriver/redis/rdb"
)

// timedHash is a hash some of whose fields have expired, or all.
func timedHash(t *testing.T, name string, n int, all bool, f rdb.Format) sampleValue {
	t.Helper()
	var enc rdb.Encoder
	if err := enc.Reset(rdb.ValueHash, f); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour).UnixMilli()
	for i := range n {
		at := past + int64(i)
		if !all && i%2 == 0 {
			at = 0
		}
		if err := enc.AppendField(fmt.Appendf(nil, "f%d", i), []byte("v"), at); err != nil {
			t.Fatal(err)
		}
	}
	typ, value := enc.Value()
	return sampleValue{name, string(rdb.AppendPayload(nil, typ, value, f.Version)), typ, f}
}

// TestExpiredFields: fields whose time has passed when they arrive. With a hold they are there until the source removes them,
// with exact times they are not, and a hash that has no others is not there at all; also where it is built in parts, in which
// the staging key would vanish with its fields.
func TestExpiredFields(t *testing.T) {
	for _, version := range []string{"redis-7.4", "redis-8.6", "valkey-9.1"} {
		for _, hold := range []time.Duration{0, testHold} {
			t.Run(fmt.Sprintf("%s, hold %s", version, hold), func(t *testing.T) {
				t.Parallel()
				r := newVersionRig(t, version)
				l := r.laneAlone()
				rng := seed(t)
				var values []sampleValue
				for _, f := range []rdb.Format{{Version: 12}, {Version: 80, Valkey: true}} {
					for _, n := range []int{3, 700} {
						for _, all := range []bool{false, true} {
							values = append(values, timedHash(t, fmt.Sprintf("%d/%d/%t", f.Version, n, all), n, all, f))
						}
					}
				}
				l.commit(l.begin)
				l.commit(func() {
					for _, v := range values {
						p, e := l.entry(v.name, v.payload)
						l.publish(p, e, nil)
						v.name += "/built"
						p, e = l.entry(v.name, v.payload)
						l.send(p, e, sizes(rng, 300), -1)
					}
				})
				l.commit(l.end)
				cfg := r.config()
				cfg.ExpiryHold = hold
				s := r.start(cfg)
				r.waitApplied(s)
				c := r.target.Client()
				for _, v := range values {
					fields := len(factsOf(t, v.payload).lines) - 1
					all := v.name[len(v.name)-len("true"):] == "true"
					want := fields
					switch {
					case hold == 0 && all:
						want = 0
					case hold == 0:
						want = (fields + 1) / 2
					}
					for _, key := range []string{v.name, v.name + "/built"} {
						r.w.Eventually(10*time.Second, "expired fields are gone", func() error {
							if got := c.HGetAll(t.Context(), key).Val(); len(got) != want {
								return fmt.Errorf("%s has %d fields, want %d", key, len(got), want)
							}
							return nil
						})
					}
				}
				r.noneStaged()
			})
		}
	}
}
