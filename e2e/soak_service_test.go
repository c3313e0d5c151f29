package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/proc"
)

// Exit codes of a process that finds Redis or Kafka away when it starts: a supervisor starts it again.
const (
	exitRedisAway = 3
	exitKafkaAway = 6
)

const (
	supervisorPause = 500 * time.Millisecond
	stopWithin      = time.Minute
)

// service is a worker as a supervisor would keep it: one log and one folder over all its lives.
type service struct {
	name, data, config, log string
	// ended is told of an end that nobody asked for.
	ended func(*service, error)

	mu      sync.Mutex
	process *proc.Process // nil before the first start
	wanted  bool          // it is to run
	starts  int
	refused int // starts that found the servers away
	usage   usage
}

// usage is the largest of what a service has used in all its lives.
type usage struct {
	rss            int64
	threads, files int
}

// start starts it, and again when it ends for want of a server. Its own end is told otherwise.
func (v *service) start() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wanted = true
	return v.launch()
}

func (v *service) launch() error {
	binary, err := testkit.Binary()
	if err != nil {
		return err
	}
	p, err := proc.Start(proc.Config{Name: v.name, Path: binary, Args: []string{"run", "--config", v.config, "--no-progress"}, LogPath: v.log})
	if err != nil {
		return err
	}
	v.process = p
	v.starts++
	go v.watch(p) // ends with the process
	return nil
}

func (v *service) watch(p *proc.Process) {
	code := p.ExitCode()
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case !v.wanted || v.process != p:
	case code == exitRedisAway || code == exitKafkaAway:
		v.refused++
		time.AfterFunc(supervisorPause, func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			if v.wanted && v.process == p {
				if err := v.launch(); err != nil {
					v.ended(v, err)
				}
			}
		})
	default:
		v.ended(v, fmt.Errorf("%s ended by itself with exit code %d:\n%s", v.name, code, p.LogTail(20)))
	}
}

func (v *service) current(wanted bool) *proc.Process {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wanted = wanted
	return v.process
}

func (v *service) running() *proc.Process {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.process == nil || !v.process.Running() {
		return nil
	}
	return v.process
}

// kill ends it by SIGKILL; fine when it does not run.
func (v *service) kill() error {
	if p := v.current(false); p != nil {
		return p.Kill()
	}
	return nil
}

// stop ends it by SIGTERM; fine when it does not run.
func (v *service) stop() error {
	p := v.current(false)
	if p == nil || !p.Running() {
		return nil
	}
	if err := p.Stop(stopWithin); err != nil {
		return err
	}
	// One that was still looking for its servers may say that they are away.
	if code := p.ExitCode(); code != 0 && code != exitRedisAway && code != exitKafkaAway {
		return fmt.Errorf("%s ended with exit code %d after SIGTERM:\n%s", v.name, code, p.LogTail(20))
	}
	return nil
}

// freeze stops it by SIGSTOP for a time; one that has ended meanwhile, or not begun, is fine.
func (v *service) freeze(ctx context.Context, d time.Duration) error {
	p := v.running()
	if p == nil {
		return nil
	}
	err := errors.Join(p.Signal(syscall.SIGSTOP), pauseFor(ctx, d), p.Signal(syscall.SIGCONT))
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// mayEnd: from here on another worker has its connector.
func (v *service) mayEnd() { v.current(false) }

// sample takes the usage now.
func (v *service) sample() (now usage) {
	p := v.running()
	if p == nil {
		return usage{}
	}
	u := p.Usage()
	now = usage{u.RSSBytes, u.Threads, p.OpenFiles()}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.usage.rss = max(v.usage.rss, u.PeakRSSBytes)
	v.usage.threads = max(v.usage.threads, now.threads)
	v.usage.files = max(v.usage.files, now.files)
	return now
}

func (v *service) largest() usage {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.usage
}
