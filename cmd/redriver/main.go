package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/redriver/redriver/connectors"
)

func main() {
	redis.SetLogger(silent{})
	ctx, stop := signals()
	code := execute(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(int(code))
}

// silent drops what the Redis client prints on its own: every error it speaks of is returned too, and told once.
type silent struct{}

// Printf prints nothing.
func (silent) Printf(context.Context, string, ...any) {}

// signals returns a context that the first SIGINT or SIGTERM ends. The second ends the process at once.
func signals() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() { // ends with the process
		<-ch
		say(os.Stderr, "stopping; once more stops at once")
		cancel()
		<-ch
		os.Exit(int(connectors.CodeOther))
	}()
	return ctx, cancel
}

// app is what all commands share.
type app struct {
	environ        []string
	stdout, stderr io.Writer
}

// usageError is a fault of the arguments.
type usageError struct {
	err     error
	command string
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v\nsee %s --help", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// execute runs one command line.
func execute(ctx context.Context, args, environ []string, stdout, stderr io.Writer) connectors.Code {
	a := &app{environ: environ, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return connectors.CodeOK
	}
	if text := err.Error(); text != "" {
		say(stderr, "redriver: %s", text)
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if isUsage(err) {
		return connectors.CodeConfig
	}
	return connectors.CodeOf(err)
}

// isUsage also takes what cobra finds before a command begins: it has no type for that.
func isUsage(err error) bool {
	if _, ok := errors.AsType[*usageError](err); ok {
		return true
	}
	return strings.HasPrefix(err.Error(), "unknown command ")
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "redriver",
		Short: "Carry a live Redis through Kafka into another",
		Long: `Redriver carries a live Redis, cluster or single server, into Kafka, and from Kafka into any number of others:
every write, in the order of its slot, once.

` + exitCodes(),
		Example: `  redriver demo
  redriver sync --from redis://old-1:6379 --to redis://new-1:6379 --data-dir /var/lib/redriver/move
  redriver run --config redriver.yaml`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{err, c.CommandPath()} })
	root.AddCommand(a.runCommand(), a.syncCommand(), a.demoCommand(), a.finishCommand(), a.resyncCommand(), a.verifyCommand(), a.configCommand(), a.versionCommand())
	return root
}

func exitCodes() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range connectors.Codes {
		fmt.Fprintf(&b, "  %2d  %s\n", c, c.Meaning())
	}
	return strings.TrimRight(b.String(), "\n")
}

// say prints a line. Where it cannot be printed nobody waits for it.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }

// noArgs refuses arguments with the command's name.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Errorf("unexpected argument %q", args[0]), c.CommandPath()}
	}
	return nil
}

// required names flags that are missing, all at once.
func required(c *cobra.Command, names ...string) error {
	var missing []string
	for _, n := range names {
		if f := c.Flag(n); f == nil || f.Value.String() == "" {
			missing = append(missing, "--"+n)
		}
	}
	if missing == nil {
		return nil
	}
	return &usageError{fmt.Errorf("missing %s", strings.Join(missing, ", ")), c.CommandPath()}
}
