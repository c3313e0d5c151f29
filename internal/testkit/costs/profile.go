package costs

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// profileEnv has the test log where the instructions are.
const profileEnv = "REDRIVER_COSTS_PROFILE"

// profile counts instructions by function. The child is the same binary at the same addresses.
type profile map[string]int

func (p profile) add(pc uintptr) {
	name := "?"
	if f := runtime.FuncForPC(pc); f != nil {
		name = f.Name()
	}
	p[name]++
}

const profileLines = 60

func (p profile) String() string {
	names := slices.SortedFunc(maps.Keys(p), func(a, b string) int { return cmp.Or(cmp.Compare(p[b], p[a]), cmp.Compare(a, b)) })
	var b strings.Builder
	for _, name := range names[:min(len(names), profileLines)] {
		fmt.Fprintf(&b, "%8.1f  %s\n", float64(p[name])/stepsN, name)
	}
	return b.String()
}
