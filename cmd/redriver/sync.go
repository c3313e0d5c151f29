package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/kafka"
)

// syncOptions are the arguments of sync.
type syncOptions struct {
	from, to, dir, brokers, prefix, existing, eviction string
	databases                                          string
	partitions                                         int
	untilSynced, noProgress                            bool
	logLevel, logFormat                                string
}

func (a *app) syncCommand() *cobra.Command {
	var o syncOptions
	c := &cobra.Command{
		Use:   "sync --from redis://HOST:PORT --to redis://HOST:PORT --data-dir DIR",
		Short: "Copy one deployment of Redis into another and keep it so, in one process",
		Long: `Runs a source and a sink in this process, with a broker of its own inside it unless --kafka names a real one. What was
read and where it stands lies in the data folder: the same command with the same folder goes on where the last one
ended, also after a crash.

The address is that of any node of a cluster, of a single server, or of both nodes of a pair with a comma between; what
it is the servers say. redis://host:port/3 carries that database alone, into the one that --to names, 0 if none is named.
A password can be given in the
address (redis://user:password@host:port, with %-escapes), where other users of this machine may see it, or by the
environment variables REDRIVER_FROM_PASSWORD and REDRIVER_TO_PASSWORD. rediss:// means TLS; behind a question mark may
stand ca=FILE, cert=FILE, key=FILE, server_name=NAME and verify=none, with & between.

The broker inside is one process, not replicated and without fsync: what a crash of the machine takes from it is read
from the source again, in full if need be. While it runs, what the sink has applied is deleted from it.`,
		Example: `  redriver sync --from redis://old-1:6379 --to redis://new-1:6379 --data-dir /var/lib/redriver/move
  redriver sync --from redis://app@old-1:6379 --to redis://new-1:6379 --data-dir move --until-synced
  redriver sync --from redis://a:6379 --to redis://b:6379 --data-dir move --kafka kafka-1:9092 --prefix move`,
		Args: noArgs,
	}
	f := c.Flags()
	f.StringVar(&o.from, "from", "", "a node of the source, redis://[user[:password]@]host:port[/database] (required)")
	f.StringVar(&o.to, "to", "", "a node of the target (required)")
	f.StringVar(&o.dir, "data-dir", "", "folder for what has to outlive the process; made if missing (required)")
	f.StringVar(&o.brokers, "kafka", "", "brokers of a real Kafka, host:port with commas, instead of the one inside")
	f.StringVar(&o.prefix, "prefix", "redriver", "names the topics and the connectors")
	f.IntVar(&o.partitions, "partitions", 0, "partitions of the data topic; 0: what the topic has, or 12, for a cluster, 1 for a single server, which keeps its total order")
	f.StringVar(&o.databases, "databases", "all", "which database of the source goes into which of the target, such as 0:0,3:1; all: each into its own")
	f.StringVar(&o.existing, "existing-keys", "refuse", "what to do when the target holds keys: refuse, replace or keep")
	f.StringVar(&o.eviction, "eviction", "refuse", "what to do when the target may evict keys: refuse or accept")
	f.BoolVar(&o.untilSynced, "until-synced", false, "end when everything written before that moment is at the target")
	f.BoolVar(&o.noProgress, "no-progress", false, "log only, also on a terminal")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := required(c, "from", "to", "data-dir"); err != nil {
			return err
		}
		err := a.sync(c.Context(), o)
		if u, ok := errors.AsType[*usageError](err); ok {
			u.command = c.CommandPath()
		}
		return err
	}
	return c
}

const (
	embeddedNotice = "the broker inside this process is not replicated and does not fsync: for a move that must survive the loss of this machine use --kafka"
	trimInterval   = time.Minute
)

func (a *app) sync(ctx context.Context, o syncOptions) error {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return fmt.Errorf("find data folder: %w", err)
	}
	// Checked before the broker is started: a fault of the arguments must not leave a folder.
	brokers := o.brokers
	if brokers == "" {
		brokers = "127.0.0.1:9092"
	}
	if _, err := a.syncConfig(o, dir, brokers); err != nil {
		return err
	}
	unlock, err := connectors.LockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if o.brokers == "" {
		broker, err := startBroker(dir)
		if err != nil {
			return err
		}
		defer broker.Close()
		brokers = strings.Join(broker.Brokers(), ",")
	}
	cfg, err := a.syncConfig(o, dir, brokers)
	if err != nil {
		return err
	}
	s, err := a.newSession(cfg, o.noProgress)
	if err != nil {
		return err
	}
	defer s.close()
	if o.brokers == "" {
		s.log.Info(embeddedNotice)
	}
	return s.runSync(ctx, a, o)
}

// runSync runs the session with what sync does beside it.
func (s *session) runSync(ctx context.Context, a *app, o syncOptions) error {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.runner.Check(run); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	var beside sync.WaitGroup
	synced := false
	if o.brokers == "" {
		beside.Go(func() { s.trim(run) }) // ends with run
	}
	if o.untilSynced {
		beside.Go(func() { // ends with run, and ends it
			if err := s.barrier(run); err == nil {
				synced = true
				cancel()
			}
		})
	}
	err := s.runChecked(run)
	cancel()
	beside.Wait()
	if err == nil && synced {
		say(a.stdout, "synced: the target has everything that was written before now")
	}
	return err
}

// barrier waits for the copy, through passing troubles.
func (s *session) barrier(ctx context.Context) error {
	for {
		err := s.runner.Barrier(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.log.Debug("waiting for the copy to be complete", slog.Any("err", err))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// trim keeps the embedded broker small.
func (s *session) trim(ctx context.Context) {
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.runner.Trim(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the embedded broker keeps what is applied, trying again later", slog.Any("err", err))
		}
	}
}

// startBroker starts the embedded broker on its folder and, if it is free, on the port of the last time.
func startBroker(dir string) (*kafka.Embedded, error) {
	file := filepath.Join(dir, "broker.port")
	text, _ := os.ReadFile(file) // missing the first time
	port, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if port != 0 && !isFree(port) {
		port = 0
	}
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: filepath.Join(dir, "broker"), Port: port})
	if err != nil {
		return nil, err
	}
	_, chosen, _ := net.SplitHostPort(broker.Brokers()[0])
	if err := os.WriteFile(file, []byte(chosen+"\n"), 0o600); err != nil {
		broker.Close()
		return nil, fmt.Errorf("keep port of the embedded broker: %w", err)
	}
	return broker, nil
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // returns at once
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func (a *app) syncConfig(o syncOptions, dir, brokers string) (*connectors.Config, error) {
	fromAddress, fromDB, err4 := cutDatabase("--from", o.from)
	toAddress, toDB, err5 := cutDatabase("--to", o.to)
	from, err1 := a.redisAddress("--from", fromAddress, "REDRIVER_FROM_PASSWORD")
	to, err2 := a.redisAddress("--to", toAddress, "REDRIVER_TO_PASSWORD")
	databases, unmapped, err3 := databaseMap(o.databases, fromDB, toDB)
	if err := errors.Join(err4, err5, err1, err2, err3); err != nil {
		return nil, &usageError{err: err}
	}
	from["type"], from["topic.prefix"], from["topic.partitions"] = connectors.KindSource, o.prefix, strconv.Itoa(o.partitions)
	to["type"], to["topic.prefix"], to["target.existing.keys"] = connectors.KindSink, o.prefix, o.existing
	to["databases"], to["databases.unmapped"], to["target.eviction"] = databases, unmapped, o.eviction
	worker := map[string]string{
		"data.dir": filepath.Join(dir, "worker"), "kafka.brokers": brokers, "log.level": o.logLevel, "log.format": o.logFormat,
	}
	return connectors.NewConfig(worker, map[string]map[string]string{o.prefix + "-source": from, o.prefix + "-sink": to}, a.environ)
}

func (a *app) getenv(name string) string {
	for _, line := range a.environ {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return v
		}
	}
	return ""
}
