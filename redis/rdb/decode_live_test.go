package rdb

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLiveDecode decodes values larger than those of the corpus, of thousands of elements and of megabytes.
func TestLiveDecode(t *testing.T) {
	for _, version := range []string{"", "valkey-9.1"} {
		t.Run("version="+version, func(t *testing.T) {
			c := versionServer(t, version)
			ctx := t.Context()
			populate(t, c)
			keys, err := c.Keys(ctx, "*").Result()
			if err != nil {
				t.Fatal(err)
			}
			d := NewDecoder(DecoderConfig{PieceBytes: 1 << 16})
			for _, key := range keys {
				if strings.HasPrefix(key, "many:") {
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
				d.ResetBytes(typ, value, FormatOf(version))
				got, err := decoded(d)
				if want := answered(t, c, key); err != nil || !cmp.Equal(got, want) {
					t.Errorf("key %s, type %d: %v %s", quoteKey([]byte(key)), typ, err, cmp.Diff(want, got))
				}
				d.Reset(typ, bytes.NewReader(value), FormatOf(version))
				if again, err := decoded(d); err != nil || !cmp.Equal(got, again) {
					t.Errorf("key %s, type %d, from a reader: %v %s", quoteKey([]byte(key)), typ, err, cmp.Diff(got, again))
				}
			}
		})
	}
}
