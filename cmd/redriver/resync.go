package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/redriver/redriver/connectors"
)

func (a *app) resyncCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "resync --config FILE [SOURCE...]",
		Short: "Have sources take a new snapshot",
		Long: `Asks the named sources of the file, or all of them, for a new snapshot of every shard. A source that runs takes it at
once and goes on behind it; one that does not run takes it when it is started. Sinks bring their targets to the state of the
snapshot and remove what it does not have, as sweep.policy says; readers of the targets do not see a hole.

It is what a sink with log.lost: snapshot waits for when retention has removed what it had to read, and what a new sink needs
when the log holds no complete snapshot any more. Only Kafka is spoken to.`,
		Example: `  redriver resync --config redriver.yaml
  redriver resync --config redriver.yaml orders-source`,
	}
	c.Flags().StringVar(&file, "config", "", "the configuration file, YAML (required)")
	workerFlags(c.Flags())
	c.RunE = func(c *cobra.Command, names []string) error {
		cfg, err := a.load(c, file)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), cfg.Worker.KafkaTimeout*resyncTimeouts)
		defer cancel()
		n, err := connectors.Resync(ctx, cfg, slog.New(slog.DiscardHandler), names...)
		if err != nil {
			return err
		}
		say(a.stdout, "%s shards were asked for a new snapshot", count(uint64(n)))
		return nil
	}
	return c
}

// resyncTimeouts is how many times kafka.timeout all of it may take.
const resyncTimeouts = 6
