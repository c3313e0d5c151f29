package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuClock tells how much of the machine's CPU others took in a span of time: what was busy, less what we and our ended
// children used. A run that others took much from says little.
type cpuClock struct {
	at        time.Time
	busy, own time.Duration
}

func readCPUClock() (c cpuClock, err error) {
	c.at = time.Now()
	if c.busy, err = busyCPU(); err != nil {
		return c, err
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			return c, fmt.Errorf("read own CPU time: %w", err)
		}
		c.own += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return c, nil
}

// othersSince is the percentage of all cores. Processes of ours that run at either moment would be taken for others.
func (c cpuClock) othersSince(before cpuClock) float64 {
	others := (c.busy - before.busy) - (c.own - before.own)
	all := c.at.Sub(before.at) * time.Duration(runtime.NumCPU())
	return max(0, 100*others.Seconds()/all.Seconds())
}

// busyCPU sums up the first line of /proc/stat (proc(5)), in units of 10 ms, without idle and iowait. What a hypervisor
// took ("steal") is in it.
func busyCPU() (busy time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read CPU time of the machine: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0, fmt.Errorf("read CPU time of the machine: %q", line)
	}
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of the machine: %w", err)
		}
		if i != 3 && i != 4 { // idle, iowait
			busy += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return busy, nil
}
