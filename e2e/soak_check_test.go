package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/verify"
)

const (
	// memoryBound of a process, whatever it carries.
	memoryBound = 256 << 20
	// fileSlack is by how much a quiet process may have more files open than it had at an earlier checkpoint: nodes come
	// and go at the target.
	fileSlack = 40
	// quietDisk is what a quiet worker may keep.
	quietDisk = 64 << 20
	// catchUp is how long it may take to get over what the last faults left.
	catchUp    = 3 * time.Minute
	watchEvery = 2 * time.Second
)

// soakWatch is what is watched all along.
type soakWatch struct {
	lag   int64
	files map[string]int // the least of each service at a checkpoint
}

// watchAll samples until ctx is done.
func (s *soak) watchAll(ctx context.Context) {
	for pauseFor(ctx, watchEvery) == nil {
		for _, v := range s.services() {
			v.sample()
		}
		if lag, err := s.lag(ctx); err == nil {
			s.mu.Lock()
			s.watch.lag = max(s.watch.lag, lag)
			s.mu.Unlock()
		}
	}
}

func (s *soak) lag(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	group := "redriver-" + s.connector("to")
	lags, err := s.adm.Lag(ctx, group)
	if err != nil {
		return 0, err
	}
	of := lags[group]
	return of.Lag.Total(), of.Error()
}

// checkpoint holds the target to everything, with the load and the faults over.
func (s *soak) checkpoint(ctx context.Context, l *soakLoad) error {
	begin := time.Now()
	if err := s.takesWrites(ctx); err != nil {
		return err
	}
	s.target.Client().ReloadState(ctx)
	for range 2 { // the first may be in a snapshot, which has no order
		mark := s.w.Name("mark")
		s.follower.lookFor(mark)
		if err := s.tryMark(ctx, s.target.Client(), partitions, catchUp, mark); err != nil {
			return err
		}
	}
	arrived := time.Since(begin)
	if err := testkit.Poll(ctx, patience, s.follower.found); err != nil {
		return err
	}
	snapshots := s.said(s.from[:], saysFull)
	errs := []error{l.violations(ctx, s.source.Client(), s.target.Client(), snapshots > s.snapshots)}
	s.snapshots = snapshots
	result, err := verify.Compare(ctx, verify.At(s.source.Addrs()...), verify.At(s.target.Addrs()...), verify.Options{Rounds: 3, ExpiryHold: hold, TTLTolerance: migrateTakes})
	// A replica is told of no consumer that asked its master in vain, so one that takes over does not have it.
	if n := result.Counts[verify.Consumer]; n > 0 && s.said(s.from[:], saysRenamed) > 0 {
		s.say("%d consumers with nothing pending were lost by the source's failovers", n)
		delete(result.Counts, verify.Consumer)
	}
	if errs = append(errs, err); err == nil && !result.Identical() {
		errs = append(errs, fmt.Errorf("not identical:\n%s", result.String()))
	}
	errs = append(errs, s.nothingLeft(ctx), s.withinBounds())
	s.checkpoints++
	records, generations := s.follower.told()
	s.say("checkpoint %d: %d keys, %d numbers, %d commands, %d records, %d generations; arrived after %.1fs, took %.1fs",
		s.checkpoints, result.Keys, l.history.Stats().Acked, s.commands, records, generations, arrived.Seconds(), time.Since(begin).Seconds())
	return errors.Join(errs...)
}

// nothingLeft looks for staging keys at the target.
func (s *soak) nothingLeft(ctx context.Context) error {
	masters, err := s.target.CurrentMasters(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range masters {
		keys := m.Client().Scan(ctx, 0, "redriver!s!*", 10_000).Iterator()
		for keys.Next(ctx) {
			if own.Is([]byte(keys.Val())) {
				errs = append(errs, fmt.Errorf("%s is left at the target", keys.Val()))
			}
		}
		errs = append(errs, keys.Err())
	}
	return errors.Join(errs...)
}

// withinBounds judges what the workers use now that they are quiet.
func (s *soak) withinBounds() error {
	var errs []error
	if s.watch.files == nil {
		s.watch.files = map[string]int{}
	}
	for _, v := range s.services() {
		now := v.sample()
		if least, ok := s.watch.files[v.name]; now.files > 0 && (!ok || now.files < least) {
			s.watch.files[v.name] = now.files
		}
		if least := s.watch.files[v.name]; now.files > least+fileSlack {
			errs = append(errs, fmt.Errorf("%s has %d files open, and had %d at an earlier checkpoint", v.name, now.files, least))
		}
		if rss := v.largest().rss; rss > memoryBound {
			errs = append(errs, fmt.Errorf("%s had %d MB in memory", v.name, rss>>20))
		}
		size, err := diskOf(v.data)
		if errs = append(errs, err); size > quietDisk {
			errs = append(errs, fmt.Errorf("%s has %d MB on disk, and nothing to do", v.name, size>>20))
		}
		if now.files > 0 {
			s.say("  %s: %d MB, %d threads, %d files, %d KB on disk", v.name, now.rss>>20, now.threads, now.files, size>>10)
		}
	}
	return errors.Join(errs...)
}

func diskOf(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // it has not run, or removes files as we look
				return nil
			}
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size, err
}

// ending: all of ours stop in good order, and nothing asked for a person.
func (s *soak) ending() error {
	var errs []error
	for _, v := range s.services() {
		errs = append(errs, v.stop())
	}
	for _, asks := range []string{"resynchronising has no end", "DATA RACE", "panic:"} {
		if n := s.said(s.services(), asks); n > 0 {
			errs = append(errs, fmt.Errorf("the logs say %q %d times", asks, n))
		}
	}
	return errors.Join(errs...)
}

// migrateTakes bounds by how much the target itself makes an expiry time later when a slot moves: MIGRATE sends what is left
// of the time to live, and the key arrives with that.
const migrateTakes = 10 * time.Second
