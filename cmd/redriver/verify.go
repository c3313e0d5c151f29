package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/verify"
)

// verifyOptions are the arguments of verify. Those with names of other tools are read in verifyaliases.go.
type verifyOptions struct {
	from, to                         string
	fromPassword, toPassword         string // of the aliases
	mode, slots, databases, hold     string
	sampleN                          int
	prefixes, patterns, types        []string
	tolerance, patience              time.Duration
	rounds                           int
	interval                         seconds
	settle                           []string
	settleStall                      time.Duration
	keysPerSecond, bytesPerSecond    int
	page, workers                    int
	largeBytes                       int64
	state, differences               string
	listed                           int
	json, repair, anyway, noProgress bool
	comparemode, bigkeythreshold     int
	qps                              int
	filterlist, fromDBList, toDBList string
	fromType, toType                 int
	fromAddrs, toAddrs               string
}

// The exit codes of verify are those of diff and cmp, not those of the other commands.
const (
	verifySame      connectors.Code = 0
	verifyDifferent connectors.Code = 1
	verifyFailed    connectors.Code = 2
)

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify --from redis://HOST:PORT --to redis://HOST:PORT",
		Short: "Compare two deployments key by key, also while writes go on",
		Long: `Compares all keys of two deployments, clusters of any shape or single servers of any version, in both directions: keys
that only one of them has, types, values, expiry times, groups of streams, expiry of hash fields, libraries of
functions. It only reads, and it never counts the keys that Redriver keeps for itself.

What differs is looked at again after a pause, round after round, and counts only if neither side has changed between
the last two looks: writes in flight are no differences. With --settle it waits in each round until the running
pipeline of a configuration file has carried over what the source had.

Modes:
  full    type, value and expiry of every key (default)
  digest  as full, but equal values are not transferred: both sides send a SHA-1 of each, by a read-only script. Needs
          7.0 at both sides, and the same version to be of use: elsewhere it reads as full does
  length  type, length and expiry
  keys    existence and type
  sample  as full, for --sample random keys

The summary ends with the verdict. Exit code 0: no difference. 1: differences, or keys that changed at every look.
2: the comparison could not be made. Passwords can be given by the environment variables REDRIVER_FROM_PASSWORD and
REDRIVER_TO_PASSWORD. Interrupted, it goes on where it was when called again with the same --state.

The options of RedisFullCheck are understood as well; docs/verify.md maps them.`,
		Example: `  redriver verify --from redis://old-1:6379 --to redis://new-1:6379
  redriver verify --from redis://old-1:6379 --to redis://new-1:6379 --settle redriver.yaml --differences wrong.jsonl
  redriver verify --from redis://old-1:6379 --to redis://new-1:6379 --keys-per-second 50000 --state check.json
  redriver verify --from redis://old:6379 --to redis://new-1:6379 --databases 3:0 --prefix user: --repair`,
		Args: noArgs,
	}
	o.flags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.applyAliases(); err != nil {
			return &exitError{&usageError{err, c.CommandPath()}, verifyFailed}
		}
		if err := required(c, "from", "to"); err != nil {
			return &exitError{err, verifyFailed}
		}
		if err := a.verify(c.Context(), c.Flags().Changed, o); err != nil {
			if u, ok := errors.AsType[*usageError](err); ok {
				u.command = c.CommandPath()
			}
			if _, ok := errors.AsType[*exitError](err); ok {
				return err
			}
			return &exitError{err, verifyFailed}
		}
		return nil
	}
	return c
}

// exitError is an error whose exit code the command decides itself.
type exitError struct {
	err  error
	code connectors.Code
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

func (o *verifyOptions) flags(c *cobra.Command) {
	f := c.Flags()
	o.interval = seconds(time.Second)
	f.StringVar(&o.from, "from", "", "a node of the source, redis://[user[:password]@]host:port[/database], rediss:// with TLS (required)")
	f.StringVar(&o.to, "to", "", "a node of the target (required)")
	f.StringVar(&o.mode, "mode", string(verify.Full), "full, digest, length, keys or sample")
	f.IntVar(&o.sampleN, "sample", 0, "how many random keys to compare, in place of all")
	f.StringVar(&o.slots, "slots", "", `only keys of these slots, such as "0-5460 7000"`)
	f.StringArrayVar(&o.prefixes, "prefix", nil, "only keys that begin so; may be repeated")
	f.StringArrayVar(&o.patterns, "match", nil, "only keys that match this pattern, as KEYS understands it; may be repeated")
	f.StringSliceVar(&o.types, "type", nil, "only keys of these types, with commas")
	f.StringVar(&o.databases, "databases", "", "databases to compare, such as 0,2 or 3:0,4:1 (source:target); all that hold keys if left out")
	f.DurationVar(&o.tolerance, "ttl-tolerance", 0, "by how much expiry times may differ")
	f.StringVar(&o.hold, "expiry-hold", "auto", "by how much a sink has written expiry times later: a duration, or auto to ask the target")
	f.IntVar(&o.rounds, "rounds", 3, "how often what differs is looked at")
	f.Var(&o.interval, "interval", "pause between rounds; a number without unit means seconds")
	f.StringArrayVar(&o.settle, "settle", nil, "configuration file of the running pipeline that is waited for in each round; may be repeated")
	f.DurationVar(&o.settleStall, "settle-stall", connectors.SettleStall, "how long that pipeline may stand still before the comparison ends; a source that is idle needs 10s")
	f.IntVar(&o.keysPerSecond, "keys-per-second", 0, "limit of keys looked at; 0: none")
	f.IntVar(&o.bytesPerSecond, "bytes-per-second", 0, "limit of bytes read from both sides together; 0: none")
	f.IntVar(&o.page, "page", 500, "keys of one pipeline")
	f.IntVar(&o.workers, "workers", 4, "pipelines at the same time")
	f.Int64Var(&o.largeBytes, "large-bytes", 1<<20, "values from this size on are read in pieces")
	f.DurationVar(&o.patience, "patience", 30*time.Second, "how long a side may fail to answer before the comparison ends")
	f.StringVar(&o.state, "state", "", "file that lets an interrupted comparison go on; removed when it is done")
	f.StringVar(&o.differences, "differences", "", "file for the list of all differences, one JSON object a line; - for standard output")
	f.IntVar(&o.listed, "listed", 20, "differences that the summary shows")
	f.BoolVar(&o.json, "json", false, "print the summary as JSON")
	f.BoolVar(&o.repair, "repair", false, "copy what differs from the source to the target, and remove there what the source does not have")
	f.BoolVar(&o.anyway, "repair-beside-sink", false, "repair although a sink is writing to the target: a command in flight may then count twice")
	f.BoolVar(&o.noProgress, "no-progress", false, "no progress on standard error")
	o.aliasFlags(f)
}

func (a *app) verify(ctx context.Context, set func(flag string) bool, o verifyOptions) (err error) {
	from, err1 := a.deployment("--from", o.from, "REDRIVER_FROM_PASSWORD", o.fromPassword)
	to, err2 := a.deployment("--to", o.to, "REDRIVER_TO_PASSWORD", o.toPassword)
	opt, err3 := o.options(set)
	if err := errors.Join(err1, err2, err3); err != nil {
		return &usageError{err: err}
	}
	if opt.Databases == nil {
		opt.Databases = databasesOf(from.db, to.db)
	}
	if err := opt.Validate(); err != nil {
		return &usageError{err: err}
	}
	if opt.ExpiryHold, err = o.expiryHold(ctx, to.Deployment); err != nil {
		return err
	}
	if opt.Settle, err = a.settle(o); err != nil {
		return err
	}
	if o.repair && !o.anyway {
		if err := sink.NoneWrites(ctx, &to.Dialer, to.Addrs); err != nil {
			return fmt.Errorf("repair: %w, or pass --repair-beside-sink", err)
		}
	}
	list, closeList, err := a.differenceList(o.differences, goesOn(o.state))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeList()) }()
	opt.Each = list
	opt.Repair = o.repair
	shown := a.verifyProgress(o.noProgress)
	opt.Progress, opt.Notice = shown.progress, shown.notice
	result, err := verify.Compare(ctx, from.Deployment, to.Deployment, opt)
	shown.end()
	if err != nil {
		if o.state != "" && ctx.Err() != nil {
			return fmt.Errorf("interrupted after %s keys; the same command goes on from %s", count(result.Keys), o.state)
		}
		return err
	}
	return a.verdict(o, result)
}

// settle is the wait for the pipeline; nil if none was named.
func (a *app) settle(o verifyOptions) (func(context.Context) error, error) {
	if len(o.settle) == 0 {
		return nil, nil
	}
	var cfgs []*connectors.Config
	for _, file := range o.settle {
		cfg, err := connectors.Load(connectors.Input{File: file, Environ: a.environ})
		if err != nil {
			return nil, err
		}
		cfgs = append(cfgs, cfg)
	}
	return func(ctx context.Context) error { return connectors.Settle(ctx, o.settleStall, cfgs...) }, nil
}

// verdict prints the result and turns it into an exit code.
func (a *app) verdict(o verifyOptions, r verify.Result) error {
	if o.json {
		b, err := json.Marshal(struct {
			Verdict   string `json:"verdict"`
			Identical bool   `json:"identical"`
			verify.Result
		}{r.Verdict(), r.Identical(), r})
		if err != nil {
			return fmt.Errorf("print summary: %w", err)
		}
		say(a.stdout, "%s", b)
	} else {
		say(a.stdout, "%s", r)
	}
	if !r.Identical() {
		return &exitError{errors.New(""), verifyDifferent}
	}
	return nil
}

// side is a deployment as an address of the command line names it.
type side struct {
	verify.Deployment
	db int // -1: not said
}

func (a *app) deployment(flag, text, passwordVar, password string) (side, error) {
	text, db, err := cutDatabase(flag, text)
	if err != nil {
		return side{}, err
	}
	address, err := a.redisAddress(flag, text, "")
	if err != nil {
		return side{}, err
	}
	d, err := a.dialer(flag, address, passwordVar)
	if err != nil {
		return side{}, err
	}
	if password != "" {
		d.Username, d.Password = splitPassword(password)
	}
	return side{verify.Deployment{Addrs: splitAddrs(address["redis.address"]), Dialer: *d}, db}, nil
}

// options of the comparison, as far as the arguments alone tell them.
func (o *verifyOptions) options(set func(flag string) bool) (verify.Options, error) {
	opt := verify.Options{
		Mode: verify.Mode(o.mode), SampleN: o.sampleN,
		TTLTolerance: o.tolerance, Rounds: o.rounds, Interval: time.Duration(o.interval),
		KeysPerSecond: o.keysPerSecond, BytesPerSecond: o.bytesPerSecond, Page: o.page, Workers: o.workers,
		LargeBytes: o.largeBytes, Patience: o.patience, MaxListed: o.listed, State: o.state,
	}
	opt.Filter.Prefixes, opt.Filter.Patterns, opt.Filter.Types = o.prefixes, o.patterns, o.types
	if o.sampleN != 0 && !set("mode") {
		opt.Mode = verify.Sample
	}
	var errs []error
	var err error
	if opt.Filter.Slots, err = parseSlots(o.slots); err != nil {
		errs = append(errs, err)
	}
	if opt.Databases, err = parseDatabases(o.databases); err != nil {
		errs = append(errs, err)
	}
	if err := o.aliasOptions(set, &opt); err != nil {
		errs = append(errs, err)
	}
	return opt, errors.Join(errs...)
}

// expiryHold is what was given, or what a sink has noted at the target.
func (o *verifyOptions) expiryHold(ctx context.Context, to verify.Deployment) (time.Duration, error) {
	if o.hold != "auto" {
		d, err := time.ParseDuration(o.hold)
		if err != nil {
			return 0, &usageError{err: fmt.Errorf("--expiry-hold %q: want a duration such as 87600h, or auto", o.hold)}
		}
		return d, nil
	}
	hold, err := sink.HoldAt(ctx, &to.Dialer, to.Addrs)
	if err != nil {
		return 0, fmt.Errorf("ask the target for the hold of its expiry times: %w (--expiry-hold tells it)", err)
	}
	return hold, nil
}

// goesOn tells whether there is a state to go on from.
func goesOn(state string) bool {
	_, err := os.Stat(state)
	return state != "" && err == nil
}

// differenceList opens the file for the list of differences. One that belongs to the same comparison is added to: what an
// interrupted process had told is not told again.
func (a *app) differenceList(name string, again bool) (each func(verify.Difference), end func() error, err error) {
	if name == "" {
		return nil, func() error { return nil }, nil
	}
	w, closer := a.stdout, io.Closer(io.NopCloser(nil))
	if name != "-" {
		flag := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
		if again {
			flag = os.O_CREATE | os.O_WRONLY | os.O_APPEND
		}
		f, err := os.OpenFile(name, flag, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("open list of differences: %w", err)
		}
		w, closer = f, f
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	var failed error
	return func(d verify.Difference) {
			if err := enc.Encode(d); err != nil && failed == nil {
				failed = fmt.Errorf("write list of differences: %w", err)
			}
		}, func() error {
			return errors.Join(failed, closer.Close())
		}, nil
}
