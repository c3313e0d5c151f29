package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redriver/redriver/connectors"
)

// reference is docs/cli.md.
func reference() string {
	var b strings.Builder
	b.WriteString("# Command line\n\nThis page is generated from the commands' own help: `go test ./cmd/redriver -run Reference -update` writes it.\n")
	root := (&app{}).root()
	for _, c := range root.Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		commandReference(&b, c)
	}
	b.WriteString("\n## redriver completion\n\nPrints the completion script of a shell: `redriver completion bash|zsh|fish|powershell`.\n")
	b.WriteString("\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, c := range connectors.Codes {
		fmt.Fprintf(&b, "| %d | %s |\n", c, c.Meaning())
	}
	b.WriteString(`
When several things are wrong the message has all of them, and the code is that of one.

## Signals

The first SIGINT or SIGTERM stops in good order: sources commit what they have read, sinks wait for the answers in flight,
each no longer than its ` + "`drain.timeout`" + `; the exit code is 0. The second ends the process at once.
`)
	return b.String()
}

func commandReference(b *strings.Builder, c *cobra.Command) {
	long := c.Long
	if c.Name() == "config" { // its help has all keys, which have a page of their own
		long, _, _ = strings.Cut(long, "\n\n")
		long += "\n\nThe keys are in [configuration.md](configuration.md)."
	}
	if long == "" {
		long = c.Short + "."
	}
	fmt.Fprintf(b, "\n## redriver %s\n\n    redriver %s\n\n%s\n\nExamples:\n\n", c.Name(), c.Use, long)
	for line := range strings.Lines(c.Example) {
		b.WriteString("  " + line)
	}
	b.WriteString("\n")
	flags := false
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		if !flags {
			b.WriteString("\n| flag | meaning |\n|---|---|\n")
			flags = true
		}
		usage := f.Usage
		if f.DefValue != "" && f.DefValue != "false" && !strings.Contains(usage, "default") {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, "| `--%s` | %s |\n", f.Name, usage)
	})
}
