package sink

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
)

// TestFinishOfEveryVersion: after it, keys and fields of hashes expire when they do at the source, at targets of every
// version, whether they came in a snapshot or in the stream.
func TestFinishOfEveryVersion(t *testing.T) {
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	var all []sampleValue
	for _, v := range samples(t) {
		if v.typ != moduleType {
			all = append(all, v)
		}
	}
	for _, version := range targetVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newVersionRig(t, version)
			l := r.laneAlone()
			l.load(all, func(e *event.Event) { e.ExpireAtMs = at.UnixMilli() })
			target := r.targetFormat()
			client := r.target.Client()
			const fields = 2000
			l.commit(func() {
				var wire []byte
				for i := range fields {
					wire = resp.AppendCommand(wire, "HSET", "many", fmt.Sprint("f", i), "v")
				}
				l.write("many", wire, fields)
				if target.HasFieldExpiry() {
					wire = nil
					for i := range fields {
						wire = resp.AppendCommand(wire, "HPEXPIREAT", "many", strconv.FormatInt(at.UnixMilli()+int64(i), 10), "FIELDS", "1", fmt.Sprint("f", i))
					}
					l.write("many", wire, fields)
				}
			})
			cfg := r.config()
			cfg.ExpiryHold, cfg.Unsupported = testHold, UnsupportedKeep
			s := r.start(cfg)
			r.waitApplied(s)
			s.stop()
			d := &topology.Dialer{Timeout: 2 * time.Second}
			done, err := Finish(t.Context(), d, r.target.Addrs())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", done)
			r.checkValues(all, 0)
			for _, v := range all {
				before := time.Until(at)
				left := client.PTTL(t.Context(), v.name).Val()
				if after := time.Until(at); left > before+200*time.Millisecond || left < after-200*time.Millisecond {
					t.Fatalf("%s expires in %s, not %s", v.name, left, after)
				}
			}
			if target.HasFieldExpiry() {
				for i := 0; i < fields; i += 7 {
					got, err := client.Do(t.Context(), "HPEXPIRETIME", "many", "FIELDS", 1, fmt.Sprint("f", i)).Int64Slice()
					if err != nil || got[0] != at.UnixMilli()+int64(i) {
						t.Fatalf("field %d expires at %v, want %d, %v", i, got, at.UnixMilli()+int64(i), err)
					}
				}
			}
			if own := client.Keys(t.Context(), "redriver!*").Val(); len(own) > 0 {
				t.Errorf("left: %q", own)
			}
			if _, err := Finish(t.Context(), d, r.target.Addrs()); !errors.Is(err, ErrNothingToFinish) {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// TestFinishLooksAtAllDatabases: a database without such hashes says nothing of another.
func TestFinishLooksAtAllDatabases(t *testing.T) {
	for info, want := range map[string]bool{
		"# Keyspace\r\n": false,
		"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n":                                                                               true,
		"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,subexpiry=0\r\n":                                                                   false,
		"# Keyspace\r\ndb3:keys=1,expires=0,avg_ttl=0,subexpiry=2\r\n":                                                                   true,
		"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,subexpiry=0\r\ndb3:keys=1,expires=0,avg_ttl=0,subexpiry=10\r\n":                    true,
		"# Keyspace\r\ndb0:keys=9,expires=0,avg_ttl=0,keys_with_volatile_items=0\r\n":                                                    false,
		"# Keyspace\r\ndb0:keys=9,expires=0,keys_with_volatile_items=0\r\ndb9:keys=9,expires=0,avg_ttl=0,keys_with_volatile_items=1\r\n": true,
	} {
		if got := countsFieldExpiry(info); got != want {
			t.Errorf("%q: %t", info, got)
		}
	}
}
