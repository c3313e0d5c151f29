package costs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
)

// Cost is that of one operation.
type Cost struct {
	Allocs, Bytes float64
	// Instructions are those of user space; 0 if this machine does not let them be counted.
	Instructions float64
}

const (
	// allocsN operations have their allocations counted, so many that memory taken in large pieces is spread over them; as
	// many warm up before.
	allocsN = 20_000
	// stepsN operations have their instructions counted, at some hundred thousand a second at best.
	stepsN   = 30
	attempts = 3
	// TotalN is how many operations are asked for in all.
	TotalN = 2*allocsN + stepsN
)

// childEnv is set in the process that is measured.
const childEnv = "REDRIVER_COSTS_CHILD"

// message is what the child says before its instructions are counted.
type message struct{ Mallocs, Bytes uint64 }

// Of measures run, which does n operations when it is called. prepare makes it, and is called in the measured process alone. The
// test must not be a subtest.
func Of(tb testing.TB, prepare func() (run func(n int))) Cost {
	tb.Helper()
	if os.Getenv(childEnv) != "" {
		child(prepare())
		os.Exit(0) //nolint:forbidigo // a process of its own
	}
	var profile profile
	var at func(uintptr)
	if os.Getenv(profileEnv) != "" {
		profile = map[string]int{}
		at = profile.add
	}
	m, instructions, err := measure(tb.Name(), at)
	if errors.Is(err, errors.ErrUnsupported) {
		tb.Logf("instructions cannot be counted here, allocations and bytes alone are: %v", err)
	} else if err != nil {
		tb.Fatal(err)
	}
	if profile != nil {
		tb.Logf("instructions of each, by function:\n%s", profile)
	}
	return Cost{
		Allocs: float64(m.Mallocs) / allocsN, Bytes: float64(m.Bytes) / allocsN, Instructions: float64(instructions) / stepsN,
	}
}

// boundsArch is the architecture that bounds of instructions are made for.
const boundsArch = "amd64"

// Guard measures and fails the test where a bound is passed. What the runtime does now and then may fall into a measurement, so one
// that is above is made again, and the least counts. Under the race detector, where everything costs more, it only runs.
func Guard(tb testing.TB, bound Cost, prepare func() (run func(n int))) {
	tb.Helper()
	if runtime.GOARCH != boundsArch {
		bound.Instructions = math.Inf(1)
		tb.Logf("the bound of instructions is that of %s: allocations and bytes alone are judged", boundsArch)
	}
	c := Of(tb, prepare)
	for range attempts - 1 {
		if raceDetector || c.Allocs <= bound.Allocs && c.Bytes <= bound.Bytes && c.Instructions <= bound.Instructions {
			break
		}
		again := Of(tb, prepare)
		c = Cost{min(c.Allocs, again.Allocs), min(c.Bytes, again.Bytes), min(c.Instructions, again.Instructions)}
	}
	tb.Logf("of each: %.3f allocations, %.0f bytes, %.0f instructions", c.Allocs, c.Bytes, c.Instructions)
	if raceDetector {
		return
	}
	for _, f := range []struct {
		what      string
		got, most float64
	}{
		{"allocations", c.Allocs, bound.Allocs}, {"bytes", c.Bytes, bound.Bytes}, {"instructions", c.Instructions, bound.Instructions},
	} {
		if f.got > f.most {
			tb.Errorf("%.3f %s each, at most %.3f are allowed: where there is a good reason, raise the bound", f.got, f.what, f.most)
		}
	}
}

// child runs in the measured process.
func child(run func(n int)) {
	runtime.GOMAXPROCS(1)
	run(allocsN)
	runtime.GC()
	debug.SetGCPercent(-1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(allocsN)
	runtime.ReadMemStats(&after)
	m := message{Mallocs: after.Mallocs - before.Mallocs, Bytes: after.TotalAlloc - before.TotalAlloc}
	if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // a process of its own
	}
	counted(func() { run(stepsN) })
}

// measure runs the child to its end.
func measure(test string, at func(pc uintptr)) (m message, instructions int64, err error) {
	self, err := os.Executable()
	if err != nil {
		return m, 0, err
	}
	cmd := exec.Command(self, "-test.run=^"+test+"$", "-test.count=1") //nolint:noctx // ends by itself, or is killed below
	cmd.Env = append(os.Environ(), childEnv+"=1", "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = endsWithUs()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return m, 0, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return m, 0, err
	}
	// Whoever traces has to do everything about it on one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return m, 0, fmt.Errorf("start what is to be measured: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	said := bufio.NewReader(out)
	var line []byte
	for err == nil && json.Unmarshal(line, &m) != nil { // behind what the testing package says
		line, err = said.ReadBytes('\n')
	}
	if err != nil {
		return m, 0, fmt.Errorf("measure allocations: %w", err)
	}
	if raceDetector { // it would be ten times as many, and nobody asks
		return m, 0, nil
	}
	instructions, err = countSteps(cmd.Process.Pid, said, in, at)
	return m, instructions, err
}
