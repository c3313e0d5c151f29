package rdb

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
)

func TestLiveDecode(t *testing.T) {
	for _, version := range []string{"redis-6.2", "", "redis-7.4", "redis-8.6", "valkey-9.1"} {
		t.Run("version="+version, func(t *testing.T) {
			server := testkit.New(t).Server(version, "--activerehashing", "no")
			c := server.NewClient(func(o *redis.Options) { o.Protocol = 2 })
			defer c.Close()
			ctx := t.Context()
			populate(t, c)
			keys, err := c.Keys(ctx, "*").Result()
			if err != nil {
				t.Fatal(err)
			}
			d := NewDecoder(DecoderConfig{})
			types := map[byte]int{}
			for _, key := range keys {
				if strings.HasPrefix(key, "many:") && len(key) > 6 {
					continue
				}
				payload, err := c.Dump(ctx, key).Bytes()
				if err != nil {
					t.Fatal(err)
				}
				typ, value, version, err := SplitPayload(payload)
				if err != nil {
					t.Fatal(err)
				}
				types[typ]++
				d.ResetBytes(typ, value, FormatOf(version))
				got, err := decoded(d)
				if err != nil {
					t.Errorf("key %s, type %d: %v", quoteKey([]byte(key)), typ, err)
					continue
				}
				if want := known(got, answered(t, c, key)); !cmp.Equal(got, want) {
					t.Errorf("key %s, type %d: %s", quoteKey([]byte(key)), typ, cmp.Diff(want, got))
				}
				d.Reset(typ, iotest.HalfReader(bytes.NewReader(value)), FormatOf(version))
				if again, err := decoded(d); err != nil || !cmp.Equal(got, again) {
					t.Errorf("key %s, type %d: read in pieces: %v %s", quoteKey([]byte(key)), typ, err, cmp.Diff(got, again))
				}
				// A value cut anywhere is an error that says so.
				for n := 0; n < len(value); n += 1 + len(value)/50 {
					d.ResetBytes(typ, value[:n], FormatOf(version))
					var format *FormatError
					if _, err := decoded(d); !errors.As(err, &format) {
						t.Errorf("key %s, type %d cut to %d of %d: %v", quoteKey([]byte(key)), typ, n, len(value), err)
					}
				}
			}
			t.Logf("types %v", types)
		})
	}
}

// known leaves out of want what XINFO says and the value does not hold: the state of producers is compared elsewhere,
// in full it is not in the answer.
func known(got, want []string) []string {
	for i, line := range got {
		if strings.HasPrefix(line, "producers ") {
			return append(want, got[i:]...)
		}
	}
	return want
}
