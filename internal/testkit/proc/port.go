package proc

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Ports handed out lie in [firstPort, lastPort]. Both they and their cluster buses stay below 32768, where the kernel
// starts to pick ports of outgoing connections by default, and the two ranges do not overlap.
const (
	firstPort     = 11000
	lastPort      = 20999
	busPortOffset = 10000 // cluster bus of a Redis node: its port + 10000
)

// ports is what this process has handed out. Across processes a port is claimed by a lock on the byte of that number
// in one file that all of a user share; the kernel frees the locks of a process that ends. The lock is of the process,
// not of the descriptor, hence the map; the file stays open because closing it would drop them all.
var ports struct {
	sync.Mutex
	file  *os.File
	taken map[int]bool
	next  int
}

// FreePort returns a port on 127.0.0.1 that is free, as is the one 10000 above it; see FreePorts.
func FreePort() (int, error) {
	free, err := FreePorts(1)
	if err != nil {
		return 0, err
	}
	return free[0], nil
}

// FreePorts returns n ports on 127.0.0.1, each free and with the port 10000 above it free. They belong to this process
// until it ends: they are handed out neither twice here nor by another process that uses this package.
func FreePorts(n int) ([]int, error) {
	ports.Lock()
	defer ports.Unlock()
	if err := openPorts(); err != nil {
		return nil, err
	}
	free := make([]int, 0, n)
	for range lastPort - firstPort + 1 {
		if len(free) == n {
			break
		}
		port := ports.next
		ports.next++
		if ports.next > lastPort {
			ports.next = firstPort
		}
		ok, err := claimPort(port)
		if err != nil {
			return nil, fmt.Errorf("find free port: %w", err)
		}
		if ok {
			free = append(free, port)
		}
	}
	if len(free) < n {
		return nil, fmt.Errorf("find %d free ports between %d and %d: only %d left", n, firstPort, lastPort, len(free))
	}
	return free, nil
}

func openPorts() error {
	if ports.file != nil {
		return nil
	}
	path := filepath.Join(os.TempDir(), "redriver-ports-"+strconv.Itoa(os.Getuid()))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("find free port: %w", err)
	}
	ports.file, ports.taken = file, map[int]bool{}
	// parallel processes start far from each other, so that they seldom meet at a lock
	ports.next = firstPort + rand.IntN(lastPort-firstPort+1)
	return nil
}

// claimPort tells whether the port is ours now. One that is in use keeps its lock: it will hardly become free.
func claimPort(port int) (bool, error) {
	if ports.taken[port] {
		return false, nil
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: int64(port), Len: 1}
	err := syscall.FcntlFlock(ports.file.Fd(), syscall.F_SETLK, &lock)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ports.taken[port] = true
	return canListen(port) && canListen(port+busPortOffset), nil
}

// canListen holds off children that are being started: one that is forked in between has the listener, too, until it runs its
// program, and whoever is given the port meets it.
func canListen(port int) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // at once
	if err != nil {
		return false
	}
	return l.Close() == nil
}
