package verify

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/redriver/redriver/internal/testkit"
)

// FuzzMatch looks for patterns that end the process or take for ever.
func FuzzMatch(f *testing.F) {
	f.Add(`a*[b-`, "abc")
	f.Fuzz(func(_ *testing.T, pattern, key string) { match(pattern, key) })
}

// Patterns mean what they mean to a server.
func TestMatchIsThatOfKeys(t *testing.T) {
	c := testkit.New(t).Server("").Client()
	rng := rand.New(rand.NewPCG(5, 6))
	text := func(alphabet string, most int) string {
		b := make([]byte, rng.IntN(most+1))
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return string(b)
	}
	var keys []string
	for range 400 {
		keys = append(keys, text("aabcd-]^[*?\\\x00\xff", 6))
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	pipe := c.Pipeline()
	for _, k := range keys {
		pipe.Set(t.Context(), k, "", 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	bad := 0
	for range 5000 {
		pattern := text("aabc**??[[]]^-\\d\x00", 8) // no range above 127: whether a char has a sign is the machine's
		want, err := c.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range keys {
			if match(pattern, k) {
				got = append(got, k)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			if bad++; bad < 10 {
				t.Errorf("%q matches %q, for a server %q", pattern, got, want)
			}
		}
	}
}
