package main

import (
	"math"
	"runtime/debug"
	"testing"
)

// Not parallel: it sets what holds for the process.
func TestEnvironmentGoesBeforeMemoryTarget(t *testing.T) {
	const target = 100 << 20
	for _, c := range []struct {
		name    string
		environ []string
		bytes   int64
		limit   int64
		percent int
	}{
		{"target", nil, target, target, gcPercent},
		{"none", nil, 0, math.MaxInt64, 100},
		{"limit given", []string{"GOMEMLIMIT=1GiB"}, target, math.MaxInt64, gcPercent},
		{"percent given", []string{"GOGC=50"}, target, target, 100},
		{"both given", []string{"GOGC=50", "GOMEMLIMIT=1GiB"}, target, math.MaxInt64, 100},
		{"another's", []string{"NOGOGC=50", "GOGCX=1"}, target, target, gcPercent},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit, percent := debug.SetMemoryLimit(math.MaxInt64), debug.SetGCPercent(100)
			(&app{environ: c.environ}).limitMemory(c.bytes)
			gotLimit, gotPercent := debug.SetMemoryLimit(limit), debug.SetGCPercent(percent)
			if gotLimit != c.limit || gotPercent != c.percent {
				t.Errorf("limit %d, want %d; percent %d, want %d", gotLimit, c.limit, gotPercent, c.percent)
			}
		})
	}
}
