package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	debug.SetGCPercent(gcPercent)
	if visible {
		os.Exit(m.Run())
	}
	os.Exit(runVisible())
}

// runVisible runs these tests with the build tag of franz-go that makes its mutexes visible to a bubble. Without it time stands
// still for ever once somebody waits for one whose holder waits for time.
func runVisible() int {
	dir, err := os.MkdirTemp("", "sim")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx, binary := context.Background(), filepath.Join(dir, "sim.test")
	build := []string{"test", "-c", "-tags=synctests", "-o", binary, "."}
	if os.Getenv("RACE") != "" {
		build = slices.Insert(build, 2, "-race")
	}
	for _, cmd := range []*exec.Cmd{exec.CommandContext(ctx, "go", build...), exec.CommandContext(ctx, binary, os.Args[1:]...)} {
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			if ended, ok := errors.AsType[*exec.ExitError](err); ok {
				return ended.ExitCode()
			}
			panic(err)
		}
	}
	return 0
}

// quiet drops what the client of Redis says of every connection that is refused.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

const (
	// sourceBudget and syncBudget are how long a plain run takes seeds for.
	sourceBudget, syncBudget = 45 * time.Second, 30 * time.Second
	// together is how many make one subtest, so that a panic tells about where it was.
	together = 20
	// gcPercent: a run leaves nothing behind, and the processes are small.
	gcPercent = 400
)

// run is one run of a scenario, within a bubble.
type run func(t *testing.T, seed uint64, log io.Writer) error

// simulate runs the seeds that the environment asks for: REDRIVER_SIM_SEED one, with all that is logged;
// REDRIVER_SIM_SEEDS so many from REDRIVER_SIM_FROM on. Without any, the first ones, as many as there is time for. Each core has
// a run of its own.
func simulate(t *testing.T, budget time.Duration, run run) {
	if seed, ok := number(t, "REDRIVER_SIM_SEED"); ok {
		synctest.Test(t, func(t *testing.T) {
			if err := run(t, seed, t.Output()); err != nil {
				t.Error(err)
			}
		})
		return
	}
	n, asked := number(t, "REDRIVER_SIM_SEEDS")
	if !asked {
		n = math.MaxInt64
	}
	from, _ := number(t, "REDRIVER_SIM_FROM")
	start := time.Now()
	var next, ran atomic.Uint64
	for core := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("core=", core), func(t *testing.T) {
			t.Parallel()
			for asked || time.Since(start) < budget {
				first := next.Add(together) - together
				if first >= n {
					return
				}
				last := min(first+together, n) - 1
				t.Run(fmt.Sprintf("seeds=%d-%d", from+first, from+last), func(t *testing.T) {
					for seed := from + first; seed <= from+last; seed++ {
						runSeed(t, seed, run)
						ran.Add(1)
					}
				})
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d seeds, %.1f/s", ran.Load(), float64(ran.Load())/time.Since(start).Seconds()) })
}

// runSeed runs one seed.
func runSeed(t *testing.T, seed uint64, run run) {
	synctest.Test(t, func(t *testing.T) {
		if err := run(t, seed, io.Discard); err != nil {
			t.Errorf("%v\nagain, with its log: REDRIVER_SIM_SEED=%d", err, seed)
		}
	})
}

func number(t *testing.T, name string) (n uint64, ok bool) {
	text, ok := os.LookupEnv(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}
