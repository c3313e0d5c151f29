package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/redis/resp"
)

// FunctionsPolicy says what is done about the source's libraries of functions.
type FunctionsPolicy string

// The policies for libraries of functions.
const (
	// FunctionsReplace brings them to every master of the target, over what is there. It is the default.
	FunctionsReplace FunctionsPolicy = "replace"
	// FunctionsSkip leaves them out and counts.
	FunctionsSkip FunctionsPolicy = "skip"
	// FunctionsStop stops at the first one.
	FunctionsStop FunctionsPolicy = "stop"
)

// functions carries out what a source's shard does to libraries. Each shard says the same, and each time on all masters: the
// commands may be repeated, so the last word on a library is the same whichever partition comes last. A master that joins
// the target later gets its libraries from whoever adds it (redis-cli does).
func (w *worker) functions(ctx context.Context, c *control) error {
	commands, err := splitCommands(c.commands)
	if err != nil {
		return &RecordError{Partition: w.partition, Offset: c.offset, Err: err}
	}
	switch w.s.cfg.Functions {
	case FunctionsSkip:
		if w.s.skippedFunctions.Add(int64(len(commands))) == int64(len(commands)) {
			w.log.Warn("libraries of functions are left out, as target.functions says")
		}
		return nil
	case FunctionsStop:
		return classed(Stop, "apply functions of shard %d from partition %d offset %d: the source has libraries of functions "+
			"(set target.functions to replace or skip)", c.shard, w.partition, c.offset)
	case FunctionsReplace:
	}
	for attempt := 0; ; attempt++ {
		err := w.callEverywhere(ctx, commands)
		if err == nil || classOf(err) != Retry {
			return err
		}
		w.warn("libraries of functions wait", err)
		if w.soft.Err() != nil {
			return errStopped
		}
		if err := w.pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// callEverywhere sends the commands to all masters. Whoever is no member of the group any more sends nothing.
func (w *worker) callEverywhere(ctx context.Context, commands [][]any) error {
	if err := w.s.group.prove(ctx); err != nil {
		return err
	}
	top, err := w.s.discover(ctx)
	if err != nil {
		return err
	}
	for i := range top.Shards {
		addr := top.Shards[i].Master.Addr
		if addr == "" {
			return fmt.Errorf("apply functions: %w", errTopology)
		}
		if err := w.call(ctx, addr, commands); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) call(ctx context.Context, addr string, commands [][]any) error {
	client := w.s.cfg.Dialer.Client(addr)
	defer func() { _ = client.Close() }()
	for _, args := range commands {
		err := client.Do(ctx, args...).Err()
		var answer redis.Error
		switch {
		case err == nil, errors.Is(err, redis.Nil):
		case !errors.As(err, &answer):
			return fmt.Errorf("%s %s at %s: %w", args[0], args[1], addr, err)
		case strings.HasPrefix(answer.Error(), "ERR Library not found"): // removed before
		case strings.Contains(answer.Error(), "unknown command"):
			return classed(Stop, "apply functions at %s: the target has none, it is older than Redis 7.0 (set target.functions to skip)", addr)
		case judge(answer.Error()) == refused || judge(answer.Error()) == passable:
			return classed(Stop, "%s %s at %s: %w (%s; or set target.functions to skip)", args[0], args[1], addr, err, refusedHint(answer.Error()))
		default:
			return fmt.Errorf("%s %s at %s: %w", args[0], args[1], addr, err)
		}
	}
	w.log.Debug("functions applied", slog.String("addr", addr), slog.Int("commands", len(commands)))
	return nil
}

// subcommands of FUNCTION that a source sends.
var subcommands = []string{"LOAD", "DELETE", "FLUSH"}

func splitCommands(wire []byte) (out [][]any, err error) {
	for len(wire) > 0 {
		n, args, err := resp.ParseCommand(wire, nil)
		if err != nil {
			return nil, fmt.Errorf("parse command %d of functions: %w", len(out)+1, err)
		}
		if len(args) < 2 || string(args[0]) != "FUNCTION" || !slices.Contains(subcommands, string(args[1])) {
			return nil, fmt.Errorf("parse command %d of functions: it is another one", len(out)+1)
		}
		words := make([]any, len(args))
		for i, a := range args {
			words[i] = a
		}
		words[0], words[1] = string(args[0]), string(args[1])
		out, wire = append(out, words), wire[n:]
	}
	return out, nil
}
