package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/redriver/redriver/connectors"
)

func (a *app) runCommand() *cobra.Command {
	var file string
	var printConfig, noProgress bool
	c := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Run the connectors of a configuration file as a service",
		Long: `Runs all connectors of the file until SIGINT or SIGTERM, then commits what was read and stops; a second signal stops
at once. Before anything is written it checks that Kafka and each Redis can be reached and are what they have to be.
A connector that loses Redis or Kafka later is started again by itself.

"redriver help config" explains the file. Of one key of the worker the last of file, environment variable and flag holds.`,
		Example: `  redriver run --config redriver.yaml
  redriver run --config redriver.yaml --log-format json --no-progress
  REDRIVER_WORKER__KAFKA_BROKERS=kafka-1:9092 redriver run --config redriver.yaml`,
		Args: noArgs,
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "the configuration file, YAML (required)")
	f.BoolVar(&printConfig, "print-config", false, "print the effective configuration, secrets hidden, and end")
	f.BoolVar(&noProgress, "no-progress", false, "log only, also on a terminal")
	workerFlags(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := a.load(c, file)
		if err != nil {
			return err
		}
		if printConfig {
			say(a.stdout, "%s", strings.TrimRight(cfg.String(), "\n"))
			return nil
		}
		s, err := a.newSession(cfg, noProgress)
		if err != nil {
			return err
		}
		defer s.close()
		a.limitMemory(cfg.Worker.MemoryTarget)
		return s.run(c.Context())
	}
	return c
}

// gcPercent is how much the heap may grow between two collections while it is below its limit, in percent of what is in use:
// there is no use in leaving free what the limit allows.
const gcPercent = 400

// limitMemory sets what the garbage collector tries to stay below, and has it work less up to there. Whoever has set
// GOMEMLIMIT or GOGC knows better.
func (a *app) limitMemory(bytes int64) {
	given := func(name string) bool {
		return slices.ContainsFunc(a.environ, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	}
	if bytes <= 0 {
		return
	}
	if !given("GOMEMLIMIT") {
		debug.SetMemoryLimit(bytes)
	}
	if !given("GOGC") {
		debug.SetGCPercent(gcPercent)
	}
}

func (a *app) configCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "config --config FILE",
		Short: "Check a configuration file and print what holds; its help lists all keys",
		Long: `Checks the file as "redriver run" does, without connecting to anything, and prints the effective configuration:
every key with its value or default, secrets hidden.

` + connectors.Help(),
		Example: `  redriver config --config redriver.yaml
  redriver help config`,
		Args: noArgs,
	}
	c.Flags().StringVar(&file, "config", "", "the configuration file, YAML (required)")
	workerFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := a.load(c, file)
		if err == nil {
			say(a.stdout, "%s", strings.TrimRight(cfg.String(), "\n"))
		}
		return err
	}
	return c
}

// workerFlags adds a flag for every key of the worker. Their values are checked with the rest of the configuration.
func workerFlags(f *pflag.FlagSet) {
	for _, k := range connectors.WorkerKeys() {
		usage, _, _ := strings.Cut(k.Doc, ". ")
		if k.Default != "" {
			usage += fmt.Sprintf(" (default %s)", k.Default)
		}
		f.String(connectors.FlagName(k.Name), "", strings.ReplaceAll(usage, "`", ""))
	}
}

func (a *app) load(c *cobra.Command, file string) (*connectors.Config, error) {
	if err := required(c, "config"); err != nil {
		return nil, err
	}
	in := connectors.Input{File: file, Environ: a.environ, Flags: map[string]string{}}
	for _, k := range connectors.WorkerKeys() {
		if f := c.Flag(connectors.FlagName(k.Name)); f.Changed {
			in.Flags[k.Name] = f.Value.String()
		}
	}
	return connectors.Load(in)
}

// session is one run of connectors with its log and its display.
type session struct {
	cfg    *connectors.Config
	log    *slog.Logger
	runner *connectors.Runner
	screen *screen // nil where there is no terminal
}

func (a *app) newSession(cfg *connectors.Config, noProgress bool) (*session, error) {
	s := &session{cfg: cfg}
	out := a.stderr
	if !noProgress && isTerminal(a.stderr) {
		s.screen = newScreen(a.stderr)
		out = s.screen
	}
	s.log = newLogger(out, cfg.Worker.LogLevel, cfg.Worker.LogFormat)
	var err error
	s.runner, err = connectors.New(cfg, s.log)
	return s, err
}

// run checks, then runs until ctx ends or a connector fails for good.
func (s *session) run(ctx context.Context) error {
	err := s.runner.Check(ctx)
	if err == nil {
		err = s.runChecked(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *session) runChecked(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	shown := make(chan struct{})
	go func() { // ends with ctx
		defer close(shown)
		if s.screen != nil {
			s.screen.show(ctx, s.runner.Status)
		}
	}()
	err := s.runner.Run(ctx)
	cancel()
	<-shown
	return err
}

// close leaves the terminal as it was.
func (s *session) close() {
	if s.screen != nil {
		s.screen.clear()
	}
}

func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of four words, checked before
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
