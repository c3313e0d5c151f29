package proc_test

import (
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"github.com/redriver/redriver/internal/testkit/proc"
)

// What FreePorts has found free is free, also while other goroutines start processes, which have all that is open for a moment.
func TestPortsStayFreeWhileProcessesStart(t *testing.T) {
	var wait sync.WaitGroup
	defer wait.Wait()
	ended := make(chan struct{})
	defer close(ended)
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					_ = exec.CommandContext(t.Context(), "true").Run()
				}
			}
		})
	}
	for range 300 {
		port, err := proc.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
