//go:build !linux

package main

import "time"

// shortPause sleeps, not so exactly as on Linux.
func shortPause(d time.Duration) { time.Sleep(d) }
