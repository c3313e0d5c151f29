package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// sampleInterval bounds what a crash hides: peak memory is gone with the process, so it is read this often while it runs.
const sampleInterval = 250 * time.Millisecond

// Config says what to run.
type Config struct {
	Name string   // for errors; default: the base name of Path
	Path string   // the executable, looked up on the PATH if it holds no slash
	Args []string // without the executable's own name
	Dir  string   // working directory; default: ours
	Env  []string // added to our own environment; later ones win

	// LogPath is the file that standard output and error are appended to; its folder is made. Default: discarded.
	LogPath string
	// Stdin is fed to the process; default: empty.
	Stdin io.Reader
}

// Process is a started process. Its methods may be called from any goroutine, also after it has ended.
type Process struct {
	name    string
	logPath string
	cmd     *exec.Cmd

	done chan struct{} // closed when the process has ended and err, final are set
	err  error

	mu   sync.Mutex
	last Usage
}

// Start starts a process.
func Start(cfg Config) (*Process, error) {
	if cfg.Name == "" {
		cfg.Name = filepath.Base(cfg.Path)
	}
	cmd := exec.Command(cfg.Path, cfg.Args...) //nolint:noctx // lives until Kill or Stop, not until a context ends
	cmd.Dir, cmd.Stdin = cfg.Dir, cfg.Stdin
	cmd.Env = append(os.Environ(), cfg.Env...)
	cmd.SysProcAttr = sysProcAttr()
	if cfg.LogPath != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.LogPath), 0o755); err != nil {
			return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
		}
		log, err := os.OpenFile(cfg.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
		}
		defer log.Close() // the process has its own descriptor
		cmd.Stdout, cmd.Stderr = log, log
	}
	if err := <-onParentThread(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
	}
	p := &Process{name: cfg.Name, logPath: cfg.LogPath, cmd: cmd, done: make(chan struct{})}
	go p.reap()   // ends with the process
	go p.sample() // ends with the process
	return p, nil
}

type parentJob struct {
	run    func() error
	result chan error
}

// parentThread is the one thread that starts processes. The kernel sends the parent-death signal when the *thread* that
// forked ends, and Go ends the thread of a goroutine that exits while locked to it; so all forks go through a thread
// that never ends. Its goroutine is alive as long as we are (goleak: ignore proc.runParentThread).
var parentThread = sync.OnceValue(func() chan<- parentJob {
	jobs := make(chan parentJob)
	go runParentThread(jobs)
	return jobs
})

func runParentThread(jobs <-chan parentJob) {
	runtime.LockOSThread()
	for job := range jobs {
		job.result <- job.run()
	}
}

func onParentThread(run func() error) <-chan error {
	result := make(chan error, 1)
	parentThread() <- parentJob{run, result}
	return result
}

func (p *Process) reap() {
	p.err = p.cmd.Wait()
	p.mu.Lock()
	p.last.CPU = p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	p.last.RSSBytes = 0
	p.mu.Unlock()
	close(p.done)
}

func (p *Process) sample() {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		p.Usage()
		select {
		case <-p.done:
			return
		case <-ticker.C:
		}
	}
}

// PID returns the process id; it is also the id of its process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// LogPath returns the file its output goes to.
func (p *Process) LogPath() string { return p.logPath }

// Running tells whether the process has not ended yet. One that is stopped by SIGSTOP is running.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end and returns nil for exit code 0, else an *exec.ExitError.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// ExitCode waits for the end and returns the exit code, -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends sig to the process alone, not to its children.
func (p *Process) Signal(sig syscall.Signal) error {
	p.Usage()
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// Kill ends the process and its children as a crash would (SIGKILL) and waits until it is gone; fine when it has ended.
func (p *Process) Kill() error {
	p.Usage()
	if p.Running() {
		if err := syscall.Kill(-p.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %s: %w", p.name, err)
		}
	}
	<-p.done
	return nil
}

// Stop asks the process to end (SIGTERM) and waits. After the timeout it is killed, which is an error. An exit code
// other than 0 is not: see Wait.
func (p *Process) Stop(timeout time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(timeout):
	}
	return errors.Join(fmt.Errorf("stop %s: still running after %v", p.name, timeout), p.Kill())
}

// LogTail returns the last lines of the log, for errors; at most 16 KiB.
func (p *Process) LogTail(lines int) string {
	log, err := os.Open(p.logPath)
	if err != nil {
		return ""
	}
	defer log.Close()
	if size, err := log.Seek(0, io.SeekEnd); err == nil {
		_, _ = log.Seek(max(0, size-16<<10), io.SeekStart)
	}
	text, _ := io.ReadAll(log)
	all := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// RemoveAtExit removes the folders when our process has ended, however that happens, SIGKILL included. It is for what is
// shared by all tests of a binary, which has no last cleanup.
func RemoveAtExit(dirs ...string) error {
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) || strings.Count(filepath.Clean(dir), "/") < 2 {
			return fmt.Errorf("remove at exit: %q is not a folder deep enough", dir)
		}
	}
	// It waits for the end of its input, whose other side only we hold. Servers that write there die at the same
	// moment, so the first attempt may meet new files. A group of its own: the terminal's Ctrl-C is not for it.
	script := `cat >/dev/null; for i in 1 2 3 4 5; do rm -rf -- "$@" 2>/dev/null && exit; sleep 0.2; done`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, dirs...)...) //nolint:noctx // outlives us
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := cmd.StdinPipe(); err != nil {
		return fmt.Errorf("remove at exit: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("remove at exit: %w", err)
	}
	keepReaper(cmd)
	return nil
}

// reapers holds on to the pipes of RemoveAtExit: a pipe that is garbage collected is closed.
var reapers struct {
	sync.Mutex
	cmds []*exec.Cmd
}

func keepReaper(cmd *exec.Cmd) {
	reapers.Lock()
	defer reapers.Unlock()
	reapers.cmds = append(reapers.cmds, cmd)
}
