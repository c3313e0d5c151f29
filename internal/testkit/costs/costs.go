package costs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
)

// Cost is what n operations cost, for each of them.
type Cost struct {
	Allocs, Bytes float64
	// Instructions are those of user space; 0 if this machine does not let them be counted.
	Instructions float64
}

// childEnv is set in the process that is measured.
const childEnv = "REDRIVER_COSTS_CHILD"

// message is what the child says before it can be counted.
type message struct {
	Mallocs, Bytes uint64
}

// Of measures run, which does n operations each time it is called. prepare makes it; it is called in the measured process
// alone, whose own output goes to the test's log if it fails. Of has to be called at most once by a test, and by a test that is no
// subtest.
func Of(tb testing.TB, n int, prepare func() (run func())) Cost {
	tb.Helper()
	if os.Getenv(childEnv) != "" {
		child(prepare())
		os.Exit(0)
	}
	var c Cost
	m, instructions, err := measure(tb.Name())
	if errors.Is(err, errors.ErrUnsupported) {
		tb.Logf("instructions cannot be counted here: %v", err)
	} else if err != nil {
		tb.Fatal(err)
	}
	c.Allocs, c.Bytes, c.Instructions = float64(m.Mallocs)/float64(n), float64(m.Bytes)/float64(n), float64(instructions)/float64(n)
	return c
}

// child runs in the measured process.
func child(run func()) {
	runtime.GOMAXPROCS(1)
	run()
	runtime.GC()
	debug.SetGCPercent(-1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	m := message{Mallocs: after.Mallocs - before.Mallocs, Bytes: after.TotalAlloc - before.TotalAlloc}
	if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	counted(run)
}

// measure runs the child to its end.
func measure(test string) (m message, instructions int64, err error) {
	self, err := os.Executable()
	if err != nil {
		return m, 0, err
	}
	cmd := exec.Command(self, "-test.run=^"+test+"$", "-test.count=1") //nolint:noctx // ends by itself, or is killed below
	cmd.Env = append(os.Environ(), childEnv+"=1", "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return m, 0, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return m, 0, err
	}
	// Whoever traces has to do everything about it on one thread, also start it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return m, 0, fmt.Errorf("start what is to be measured: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &m)
	}
	if err != nil {
		return m, 0, fmt.Errorf("measure allocations: %w (%q)", err, line)
	}
	instructions, err = countSteps(cmd.Process.Pid, lines, in)
	return m, instructions, err
}
