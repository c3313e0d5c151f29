package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/redriver/redriver/internal/load"
)

const (
	checkpointEvery = 3 * time.Minute
	// overlapping is one of so many faults that meets a second one, at another place.
	overlapping = 3
	// shortSeed is that of the short form: it takes the same faults each time.
	shortSeed = 52
)

// soak is a pipeline that meets one fault after the other.
type soak struct {
	*soakWorld
	seed           uint64
	fromNow, toNow int // which of the workers is at work
	follower       follower
	watch          soakWatch

	mu     sync.Mutex
	done   []faultDone
	failed func(error)
	begun  time.Time

	commands    int64
	large       int
	pairs       int64 // that a sampler read at the target
	snapshots   int   // at the last checkpoint
	checkpoints int
}

type faultDone struct {
	soakFault
	at   time.Time
	took time.Duration
	err  error
}

// Source, brokers, target and Redriver itself meet all the faults of the table in random order, some of them two at once,
// under load. At each checkpoint both sides are identical, every number is there once and in order, and the log has no hole.
// SOAK is how long it lasts, SOAK_SEED repeats the order of the faults. Without SOAK it is a short one.
//
// Fault (all): failovers, kills, stops, cuts, slow and silent connections at source, brokers, target and Redriver's own
// processes, in random order and two at a time. Nothing is lost or repeated, no process ends by itself, and memory, files
// and disk stay within bounds.
func TestSoak(t *testing.T) {
	t.Parallel()
	long, seed := soakSettings(t)
	t.Logf("SOAK_SEED=%d", seed)
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	s := &soak{seed: seed}
	s.failed = func(err error) { fail(err) }
	brokerN := 3
	if long == 0 {
		brokerN = 1 // three are expensive to start
	}
	s.soakWorld = newSoakWorld(t, brokerN, func(_ *service, err error) { fail(err) })
	s.begun = time.Now()
	if err := s.run(ctx, long); err != nil {
		t.Error(cmp.Or(context.Cause(ctx), err))
		s.autopsy()
	}
	s.report()
}

func soakSettings(t *testing.T) (long time.Duration, seed uint64) {
	t.Helper()
	seed = shortSeed
	var err error
	if text := os.Getenv("SOAK"); text != "" {
		seed = rand.Uint64()
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("SOAK_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return long, seed
}

func (s *soak) run(ctx context.Context, long time.Duration) error {
	keys := 5000
	if long > 0 {
		keys = 40_000 // a snapshot takes its time, in which other things happen
	}
	if err := load.Fill(ctx, s.source.Client(), load.FillConfig{Keys: keys, Seed: s.seed, TTLShare: 0.1}); err != nil {
		return err
	}
	if err := errors.Join(s.from[0].start(), s.to[0].start()); err != nil {
		return err
	}
	if err := s.tryMark(ctx, s.target.Client(), partitions, patience, s.w.Name("mark")); err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	background.Go(func() {
		if err := s.follower.run(ctx, s.kafka, s.prefix+".changes"); err != nil {
			s.failed(err)
		}
	})
	background.Go(func() { s.watchAll(ctx) })

	r := rand.New(rand.NewPCG(s.seed, 0x50a4))
	var l *soakLoad
	var err error
	for round := 0; round == 0 || time.Since(s.begun) < long; round++ {
		if l, err = s.begin(ctx, round, l); err != nil {
			return err
		}
		err = s.round(ctx, r, long)
		if err == nil {
			err = s.ready(ctx)
		}
		l.end()
		s.commands += l.commands()
		s.large += l.large
		s.pairs += l.history.Stats().Samples
		if err == nil {
			err = s.checkpoint(ctx, l)
		}
		if err != nil {
			return err
		}
	}
	return s.ending()
}

// round is the faults up to the next checkpoint. A short one has a fault at each place.
func (s *soak) round(ctx context.Context, r *rand.Rand, long time.Duration) error {
	begin := time.Now()
	var places []string // that had theirs, if it is short
	for {
		if long == 0 && len(places) == placeN || long > 0 && (time.Since(begin) > checkpointEvery || time.Since(s.begun) > long) {
			return nil
		}
		all := []soakFault{pick(r, places...)}
		if long == 0 {
			places = append(places, all[0].at)
		} else if r.IntN(overlapping) == 0 {
			all = append(all, pick(r, all[0].at))
		}
		if err := s.trouble(ctx, r, all); err != nil {
			return err
		}
		if err := pauseFor(ctx, between(r, time.Second, 6*time.Second)); err != nil {
			return err
		}
	}
}

// trouble is one fault, or two at once. What they do is drawn before either begins.
func (s *soak) trouble(ctx context.Context, r *rand.Rand, all []soakFault) error {
	later := between(r, 0, 4*time.Second)
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, f := range all {
		own := rand.New(rand.NewPCG(r.Uint64(), 0))
		wg.Go(func() { // ends when what was broken is whole again
			if i > 0 && pauseFor(ctx, later) != nil {
				return
			}
			errs[i] = s.meet(ctx, f, own)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *soak) meet(ctx context.Context, f soakFault, r *rand.Rand) error {
	begin := time.Now()
	err := f.do(ctx, s, r)
	d := faultDone{f, begin, time.Since(begin), err}
	s.mu.Lock()
	s.done = append(s.done, d)
	s.mu.Unlock()
	s.say("%v, %.1fs", f, d.took.Seconds())
	if err != nil {
		return fmt.Errorf("%v: %w", f, err)
	}
	return nil
}

// say writes a line at once: a log of the test comes when it is over.
func (s *soak) say(format string, args ...any) {
	line := fmt.Sprintf("%s %8.1fs ", time.Now().Format("15:04:05.000"), time.Since(s.begun).Seconds()) + fmt.Sprintf(format, args...)
	if os.Getenv("SOAK") != "" {
		fmt.Println(line)
	} else {
		s.t.Log(line)
	}
}

// autopsy has our processes tell what they were at, and shows the end of what they said.
func (s *soak) autopsy() {
	for _, v := range s.services() {
		if p := v.running(); p != nil {
			s.t.Logf("end of %s:\n%s", v.log, p.LogTail(30))
			_ = p.Signal(syscall.SIGQUIT) // what each goroutine does goes to the log
			select {
			case <-p.Done():
			case <-time.After(5 * time.Second): // stopped, say
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.done[max(0, len(s.done)-6):] {
		s.t.Logf("%s +%.1fs %v (%v)", d.at.Format("15:04:05.000"), d.took.Seconds(), d.soakFault, d.err)
	}
}

func (s *soak) report() {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	times := map[string]int{}
	for _, d := range s.done {
		times[d.String()]++
	}
	for _, f := range allFaults() {
		fmt.Fprintf(table, "%d\t%v\n", times[f.String()], f)
	}
	fmt.Fprintln(table)
	records, generations := s.follower.told()
	for _, row := range [][2]any{
		{"seed", s.seed},
		{"lasted", time.Since(s.begun).Round(time.Second)},
		{"faults", len(s.done)},
		{"checkpoints", s.checkpoints},
		{"commands written", s.commands},
		{"large values written", s.large},
		{"pairs looked at while they were written", s.pairs},
		{"records in the log", records},
		{"generations", generations},
		{"full resynchronisations", s.said(s.from[:], saysFull)},
		{"histories continued under another name", s.said(s.from[:], saysRenamed)},
		{"failovers that lost published writes", s.said(s.from[:], saysDiverged)},
		{"failovers that lost writes not published", s.said(s.from[:], saysDiscarded)},
		{"partitions that went back to the target's records", s.said(s.to[:], "starts again from the target's own records")},
		{"largest lag, records", s.watch.lag},
	} {
		fmt.Fprintf(table, "%v\t%v\n", row[0], row[1])
	}
	for _, v := range s.services() {
		u := v.largest()
		fmt.Fprintf(table, "%s\t%d starts, %d of them found a server away; at most %d MB, %d threads, %d files\n", v.name, v.starts, v.refused, u.rss>>20, u.threads, u.files)
	}
	result := "passed"
	if s.t.Failed() {
		result = "FAILED: " + s.w.Path()
	}
	fmt.Fprintf(table, "result\t%s\n", result)
	table.Flush()
	s.t.Logf("\n%s", b.String())
}

// said counts what services have said in all their lives.
func (s *soak) said(of []*service, what string) (n int) {
	for _, v := range of {
		text, _ := os.ReadFile(v.log) // none: it has not run
		n += strings.Count(string(text), what)
	}
	return n
}
