//go:build unix && !linux

package proc

import (
	"errors"
	"syscall"
)

// Without a parent-death signal a process outlives us if we are killed.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func readUsage(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }

func countFiles(int) int { return 0 }
