package connectors

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/sink"
)

// fake is a connector whose runs end with the given errors, one after the other; the last one runs until it is stopped.
type fake struct {
	errs []error
	runs int
	at   []time.Time
}

func (f *fake) Run(ctx context.Context) error {
	f.runs++
	f.at = append(f.at, time.Now())
	if f.runs <= len(f.errs) {
		return f.errs[f.runs-1]
	}
	<-ctx.Done()
	return nil
}

func (f *fake) fill(*Status) {}

func runnerOf(t *testing.T, fakes ...*fake) *Runner {
	t.Helper()
	r := &Runner{log: slog.New(slog.DiscardHandler), cfg: &Config{Worker: Worker{
		DataDir: t.TempDir(), restartPause: time.Second, restartPauseMax: 8 * time.Second,
	}}}
	for _, f := range fakes {
		c := &Connector{Name: "c", Kind: KindSource}
		r.tasks = append(r.tasks, &task{cfg: c, now: f, make: func() (running, error) { return f, nil }, status: Status{Name: "c", Kind: KindSource}})
	}
	return r
}

func TestPassingTroubleStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("connection refused")
		f := &fake{errs: []error{down, down, down, down, down, down}}
		r := runnerOf(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
		if f.runs != 7 {
			t.Errorf("%d runs, want 7", f.runs)
		}
		pause := time.Second
		for i := 1; i < len(f.at); i++ {
			if d := f.at[i].Sub(f.at[i-1]); d < pause/2 || d > pause*3/2 {
				t.Errorf("pause %d: %s, want about %s", i, d, pause)
			}
			pause = min(2*pause, 8*time.Second)
		}
		if s := r.Status()[0]; s.Restarts != 6 || s.State != StateStopped || s.LastError != "connection refused" {
			t.Errorf("%+v", s)
		}
	})
}

func TestFinalErrorStopsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := &fake{}, &fake{errs: []error{errors.New("passing"), &sink.LostError{Topic: "x.changes"}}}
		err := runnerOf(t, good, bad).Run(t.Context())
		if CodeOf(err) != CodeLogLost || !strings.HasPrefix(err.Error(), "source c: ") {
			t.Errorf("%v", err)
		}
		if good.runs != 1 || bad.runs != 2 {
			t.Errorf("%d and %d runs", good.runs, bad.runs)
		}
	})
}

func TestWhatIsFinal(t *testing.T) {
	for _, err := range []error{&sink.ExistingKeysError{}, &sink.EvictionError{}, &sink.RefusedError{}, &sink.SweepError{}, &kafka.MismatchError{}} {
		if !isFinal(err) {
			t.Errorf("%T is not", err)
		}
	}
	for _, err := range []error{errors.New("x"), context.DeadlineExceeded, &CheckError{Code: CodeKafka}, &CheckError{Code: CodeRedisUnreachable}} {
		if isFinal(err) {
			t.Errorf("%v is", err)
		}
	}
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	unlock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir); CodeOf(err) != CodeConfig {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	unlock, err = LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
