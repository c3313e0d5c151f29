package costs_test

import (
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit/costs"
)

var sink [][]byte

func TestCosts(t *testing.T) {
	t.Parallel()
	const n = 100
	start := time.Now()
	c := costs.Of(t, n, func() func() {
		ch := make(chan int)
		go func() {
			for range ch {
			}
		}()
		return func() {
			sink = make([][]byte, 0, n)
			for i := range n {
				sink = append(sink, make([]byte, 100))
				ch <- i
			}
		}
	})
	t.Logf("%+v in %v", c, time.Since(start))
	if c.Allocs < 1 || c.Allocs > 1.1 || c.Bytes < 112 || c.Bytes > 150 {
		t.Errorf("%+v", c)
	}
}
