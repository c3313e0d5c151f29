package costs_test

import (
	"testing"

	"github.com/redriver/redriver/internal/testkit/costs"
)

var kept [][]byte

// TestCosts: each operation allocates 100 bytes, 112 by the allocator's classes, and wakes another goroutine.
func TestCosts(t *testing.T) {
	t.Parallel()
	c := costs.Of(t, func() func(int) {
		ch := make(chan int)
		go func() { // ends with the process
			for range ch {
			}
		}()
		return func(n int) {
			kept = make([][]byte, 0, n)
			for i := range n {
				kept = append(kept, make([]byte, 100))
				ch <- i
			}
		}
	})
	t.Logf("%+v", c)
	if c.Allocs < 1 || c.Allocs > 1.1 || c.Bytes < 112 || c.Bytes > 150 {
		t.Errorf("%+v", c)
	}
	if c.Instructions != 0 && (c.Instructions < 300 || c.Instructions > 10_000) {
		t.Errorf("%+v", c)
	}
}
