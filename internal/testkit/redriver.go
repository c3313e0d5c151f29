package testkit

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/tools"
)

const dumpTimeout = 5 * time.Second

// Redriver is a process of the project's own binary. Embedded: Kill, Signal, Wait, Usage, LogTail and so on.
type Redriver struct {
	*proc.Process

	w    *World
	args []string
}

// Redriver starts the binary with arguments and returns at once; wait for its work with Eventually. It is killed at the
// end of the test. The last lines of its log are part of a failed test's output.
func (w *World) Redriver(args ...string) *Redriver {
	w.tb.Helper()
	return w.RedriverWith(proc.Config{Args: args})
}

// RedriverOnDisk is Redriver with a disk of its own in place of a folder: of that many bytes, seen by the process alone, and
// empty. Linux has to allow user namespaces for it.
func (w *World) RedriverOnDisk(folder string, bytes int64, args ...string) *Redriver {
	w.tb.Helper()
	binary, err := Binary()
	if err != nil {
		w.tb.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		w.tb.Fatal(err)
	}
	const script = `mount -t tmpfs -o size="$0" none "$1" && shift && exec "$@"`
	args = append([]string{"--user", "--map-root-user", "--mount", "sh", "-c", script, strconv.FormatInt(bytes, 10), folder, binary}, args...)
	return w.RedriverWith(proc.Config{Name: "redriver", Path: "unshare", Args: args})
}

// RedriverWith is Redriver with environment, working directory or the like. Path is the binary's by default.
func (w *World) RedriverWith(cfg proc.Config) *Redriver {
	w.tb.Helper()
	binary, err := Binary()
	if err != nil {
		w.tb.Fatal(err)
	}
	if cfg.Path == "" {
		cfg.Path = binary
	}
	if cfg.LogPath == "" {
		cfg.LogPath = w.newDir("redriver") + ".log"
	}
	p, err := proc.Start(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	r := &Redriver{Process: p, w: w, args: cfg.Args}
	w.tb.Cleanup(func() {
		tail := p.LogTail(40)
		if w.tb.Failed() {
			r.tellGoroutines()
		}
		if err := p.Kill(); err != nil {
			w.tb.Errorf("kill redriver: %v", err)
		}
		log, _ := os.ReadFile(p.LogPath())
		if strings.Contains(string(log), "WARNING: DATA RACE") {
			w.tb.Errorf("redriver %s: data race", strings.Join(cfg.Args, " "))
		}
		if w.tb.Failed() {
			w.tb.Logf("redriver %s: end of %s:\n%s", strings.Join(cfg.Args, " "), p.LogPath(), tail)
		}
	})
	return r
}

// tellGoroutines ends a process that runs, with what each of its goroutines does at the end of its log.
func (r *Redriver) tellGoroutines() {
	if !r.Running() || r.Signal(syscall.SIGQUIT) != nil {
		return
	}
	select {
	case <-r.Done():
	case <-time.After(dumpTimeout): // stopped, say
	}
}

// Log returns all its output so far.
func (r *Redriver) Log() string {
	text, err := os.ReadFile(r.LogPath())
	if err != nil {
		return ""
	}
	return string(text)
}

// Stop asks it to end (SIGTERM) and fails the test if it does not, or not with exit code 0.
func (r *Redriver) Stop() {
	r.w.tb.Helper()
	if err := r.Process.Stop(stopTimeout); err != nil {
		r.w.tb.Fatal(err)
	}
	if err := r.Wait(); err != nil {
		r.w.tb.Fatalf("redriver %s: %v\n%s", strings.Join(r.args, " "), err, r.LogTail(40))
	}
}

// Binary returns the path of the project's binary, built at most once per test binary: $REDRIVER_BIN if set, else it is
// built from the sources, with the race detector if RACE is set.
func Binary() (string, error) {
	if path := os.Getenv("REDRIVER_BIN"); path != "" {
		return filepath.Abs(path)
	}
	return builtBinary()
}

var builtBinary = sync.OnceValues(buildBinary)

func buildBinary() (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	cache, err := tools.CacheDir()
	if err != nil {
		return "", err
	}
	// one place per checkout, so that go build has nothing to do when nothing changed
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(root))
	dir := filepath.Join(cache, "build", fmt.Sprintf("%016x", sum.Sum64()))
	args := []string{"build"}
	output := filepath.Join(dir, "redriver")
	if os.Getenv("RACE") != "" {
		output += "-race"
		args = append(args, "-race")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build redriver: %w", err)
	}
	// Test binaries of several packages run at once. The linker writes to the output path itself, so a reader of the
	// file between two of them could see half of it.
	unlock, err := lockFile(output + ".lock")
	if err != nil {
		return "", fmt.Errorf("build redriver: %w", err)
	}
	defer unlock()
	//nolint:forbidigo // no test's context: the binary is for all tests
	cmd := exec.CommandContext(context.Background(), "go", append(args, "-o", output, "./cmd/redriver")...)
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build redriver: %w\n%s", err, text)
	}
	return output, nil
}

func lockFile(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// ModuleRoot returns the folder of the project's go.mod, at or above the working directory.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module root: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find module root: no go.mod above the working directory")
		}
		dir = parent
	}
}
