package main

import (
	"syscall"
	"time"
)

// shortPause sleeps for less than a millisecond. Timers of Go wake up by epoll_wait, which counts milliseconds when
// nothing else runs.
func shortPause(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // a signal ends it early: no harm
}
