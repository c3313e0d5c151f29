package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redriver/redriver/internal/testkit"
)

// config is what the flags say.
type config struct {
	keys, commands, rate, runs, partitions int
	latency, idle                          time.Duration
	parts                                  []string
	write                                  bool
	verify                                 bool   // measure comparing, and nothing else
	peer                                   string // path of a redis-full-check to measure beside it
	rdb                                    bool   // measure reading RDB files, and nothing else
	rdbPeer                                string // path of a program that reads the file it is given, to measure beside it
}

// The parts that -only names.
const (
	partSnapshot = "snapshot"
	partStream   = "stream"
	partLatency  = "latency"
	partIdle     = "idle"
)

var allParts = []string{partSnapshot, partStream, partLatency, partIdle}

func (c *config) has(part string) bool { return slices.Contains(c.parts, part) }

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var c config
	var only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&c.keys, "keys", 1_000_000, "strings of the first snapshot; the second has a fifth as many keys of six types")
	f.IntVar(&c.commands, "commands", 1_000_000, "commands of each stream")
	f.IntVar(&c.rate, "rate", 10_000, "writes per second while latency is measured")
	f.IntVar(&c.runs, "runs", 1, "how often everything is measured; the report has the medians")
	f.IntVar(&c.partitions, "partitions", 32, "partitions of the topic")
	f.DurationVar(&c.latency, "latency", 30*time.Second, "how long latency is measured")
	f.DurationVar(&c.idle, "idle", 20*time.Second, "how long idleness is measured")
	f.StringVar(&only, "only", strings.Join(allParts, ","), "parts to measure")
	f.BoolVar(&c.verify, "verify", false, "measure redriver verify in place of everything else, and write that section of BENCHMARKS.md")
	f.StringVar(&c.peer, "redis-full-check", "", "with -verify: path of a redis-full-check to measure on the same servers")
	f.BoolVar(&c.rdb, "rdb", false, "measure reading RDB files in place of everything else, and write that section of BENCHMARKS.md")
	f.StringVar(&c.rdbPeer, "rdb-parser", "", "with -rdb: path of a program that reads the RDB file named by its argument, to measure on the same files")
	f.BoolVar(&c.write, "write", true, "write BENCHMARKS.md; without a value given, only if all parts are measured")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	for part := range strings.SplitSeq(only, ",") {
		if !slices.Contains(allParts, part) {
			return c, fmt.Errorf("-only: no part %q, there are %s", part, strings.Join(allParts, ", "))
		}
		c.parts = append(c.parts, part)
	}
	given := false
	f.Visit(func(f *flag.Flag) { given = given || f.Name == "write" })
	if !given && len(c.parts) < len(allParts) {
		c.write = false
	}
	if min(c.keys, c.commands, c.rate, c.runs, c.partitions) < 1 || min(c.latency, c.idle) < time.Second {
		return c, errors.New("numbers have to be at least 1, times at least 1s")
	}
	return c, nil
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == childArg:
		err = runChild(ctx, os.Stdin, os.Stdout)
	case len(os.Args) == 4 && os.Args[1] == rdbArg:
		err = readRDB(os.Args[2], os.Args[3])
	default:
		err = run(ctx, os.Args[1:])
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		cancel()
		os.Exit(1) //nolint:gocritic // cancel has been called
	}
}

func run(ctx context.Context, args []string) error {
	cfg, err := parseFlags(args, os.Stderr)
	if err != nil {
		return err
	}
	root, err := testkit.ModuleRoot()
	if err != nil {
		return err
	}
	where, err := describeMachine(ctx, root)
	if err != nil {
		return err
	}
	if _, err := testkit.Binary(); err != nil { // not while something is measured
		return err
	}
	switch {
	case cfg.verify:
		return runVerify(ctx, cfg, where)
	case cfg.rdb:
		return runRDB(ctx, cfg, where)
	}
	var all results
	var others series
	for i := range cfg.runs {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", i+1, cfg.runs)
		before, err := readCPUClock()
		if err != nil {
			return err
		}
		measures, err := measureOnce(ctx, cfg, os.Stderr)
		if err != nil {
			return fmt.Errorf("run %d: %w", i+1, err)
		}
		after, err := readCPUClock()
		if err != nil {
			return err
		}
		others = append(others, after.othersSince(before))
		if err := all.add(measures); err != nil {
			return err
		}
	}
	if err := printTable(os.Stdout, all.rows); err != nil {
		return err
	}
	fmt.Printf("\nOther programs took %s %% of the machine's CPU meanwhile.\n", others)
	if !cfg.write {
		return nil
	}
	text := report(reportInput{machine: where, config: cfg, args: args, date: time.Now(), rows: all.rows, others: others})
	return writeReport(root, func(old string) string { return text + section(old, rdbHeading) + section(old, verifyHeading) })
}

// writeReport rewrites BENCHMARKS.md.
func writeReport(root string, change func(old string) string) error {
	path := filepath.Join(root, "BENCHMARKS.md")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read report: %w", err)
	}
	if err := os.WriteFile(path, []byte(change(string(old))), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
