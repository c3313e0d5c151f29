package source

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestMemoryOfARecordIsItsOwnUntilKafkaHasIt settles records in any order, some of them with an error, and looks at every
// byte of those that are not settled.
func TestMemoryOfARecordIsItsOwnUntilKafkaHasIt(t *testing.T) {
	t.Parallel()
	type open struct {
		r      *kgo.Record
		memory []byte
		fill   byte
		done   promise
	}
	rng := rand.New(rand.NewPCG(7, 9))
	settled, reused := 0, 0
	a := arena{pieces: &sync.Pool{}, bytes: 4 << 10, settle: func(*kgo.Record, error) { settled++ }}
	var unsettled []open
	var failed []open
	seen := map[*kgo.Record]bool{}
	const n = 20_000
	for i := range n {
		size := rng.IntN(300)
		if rng.IntN(50) == 0 {
			size = 5 << 10
		}
		o := open{fill: byte(i)}
		o.r, o.memory, o.done = a.take(size)
		if seen[o.r] {
			reused++
		}
		seen[o.r] = true
		o.r.Offset = int64(i)
		for j := range o.memory {
			o.memory[j] = o.fill
		}
		unsettled = append(unsettled, o)
		for len(unsettled) > 200 || len(unsettled) > 0 && i == n-1 {
			k := rng.IntN(len(unsettled))
			o := unsettled[k]
			unsettled = slices.Delete(unsettled, k, k+1)
			if i := slices.IndexFunc(o.memory, func(b byte) bool { return b != o.fill }); i >= 0 {
				t.Fatalf("byte %d of record %d was written by another one", i, o.r.Offset)
			}
			var err error
			if rng.IntN(500) == 0 {
				err = errors.New("not taken")
				failed = append(failed, o)
			}
			o.done(o.r, err)
		}
	}
	for _, o := range failed {
		if slices.ContainsFunc(o.memory, func(b byte) bool { return b != o.fill }) {
			t.Fatal("the memory of a record that failed was used again")
		}
	}
	if settled != n || reused < n/2 || len(failed) == 0 {
		t.Errorf("%d settled, %d of them in memory of others, %d failed", settled, reused, len(failed))
	}
}
