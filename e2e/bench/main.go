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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// config is what the flags say.
type config struct {
	keys, commands, runs, partitions int
	rates, shards                    []int
	versions                         []string
	latency, idle, brokerWarmup      time.Duration
	parts                            []string
	bare, write                      bool
	profiles                         string // folder for profiles of Redriver, "": none
	peers                            []peer

	verify         bool   // measure comparing, and nothing else
	redisFullCheck string // path of one, to measure beside it
	rdb            bool   // measure reading RDB files, and nothing else
	rdbParser      string // path of a program that reads the file it is given, to measure beside it
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var c config
	var parts, versions, shake, gunyu string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&c.keys, "keys", 1_000_000, "strings of full sync A; B has 0.46 times as many keys and 5 times as many elements, C 20 keys of half as many elements")
	f.IntVar(&c.commands, "commands", 1_000_000, "commands of each stream")
	f.IntVar(&c.runs, "runs", 3, "how often everything is measured; the report has the medians")
	f.IntVar(&c.partitions, "partitions", 12, "partitions of the topic")
	numbersVar(f, &c.rates, "rates", "10000,50000", "writes per second while latency is measured")
	numbersVar(f, &c.shards, "shards", "3,16,64", "numbers of masters that the cost of a command is measured with")
	f.StringVar(&versions, "versions", "redis-7.0,redis-8.0,valkey-8.1,valkey-8.1"+withChannel, "versions for the master's buffer; one that cannot be had here is left out")
	f.DurationVar(&c.latency, "latency", 10*time.Second, "how long latency, and cost by shards, are measured")
	f.DurationVar(&latencyWarmup, "warmup", latencyWarmup, "how long the same load runs before, which is not counted")
	f.DurationVar(&c.brokerWarmup, "broker-warmup", 2*time.Minute, "how long a new broker is loaded before anything is measured, 0: not at all; until its Java machine has compiled, it is slow and takes a core for itself")
	f.DurationVar(&c.idle, "idle", 10*time.Second, "how long idleness is measured")
	f.StringVar(&parts, "parts", "all", "what to measure: "+strings.Join(allParts, ", ")+"; or sync, stream")
	f.BoolVar(&c.bare, "bare", false, "Redriver alone, without anything beside it")
	f.StringVar(&c.profiles, "profiles", "", "folder for a CPU profile of source and sink in each case, with its text")
	f.StringVar(&shake, "redis-shake", "", "path of a RedisShake 4 to measure beside Redriver")
	f.StringVar(&gunyu, "redis-gunyu", "", "path of a redis-GunYu to measure beside Redriver")
	f.BoolVar(&c.verify, "verify", false, "measure redriver verify in place of everything else, and write that section of BENCHMARKS.md")
	f.StringVar(&c.redisFullCheck, "redis-full-check", "", "with -verify: path of a redis-full-check to measure on the same servers")
	f.BoolVar(&c.rdb, "rdb", false, "measure reading RDB files in place of everything else, and write that section of BENCHMARKS.md")
	f.StringVar(&c.rdbParser, "rdb-parser", "", "with -rdb: path of a program that reads the RDB file named by its argument, to measure on the same files")
	f.BoolVar(&c.write, "write", true, "write BENCHMARKS.md; without a value given, only if all parts are measured with all that stands beside them, on a warm broker")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	var err error
	if c.parts, err = parseParts(parts); err != nil {
		return c, err
	}
	c.versions = strings.Split(versions, ",")
	if shake != "" {
		c.peers = append(c.peers, shakePeer(shake))
	}
	if gunyu != "" {
		c.peers = append(c.peers, gunyuPeer(gunyu))
	}
	given := false
	f.Visit(func(f *flag.Flag) { given = given || f.Name == "write" })
	if !given && (len(c.parts) < len(allParts) || c.bare || c.profiles != "" || c.brokerWarmup == 0) {
		c.write = false
	}
	if c.brokerWarmup < 0 {
		return c, fmt.Errorf("broker-warmup is %v: give 0 for none, or how long", c.brokerWarmup)
	}
	if min(c.keys, c.commands, c.runs, c.partitions) < 1 || min(c.latency, c.idle) < time.Second {
		return c, errors.New("numbers have to be at least 1, times at least 1s")
	}
	return c, nil
}

// numbersVar defines a flag with numbers that are at least 1.
func numbersVar(f *flag.FlagSet, to *[]int, name, value, usage string) {
	set := func(text string) error {
		*to = nil
		for field := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(field)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is no number that is at least 1", field)
			}
			*to = append(*to, n)
		}
		return nil
	}
	_ = set(value) // ours
	f.Func(name, usage+" (default "+value+")", set)
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
	if cfg.profiles != "" {
		if err := buildProfiled(ctx, root, cfg.profiles); err != nil {
			return err
		}
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
	if cfg.has(partBuffer) {
		cfg.versions = installed(ctx, cfg.versions)
	}
	all, others, err := measureRuns(ctx, cfg)
	if err != nil {
		return err
	}
	if err := printTable(os.Stdout, all.rows); err != nil {
		return err
	}
	fmt.Printf("%s\nOther programs took %s %% of the machine's CPU meanwhile.\n", goalsTable(cfg, all.rows), others)
	if !cfg.write {
		return nil
	}
	text := report(reportInput{machine: where, config: cfg, args: args, date: time.Now(), rows: all.rows, others: others})
	err = writeReport(root, func(old string) string { return text + section(old, rdbHeading) + section(old, verifyHeading) })
	if err != nil || slices.ContainsFunc(capacityParts, func(part string) bool { return !cfg.has(part) }) {
		return err
	}
	return writeCapacity(root, cfg, all.rows)
}

// measureRuns measures everything as often as the configuration says.
func measureRuns(ctx context.Context, cfg config) (all results, others series, err error) {
	for i := range cfg.runs {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", i+1, cfg.runs)
		before, err := readCPUClock()
		if err != nil {
			return all, nil, err
		}
		measures, err := measureOnce(ctx, cfg, os.Stderr)
		if err != nil {
			return all, nil, fmt.Errorf("run %d: %w", i+1, err)
		}
		after, err := readCPUClock()
		if err != nil {
			return all, nil, err
		}
		others = append(others, after.othersSince(before))
		if err := all.add(measures); err != nil {
			return all, nil, err
		}
	}
	return all, others, nil
}

// installed are the versions that can be had here.
func installed(ctx context.Context, versions []string) (all []string) {
	for _, v := range versions {
		if _, err := redistest.BinDir(ctx, bufferServer(v).name); err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out: %v\n", v, err)
			continue
		}
		all = append(all, v)
	}
	return all
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
