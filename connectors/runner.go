package connectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/source"
)

// Runner runs the connectors of a configuration.
type Runner struct {
	cfg   *Config
	log   *slog.Logger
	tasks []*task

	instances instances
}

// task is one connector. Its supervisor alone starts and ends what it runs.
type task struct {
	cfg *Connector
	// make makes what runs; each start takes a new one.
	make func() (running, error)

	mu     sync.Mutex
	now    running // the present or last one
	status Status  // without what running tells
}

// running is a source or a sink.
type running interface {
	Run(ctx context.Context) error
	fill(s *Status)
}

type runningSource struct{ *source.Source }

func (r runningSource) fill(s *Status) { s.Shards = r.Status() }

type runningSink struct{ *sink.Sink }

func (r runningSink) fill(s *Status) { s.Sink = r.Status() }

// State of a connector.
type State string

// The states.
const (
	StateStarting State = "starting"
	StateRunning  State = "running"
	// StateRestarting: it has failed, and is started again after a pause.
	StateRestarting State = "restarting"
	StateFailed     State = "failed"
	StateStopped    State = "stopped"
)

// Status of a connector at one moment.
type Status struct {
	Name, Kind string
	State      State
	// Restarts since the start of the process.
	Restarts int
	// LastError is why it was restarted or has failed; the shards and partitions have their own.
	LastError string
	// Shards of a source.
	Shards []source.Snapshot
	// Sink is that of a sink.
	Sink sink.Status
}

// New assembles all connectors. It dials nothing. What the packages below find wrong is a [ConfigError].
func New(cfg *Config, log *slog.Logger) (*Runner, error) {
	r := &Runner{cfg: cfg, log: log}
	var fs faults
	for i := range cfg.Connectors {
		c := &cfg.Connectors[i]
		t := &task{cfg: c, status: Status{Name: c.Name, Kind: c.Kind, State: StateStarting}}
		t.make = func() (running, error) { return r.assemble(c) }
		now, err := t.make()
		if err != nil {
			fs.add(Fault{Section: "connector " + c.Name, What: err.Error()})
			continue
		}
		t.now = now
		r.tasks = append(r.tasks, t)
	}
	return r, fs.err("")
}

func (r *Runner) assemble(c *Connector) (running, error) {
	switch c.Kind {
	case KindSource:
		s, err := source.New(r.cfg.sourceConfig(c), r.log.With(slog.String("connector", c.Name)))
		return runningSource{s}, err
	case KindSink:
		cfg := r.cfg.sinkConfig(c)
		cfg.Instance = r.instances.of(r.cfg.Worker.DataDir, c.Name)
		s, err := sink.New(cfg, r.log.With(slog.String("connector", c.Name)))
		return runningSink{s}, err
	}
	return nil, fmt.Errorf("no connectors of type %q", c.Kind)
}

// Run runs all connectors until ctx ends, which is no error, or one fails for good: then the others are stopped too, and
// its error is returned. It must be called once.
func (r *Runner) Run(ctx context.Context) error {
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	g, running := errgroup.WithContext(ctx)
	for _, t := range r.tasks {
		g.Go(func() error { return r.supervise(running, t) }) // ends with running, or by its connector's failure
	}
	stopReport := make(chan struct{})
	var report sync.WaitGroup
	report.Go(func() { r.report(stopReport) }) // ends when all connectors have
	err = g.Wait()
	close(stopReport)
	report.Wait()
	return err
}

// Status of all connectors, in the order of their names.
func (r *Runner) Status() []Status {
	out := make([]Status, 0, len(r.tasks))
	for _, t := range r.tasks {
		t.mu.Lock()
		s, now := t.status, t.now
		t.mu.Unlock()
		now.fill(&s)
		out = append(out, s)
	}
	return out
}

func (t *task) set(s State, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status.State = s
	if err != nil {
		t.status.LastError = err.Error()
	}
}

// settled is how long a connector has to run for its next failure to count as the first.
const settled = time.Minute

// supervise keeps one connector running. Its error is final.
func (r *Runner) supervise(ctx context.Context, t *task) error {
	log := r.log.With(slog.String("connector", t.cfg.Name))
	if t.cfg.Kind == KindSink && !r.awaitSource(ctx, t) {
		t.set(StateStopped, nil)
		return nil
	}
	pause := r.cfg.Worker.restartPause
	for {
		t.set(StateRunning, nil)
		started := time.Now()
		err := t.now.Run(ctx)
		switch {
		case ctx.Err() != nil:
			if err != nil && !errors.Is(err, context.Canceled) {
				log.Warn("connector stopped with an error", slog.Any("err", err))
			}
			t.set(StateStopped, nil)
			return nil
		case err == nil:
			err = errors.New("it ended by itself")
		}
		if isFinal(err) {
			t.set(StateFailed, err)
			return fmt.Errorf("%s %s: %w", t.cfg.Kind, t.cfg.Name, err)
		}
		t.set(StateRestarting, err)
		if time.Since(started) > settled {
			pause = r.cfg.Worker.restartPause
		}
		wait := pause/2 + rand.N(pause)
		log.Warn("connector failed, starting it again", slog.Any("err", err), slog.Duration("in", wait.Round(time.Millisecond)))
		select {
		case <-ctx.Done():
			t.set(StateStopped, nil)
			return nil
		case <-time.After(wait):
		}
		pause = min(2*pause, r.cfg.Worker.restartPauseMax)
		next, err := t.make()
		if err != nil { // it was made of the same configuration before
			return fmt.Errorf("%s %s: %w", t.cfg.Kind, t.cfg.Name, err)
		}
		t.mu.Lock()
		t.now = next
		t.status.Restarts++
		t.mu.Unlock()
	}
}

const (
	sourcePoll = 50 * time.Millisecond
	// sourceWait is long enough for a source to make its topics. A sink that starts without them waits for them too, and
	// warns.
	sourceWait = 15 * time.Second
)

// awaitSource waits for the topics, where a source in this process makes them. It returns false when ctx is done.
func (r *Runner) awaitSource(ctx context.Context, t *task) bool {
	deadline := time.Now().Add(sourceWait)
	for time.Now().Before(deadline) {
		ready := true
		for _, s := range r.Status() {
			c := r.taskOf(s.Name).cfg
			if c.Kind == KindSource && c.Prefix() == t.cfg.Prefix() && len(s.Shards) == 0 && s.State != StateRestarting {
				ready = false
			}
		}
		if ready {
			break
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(sourcePoll):
		}
	}
	return ctx.Err() == nil
}

func (r *Runner) taskOf(name string) *task {
	for _, t := range r.tasks {
		if t.cfg.Name == name {
			return t
		}
	}
	return nil
}

// lagOf is how much a sink has before it, and how many of its partitions are at work.
func lagOf(s sink.Status) (lag int64, running, all int) {
	for _, p := range s.Partitions {
		all++
		switch p.State {
		case sink.StateRunning, sink.StateSweeping:
			running++
		default:
		}
	}
	return s.Lag, running, cmp.Or(all, 1)
}
