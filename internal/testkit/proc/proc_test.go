package proc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit/proc"
)

// TestMain lets the test binary stand in for a parent that is killed: it starts a process and prints its id.
func TestMain(m *testing.M) {
	if log := os.Getenv("PROC_TEST_PARENT"); log != "" {
		p, err := proc.Start(proc.Config{Path: "sleep", Args: []string{"100"}, LogPath: log})
		if err != nil {
			panic(err)
		}
		if err := proc.RemoveAtExit(filepath.Dir(log)); err != nil {
			panic(err)
		}
		port, err := proc.FreePort()
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(strconv.Itoa(p.PID()) + " " + strconv.Itoa(port) + "\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestStartWaitLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "made", "log")
	p, err := proc.Start(proc.Config{
		Path: "sh", Args: []string{"-c", "cat; echo $WORD >&2; exit 3"},
		Env: []string{"WORD=hello"}, Stdin: strings.NewReader("in\n"), LogPath: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	if code := p.ExitCode(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if p.Wait() == nil {
		t.Error("exit code 3 is no error")
	}
	if got := p.LogTail(9); got != "in\nhello" {
		t.Errorf("log %q", got)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("kill after the end: %v", err)
	}
	if err := p.Stop(time.Second); err != nil {
		t.Errorf("stop after the end: %v", err)
	}
}

func TestStopKillsAfterTimeout(t *testing.T) {
	p, err := proc.Start(proc.Config{
		Path: "sh", Args: []string{"-c", "trap '' TERM; echo on; while :; do sleep 0.01; done"},
		LogPath: filepath.Join(t.TempDir(), "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return p.LogTail(1) == "on" })
	if err := p.Stop(50 * time.Millisecond); err == nil {
		t.Error("no error from a process that ignores SIGTERM")
	}
	if p.Running() {
		t.Error("still running")
	}
}

func TestUsage(t *testing.T) {
	// 60 MB held by dd's buffer, and CPU burnt
	p, err := proc.Start(proc.Config{Path: "sh", Args: []string{"-c", "exec dd if=/dev/zero of=/dev/null bs=60M count=100000"}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { u := p.Usage(); return u.PeakRSSBytes > 50<<20 && u.CPU > 0 && u.RSSBytes > 50<<20 })
	before := p.Usage()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	after := p.Usage()
	if after.CPU < before.CPU || after.PeakRSSBytes < before.PeakRSSBytes || after.RSSBytes != 0 {
		t.Errorf("usage %+v after the end, %+v before", after, before)
	}
}

func TestChildrenDieWithKilledParent(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "shared")
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), "PROC_TEST_PARENT="+filepath.Join(shared, "log"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(line[:n]))
	child, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the other process holds its port although nothing listens there
		free, err := proc.FreePorts(100)
		if err != nil {
			t.Fatal(err)
		}
		for _, port := range free {
			if strconv.Itoa(port) == words[1] {
				t.Errorf("port %d handed out twice", port)
			}
		}
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	eventually(t, func() bool {
		_, err := os.Stat(shared)
		return syscall.Kill(child, 0) == syscall.ESRCH && os.IsNotExist(err)
	})
}

func TestFreePortsDiffer(t *testing.T) {
	seen := map[int]bool{}
	for range 20 {
		free, err := proc.FreePorts(6)
		if err != nil {
			t.Fatal(err)
		}
		for _, port := range free {
			if seen[port] {
				t.Fatalf("port %d twice", port)
			}
			seen[port] = true
		}
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("not so after 10 s")
}
