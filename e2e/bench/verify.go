package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// compared is a program that compares two clusters, in one of its modes.
type compared struct {
	name string
	path string
	args func(from, to *redistest.Cluster) []string

	cpu, wall, peakMB, movedMB, serversCPU series
}

// comparedPrograms are Redriver's modes, and the peer's default and its deepest, that both ways.
func comparedPrograms(binary, peer string) (all []*compared) {
	for _, mode := range []string{"full", "digest", "length", "keys"} {
		all = append(all, &compared{name: "redriver verify --mode " + mode, path: binary, args: func(from, to *redistest.Cluster) []string {
			return []string{"verify", "--no-progress", "--mode", mode, "--from", "redis://" + from.Addrs()[0], "--to", "redis://" + to.Addrs()[0]}
		}})
	}
	if peer == "" {
		return all
	}
	for _, mode := range []struct {
		m, what string
		back    bool
	}{{"2", " (its default: lengths)", false}, {"1", " (values)", false}, {"1", " (values), the other way", true}} {
		all = append(all, &compared{name: "RedisFullCheck -m " + mode.m + mode.what, path: peer, args: func(from, to *redistest.Cluster) []string {
			if mode.back {
				from, to = to, from
			}
			return []string{
				"-s", strings.Join(from.Addrs(), ";"), "-t", strings.Join(to.Addrs(), ";"), "--sourcedbtype=1", "--targetdbtype=1",
				"--comparetimes=1", "-m", mode.m, "--result=result.txt",
			}
		}})
	}
	return all
}

// verifyMix has no streams: their ids are the server's clock's, and both sides are to be filled alike.
var verifyMix = func() load.Mix {
	m := load.DefaultMix
	m.Stream = 0
	return m
}()

func runVerify(ctx context.Context, cfg config, where machine) (err error) {
	root, err := testkit.ModuleRoot()
	if err != nil {
		return err
	}
	binary, err := testkit.Binary()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "redriver-bench-")
	if err != nil {
		return err
	}
	if err := proc.RemoveAtExit(dir); err != nil {
		return err
	}
	from, err := startCluster(ctx, filepath.Join(dir, "from"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := startCluster(ctx, filepath.Join(dir, "to"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for _, side := range []*redistest.Cluster{from, to} {
		if err := load.Fill(ctx, side.Client(), load.FillConfig{Keys: cfg.keys, Seed: 7, Mix: verifyMix}); err != nil {
			return err
		}
	}
	programs := comparedPrograms(binary, cfg.redisFullCheck)
	busy := series{}
	for run := range cfg.runs {
		for _, c := range programs {
			fmt.Fprintf(os.Stderr, "%s  run %d of %d, %s\n", time.Now().Format(time.TimeOnly), run+1, cfg.runs, c.name)
			others, err := c.measure(ctx, filepath.Join(dir, fmt.Sprint("run", run)), from, to)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			busy = append(busy, others)
		}
	}
	text := verifyReport(cfg, where, programs, busy, time.Now())
	fmt.Print(text)
	if !cfg.write {
		return nil
	}
	return writeReport(root, func(old string) string { return withSection(old, verifyHeading, text) })
}

// measure runs the program once. It returns the share of the machine that others took meanwhile.
func (c *compared) measure(ctx context.Context, dir string, from, to *redistest.Cluster) (others float64, err error) {
	dir = filepath.Join(dir, strings.Map(func(r rune) rune {
		if r == ' ' || r == '/' {
			return '-'
		}
		return r
	}, c.name))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	servers := append(nodes(from.Nodes()), to.Nodes()...)
	cpuBefore, movedBefore, err := servers.used(ctx)
	if err != nil {
		return 0, err
	}
	busyBefore, err := busyCPU()
	if err != nil {
		return 0, err
	}
	u, wall, err := runToEnd(ctx, proc.Config{Path: c.path, Args: c.args(from, to), Dir: dir})
	if err != nil {
		return 0, err
	}
	busyAfter, err := busyCPU()
	if err != nil {
		return 0, err
	}
	cpuAfter, movedAfter, err := servers.used(ctx)
	if err != nil {
		return 0, err
	}
	serversCPU := cpuAfter - cpuBefore
	c.cpu = append(c.cpu, u.CPU.Seconds())
	c.wall = append(c.wall, wall.Seconds())
	c.peakMB = append(c.peakMB, float64(u.PeakRSSBytes)/(1<<20))
	c.movedMB = append(c.movedMB, float64(movedAfter-movedBefore)/1e6)
	c.serversCPU = append(c.serversCPU, serversCPU.Seconds())
	machine := wall.Seconds() * float64(runtime.NumCPU())
	return max(0, 100*(busyAfter-busyBefore-u.CPU-serversCPU).Seconds()/machine), nil
}

// runToEnd runs a program, whose output goes into its folder, and tells what it used and how long it took.
func runToEnd(ctx context.Context, cfg proc.Config) (used proc.Usage, wall time.Duration, err error) {
	cfg.LogPath = filepath.Join(cfg.Dir, "log")
	start := time.Now()
	p, err := proc.Start(cfg)
	if err != nil {
		return used, 0, err
	}
	select {
	case <-ctx.Done():
		return used, 0, errors.Join(context.Cause(ctx), p.Kill())
	case <-p.Done():
	}
	wall = time.Since(start)
	if err := p.Wait(); err != nil {
		return used, wall, fmt.Errorf("%w\n%s", err, p.LogTail(logLines))
	}
	return p.Usage(), wall, nil
}

// used is the CPU time of servers so far, and the bytes they have received and sent.
func (n nodes) used(ctx context.Context) (cpu time.Duration, moved int64, err error) {
	for _, node := range n {
		cpu += node.Process().Usage().CPU
		for _, field := range []string{"total_net_input_bytes", "total_net_output_bytes"} {
			v, err := infoField(ctx, node, "stats", field)
			if err != nil {
				return 0, 0, err
			}
			moved += v
		}
	}
	return cpu, moved, nil
}
