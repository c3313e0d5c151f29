package costs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience bounds how long instructions are counted: each is two changes between processes, for which others may wait.
const (
	patience   = 10 * time.Second
	checkSteps = 1000
)

// mark is the signal by which the child says where counting begins and ends.
const mark = unix.SIGUSR1

// endsWithUs has the child killed when this thread ends.
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// counted tells the tracer on which thread it is, waits until it may go on, and runs between two marks. The runtime does not know
// of these system calls, so thread and P stay together.
func counted(run func()) {
	tell := func() {
		_, _, _ = unix.RawSyscall(unix.SYS_TGKILL, uintptr(os.Getpid()), uintptr(unix.Gettid()), uintptr(mark))
	}
	line := fmt.Appendf(nil, "%d\n", unix.Gettid())
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, 1, uintptr(unsafe.Pointer(&line[0])), uintptr(len(line)))
	if n, _, _ := unix.RawSyscall(unix.SYS_READ, 0, uintptr(unsafe.Pointer(&line[0])), 1); n != 1 {
		return // nobody counts
	}
	tell()
	run()
	tell()
}

// countSteps stops all threads of the process but one, and counts its instructions between the marks.
// at, if there is one, is told where each instruction lies.
func countSteps(pid int, said *bufio.Reader, begin io.Writer, at func(pc uintptr)) (n int64, err error) {
	line, err := said.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("learn which thread to count: %w", err)
	}
	tid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0, fmt.Errorf("learn which thread to count: %w", err)
	}
	t := tracer{pid: pid, counted: tid}
	defer t.kill()
	if err := t.stopOthers(); err != nil {
		return 0, err
	}
	if _, err := begin.Write([]byte{1}); err != nil {
		return 0, err
	}
	if err := awaitMark(tid); err != nil {
		return 0, err
	}
	for began := time.Now(); ; {
		if n%checkSteps == 0 && time.Since(began) > patience {
			return 0, fmt.Errorf("%w: the machine is too busy: %d steps took %s", errors.ErrUnsupported, n, patience)
		}
		if err := unix.PtraceSingleStep(tid); err != nil {
			return n, fmt.Errorf("step: %w", err)
		}
		status, err := await(tid)
		if err != nil {
			return n, fmt.Errorf("step: %w", err)
		}
		switch {
		case status.Stopped() && status.StopSignal() == unix.SIGTRAP:
			n++
			if at != nil {
				var regs syscall.PtraceRegs
				if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
					return n, fmt.Errorf("look where it is: %w", err)
				}
				at(uintptr(regs.PC()))
			}
		case status.Stopped() && status.StopSignal() == mark:
			return n, nil
		default:
			return n, fmt.Errorf("step: the process ended or was interrupted: %#x", status)
		}
	}
}

// tracer is whoever counts a process. All its calls come from one thread.
type tracer struct {
	pid, counted int
	others       []int
}

// stopOthers takes hold of all threads, and stops all but the one that is counted.
func (t *tracer) stopOthers() error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := unix.PtraceSeize(id); err != nil {
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
				return fmt.Errorf("%w: trace a child: %w", errors.ErrUnsupported, err)
			}
			return fmt.Errorf("trace a child: %w", err)
		}
		if id == t.counted {
			continue
		}
		t.others = append(t.others, id)
		if err := unix.PtraceInterrupt(id); err != nil {
			return fmt.Errorf("stop a thread: %w", err)
		}
		if _, err := await(id); err != nil {
			return fmt.Errorf("stop a thread: %w", err)
		}
	}
	return nil
}

// kill ends the process. A tracer is told of the end of each thread, and before that the process does not end.
func (t *tracer) kill() {
	_ = unix.Kill(t.pid, unix.SIGKILL)
	for _, id := range append(t.others, t.counted) {
		for id != t.pid {
			if status, err := await(id); err != nil || status.Exited() || status.Signaled() {
				break
			}
		}
	}
}

// await returns the next change of state of a thread that is traced.
func await(tid int) (status unix.WaitStatus, err error) {
	for {
		_, err = unix.Wait4(tid, &status, unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return status, err
		}
	}
}

func awaitMark(tid int) error {
	for {
		status, err := await(tid)
		if err != nil {
			return fmt.Errorf("wait for the first mark: %w", err)
		}
		if !status.Stopped() {
			return fmt.Errorf("wait for the first mark: the process ended: %#x", status)
		}
		if status.StopSignal() == mark {
			return nil
		}
		if err := unix.PtraceCont(tid, 0); err != nil {
			return err
		}
	}
}
