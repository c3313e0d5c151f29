package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/redriver/redriver/sink"
)

func (a *app) finishCommand() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "finish --to redis://HOST:PORT",
		Short: "Set exact expiry times at a target when the copy is done",
		Long: `A sink writes expiry times later than they are, by expiry.hold, so that no key expires at the target before what the
source still does to it has arrived. Finish sets the exact times, and removes what the sinks keep for themselves at the
target. Stop the sinks first; they cannot go on afterwards.

It can be interrupted and run again: a node that is done stays done. Keys of a target before Redis 7.0 may expire a
millisecond earlier or later than at the source. The password can be given by the environment variable
REDRIVER_TO_PASSWORD.`,
		Example: `  redriver finish --to redis://new-1:6379`,
		Args:    noArgs,
	}
	c.Flags().StringVar(&to, "to", "", "a node of the target, redis://[user[:password]@]host:port (required)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := required(c, "to"); err != nil {
			return err
		}
		address, err := a.redisAddress("--to", to, "REDRIVER_TO_PASSWORD")
		if err != nil {
			return &usageError{err, c.CommandPath()}
		}
		d, err := a.dialer("--to", address, "REDRIVER_TO_PASSWORD")
		if err != nil {
			return &usageError{err, c.CommandPath()}
		}
		done, err := sink.Finish(c.Context(), d, strings.Split(address["redis.address"], ","))
		if err != nil {
			return err
		}
		say(a.stdout, "%s keys, %s of them have their exact expiry time now, and %s fields of hashes", count(done.Keys), count(done.Exact), count(done.Fields))
		return nil
	}
	return c
}
