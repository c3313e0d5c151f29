package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/verify"
)

const (
	demoSourceMasters = 3
	demoTargetMasters = 2
	demoWriters       = 4
	demoRounds        = 5
	demoListed        = 20
	// demoBarrier is far more than applying what is left takes: whoever waits longer wants to see why.
	demoBarrier = 5 * time.Minute
)

func (a *app) demoCommand() *cobra.Command {
	d := &demo{app: a}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Copy one cluster into another on this machine, to look at",
		Long: `Starts a Redis cluster of three masters and one of two on free ports of this machine, fills the first, copies it into the
second with a broker inside this process, writes many kinds of commands meanwhile, and at last compares both key by key.
Everything is removed at the end, also after Ctrl-C.

Redis is installed into a cache folder once; REDRIVER_REDIS_BIN names a folder with another redis-server.`,
		Example: `  redriver demo
  redriver demo --keys 500000 --seconds 60`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if d.keys < 0 || d.seconds < 0 {
				return &usageError{errors.New("--keys and --seconds must not be negative"), c.CommandPath()}
			}
			err := d.run(c.Context())
			if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	f := c.Flags()
	f.IntVar(&d.keys, "keys", 50_000, "keys that the source holds at first")
	f.IntVar(&d.seconds, "seconds", 15, "how long the load goes on")
	f.StringVar(&d.dir, "dir", "", "folder for all data and logs, which stays; without it a temporary one, which does not")
	f.BoolVar(&d.noProgress, "no-progress", false, "plain lines, also on a terminal")
	return c
}

// demo is one run of the command.
type demo struct {
	*app
	keys, seconds int
	dir           string
	noProgress    bool
}

func (d *demo) say(format string, args ...any) { say(d.stdout, format, args...) }

func (d *demo) run(ctx context.Context) (err error) {
	dir := d.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "redriver-demo-"); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }() // a temporary folder: the system removes it in the end
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("find folder: %w", err)
	}
	d.say("starting a cluster of %d masters and one of %d", demoSourceMasters, demoTargetMasters)
	from, err := redistest.StartCluster(ctx, redistest.Config{Masters: demoSourceMasters, Dir: filepath.Join(dir, "source")})
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // they die with us at the latest
	to, err := redistest.StartCluster(ctx, redistest.Config{Masters: demoTargetMasters, Dir: filepath.Join(dir, "target")})
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }()
	d.say("  source %s\n  target %s", strings.Join(from.Addrs(), " "), strings.Join(to.Addrs(), " "))
	began := time.Now()
	if err := load.Fill(ctx, from.Client(), load.FillConfig{Keys: d.keys, Seed: 1, TTLShare: 0.1}); err != nil {
		return err
	}
	d.say("filled %s keys of all types in %s; the target's count has Redriver's own keys in it, one for each slot it has written",
		count(d.keys), time.Since(began).Round(time.Millisecond))

	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: filepath.Join(dir, "broker")})
	if err != nil {
		return err
	}
	defer broker.Close()
	cfg, err := d.syncConfig(syncOptions{
		from: "redis://" + from.Addrs()[0], to: "redis://" + to.Addrs()[0], prefix: "demo", existing: "refuse", eviction: "refuse", databases: "all",
		logLevel: "error", logFormat: "text",
	}, dir, strings.Join(broker.Brokers(), ","))
	if err != nil {
		return err
	}
	return d.copy(ctx, cfg, from, to)
}

// copy runs the connectors, the load beside them, and compares.
func (d *demo) copy(ctx context.Context, cfg *connectors.Config, from, to *redistest.Cluster) error {
	s, err := d.newSession(cfg, d.noProgress)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.runner.Check(ctx); err != nil {
		return err
	}
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() { // ends with run, or when a connector fails, which ends run
		err := s.runChecked(run)
		stop(err)
		ended <- err
	}()
	result, err := d.loadAndCompare(run, s, from, to)
	if err != nil && run.Err() != nil && ctx.Err() == nil {
		err = <-ended // why it ended, not that it did
		if err == nil {
			err = errors.New("the connectors ended by themselves")
		}
		return err
	}
	stop(nil)
	if ran := <-ended; err == nil {
		err = ran
	}
	s.close()
	if err != nil {
		return err
	}
	if !result.Identical() {
		return &connectors.DifferentError{Report: result.String()}
	}
	d.say("identical: %s keys, compared one by one in %s", count(result.Keys), result.Elapsed.Round(time.Millisecond))
	return nil
}

func (d *demo) loadAndCompare(ctx context.Context, s *session, from, to *redistest.Cluster) (verify.Result, error) {
	began := time.Now()
	writers, err := d.writers(from)
	if err != nil {
		return verify.Result{}, err
	}
	loading, stopLoad := context.WithTimeout(ctx, time.Duration(d.seconds)*time.Second)
	defer stopLoad()
	var wg sync.WaitGroup
	for _, w := range writers {
		wg.Go(func() { _ = w.Run(loading) }) // ends with loading; it counts its errors
	}
	wg.Go(func() { d.watch(loading, s, from, to, began) }) // likewise
	wg.Wait()
	if ctx.Err() != nil {
		return verify.Result{}, context.Cause(ctx)
	}
	written := int64(0)
	for _, w := range writers {
		written += w.Counts().Commands
	}
	stopped := time.Now()
	wait, cancel := context.WithTimeoutCause(ctx, demoBarrier, fmt.Errorf("the target has not got everything within %s", demoBarrier))
	defer cancel()
	if err := s.barrier(wait); err != nil {
		return verify.Result{}, err
	}
	d.tell(s, "%s commands written in %s; the last of them was at the target within %s", count(written),
		stopped.Sub(began).Round(time.Second), time.Since(stopped).Round(10*time.Millisecond))
	return verify.Compare(ctx, verify.At(from.Addrs()...), verify.At(to.Addrs()...), verify.Options{Rounds: demoRounds, MaxListed: demoListed, ExpiryHold: connectors.DefaultExpiryHold})
}

func (d *demo) writers(from *redistest.Cluster) ([]*load.Writer, error) {
	var out []*load.Writer
	for i := range demoWriters {
		w, err := load.NewWriter(from.Client(), load.WriterConfig{
			Seed: uint64(i + 1), Prefix: fmt.Sprintf("load:%d:", i), Shared: "load:shared:", Keys: 500,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

const watchInterval = time.Second

// watch says each second how many keys both sides have, how much is applied, and how far behind the target is.
func (d *demo) watch(ctx context.Context, s *session, from, to *redistest.Cluster, began time.Time) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var last int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var spool, applied, lag int64
		for _, st := range s.runner.Status() {
			for _, sh := range st.Shards {
				spool += sh.SpoolBytes
			}
			applied += st.Sink.Units
			lag += st.Sink.Lag
		}
		// The last line is a whole one too, although ctx ends while it is made.
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), watchInterval)
		fromKeys, toKeys := keysOf(ask, from.Client()), keysOf(ask, to.Client())
		cancel()
		d.tell(s, "%3.0f s  keys %9s -> %9s   applied %9s (%s/s)   lag %s records   spool %s", time.Since(began).Seconds(),
			count(fromKeys), count(toKeys), count(applied), count(applied-last), count(lag), connectors.Size(spool))
		last = applied
	}
}

// tell passes a line above the display.
func (d *demo) tell(s *session, format string, args ...any) {
	if s.screen != nil {
		say(s.screen, format, args...)
		return
	}
	d.say(format, args...)
}

// keysOf counts the keys of all masters; what cannot be asked counts as nothing.
func keysOf(ctx context.Context, client *redis.ClusterClient) int64 {
	n, err := client.DBSize(ctx).Result()
	if err != nil {
		return 0
	}
	return n
}
