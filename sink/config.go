package sink

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/topology"
)

// ExistingKeys says what a new sink does when the target already holds keys.
type ExistingKeys string

// The policies for keys that were at the target first.
const (
	// ExistingRefuse stops before anything is written. It is the default.
	ExistingRefuse ExistingKeys = "refuse"
	// ExistingReplace lets the sweep of each shard's first generation remove them, without a breaker.
	ExistingReplace ExistingKeys = "replace"
	// ExistingKeep leaves out the sweep of each shard's first generation.
	ExistingKeep ExistingKeys = "keep"
)

// SweepPolicy says what happens with keys that a new generation no longer has.
type SweepPolicy string

// The policies of a sweep.
const (
	// SweepDelete removes them. It is the default.
	SweepDelete SweepPolicy = "delete"
	// SweepReport counts them and leaves them.
	SweepReport SweepPolicy = "report"
	// SweepKeep does not look for them.
	SweepKeep SweepPolicy = "keep"
)

// LogLostPolicy says what happens when the log no longer holds what a sink has to read.
type LogLostPolicy string

// The policies for a log that was cut off by retention.
const (
	// LogLostStop stops and says what is lost. It is the default.
	LogLostStop LogLostPolicy = "stop"
	// LogLostSnapshot starts again at the newest complete snapshots in the log, and waits for them if need be.
	LogLostSnapshot LogLostPolicy = "snapshot"
)

// Config says what a sink reads and where it writes. Zero values mean the defaults given.
type Config struct {
	// Name of the sink: [A-Za-z0-9._-]+. It names the consumer group and the sink's own keys in the target, so a name
	// belongs to one pair of log and target for ever.
	Name string
	// Prefix of the topics, see package offsets.
	Prefix string
	Kafka  kafka.Config

	// Dialer reaches the target's nodes, Seeds are some of them, host:port: of a cluster, or a single server, or both of a
	// pair.
	Dialer *topology.Dialer
	Seeds  []string

	// Databases says which database goes where; nil is each into its own. Unmapped is for those it does not name, and for
	// all but 0 if the target is a cluster. Default UnmappedStop.
	Databases Databases
	Unmapped  UnmappedPolicy

	ExistingKeys ExistingKeys
	// Eviction is EvictionRefuse by default.
	Eviction EvictionPolicy
	Sweep    SweepPolicy
	// SweepMax is the part of a shard's keys in one partition that a sweep may remove: above it, and above 100 keys, the
	// sink stops and asks. Default 0.2; 1 switches the breaker off.
	SweepMax float64
	// SweepMemoryBytes bounds the fingerprints of a snapshot's keys in memory, of all partitions together: what is above lies in
	// DataDir meanwhile, which is made if need be. Defaults 32 MiB, the system's folder for temporary files.
	SweepMemoryBytes int
	DataDir          string

	// LogLost is LogLostStop by default.
	LogLost LogLostPolicy

	// Functions says what is done about the source's libraries of functions: FunctionsReplace by default.
	Functions FunctionsPolicy

	// ExpiryHold is by how much expiry times are written later than they are, so that a key does not expire before what
	// the source does to it has arrived; see expiry.go. 0 writes exact times. At least MinExpiryHold otherwise, and the
	// same for the sink's whole life.
	ExpiryHold time.Duration
	// Overdue says what happens with writes that are older than the hold. Default OverdueRefuse.
	Overdue OverduePolicy

	// ExpiryMode is ExpiryHold by default. ExpiryImport needs a target that is Valkey 8.1 or newer on every node, and no hold.
	ExpiryMode ExpiryMode

	// Unsupported says what happens with what the source has and the target cannot have. Default UnsupportedStop.
	Unsupported UnsupportedPolicy

	// BatchBytes and BatchUnits bound what one partition sends before it waits for the answers. Defaults 1 MiB, 8000.
	BatchBytes int
	BatchUnits int
	// GuardedWait is how far apart a partition's batches are begun, unless they are full, while more than 2500 guarded units
	// come in a second, of which eight count in one slot: those are seen so much later, and share transactions at the target.
	// 0 waits for none.
	GuardedWait time.Duration
	// MaxEventBytes bounds one event joined from its chunks. Default 512 MiB, Redis's own bound of a value.
	MaxEventBytes int
	// RebuildBytes is from when on a value of a snapshot that comes in chunks is not joined, but built in pieces under
	// another key that takes the key's place in the end. Default 1 MiB, which a target loads in some tens of milliseconds.
	RebuildBytes int
	// RestoreBytes is up to when a collection above eight times RebuildBytes is loaded by the target at once, with one RESTORE
	// that is not held either, see load.go; each member or field counts as 64 bytes at least. The target does nothing else
	// meanwhile. Default 32 MiB, which it loads in 0.3 s.
	RestoreBytes int
	// FetchBytes is the memory for records that are read and not applied yet, over all partitions. Default 64 MiB. One
	// Kafka batch per partition passes even when it is larger.
	FetchBytes int

	// Instance names this worker among those of the sink, and stays the same when it is started again: then it has its
	// partitions back at once, also after a crash. Without one a worker that crashed is missed after SessionTimeout.
	Instance string
	// SessionTimeout is the group's: a worker that is not heard of for so long loses its partitions, and stops writing by
	// itself after two thirds of it. Default 30 s.
	SessionTimeout time.Duration
	// DrainTimeout bounds how long a partition that is taken away waits for answers in flight. Default 10 s.
	DrainTimeout time.Duration
	// ReplyTimeout is how long the target may be silent before its connection counts as lost. Default 30 s.
	ReplyTimeout time.Duration
}

// MinExpiryHold is the least hold there is: Finish tells held times from exact ones by how far away they are.
const MinExpiryHold = 365 * 24 * time.Hour

const (
	defaultSweepMax       = 0.2
	defaultBatchBytes     = 1 << 20
	defaultBatchUnits     = 8000
	defaultMaxEventBytes  = 512 << 20
	defaultRebuildBytes   = 1 << 20
	defaultRestoreBytes   = 32 << 20
	defaultFetchBytes     = 64 << 20
	defaultSweepBytes     = 32 << 20
	defaultSessionTimeout = 30 * time.Second
	defaultDrainTimeout   = 10 * time.Second
	defaultReplyTimeout   = 30 * time.Second
)

// Validate returns all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("sink: "+format, args...)) }
	if !own.ValidName(c.Name) {
		fault("name %q: want letters, digits, dot, underscore, minus", c.Name)
	}
	if c.Prefix == "" {
		fault("no topic prefix given")
	}
	if err := c.Kafka.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Dialer == nil || len(c.Seeds) == 0 {
		fault("no target given")
	}
	errs = append(errs,
		choice("existing keys", c.ExistingKeys, ExistingRefuse, ExistingReplace, ExistingKeep),
		choice("eviction", c.Eviction, EvictionRefuse, EvictionAccept),
		choice("sweep", c.Sweep, SweepDelete, SweepReport, SweepKeep),
		choice("lost log", c.LogLost, LogLostStop, LogLostSnapshot),
		choice("expiry mode", c.ExpiryMode, ExpiryHold, ExpiryImport),
		choice("overdue", c.Overdue, OverdueRefuse, OverdueAccept),
		choice("unsupported", c.Unsupported, UnsupportedStop, UnsupportedSkip, UnsupportedKeep, UnsupportedDeadLetter),
		choice("unmapped databases", c.Unmapped, UnmappedStop, UnmappedSkip),
		choice("functions", c.Functions, FunctionsReplace, FunctionsSkip, FunctionsStop))
	if c.ExpiryMode == ExpiryImport && c.ExpiryHold != 0 {
		fault("expiry mode %s with a hold: times are exact in it", c.ExpiryMode)
	}
	if c.ExpiryHold != 0 && c.ExpiryHold < MinExpiryHold {
		fault("expiry hold %s: want 0 or at least %s, so that a held time cannot be mistaken for a user's", c.ExpiryHold, MinExpiryHold)
	}
	if c.SweepMax < 0 || c.SweepMax > 1 {
		fault("sweep maximum %g: want a part between 0 and 1", c.SweepMax)
	}
	if c.BatchBytes < 0 || c.BatchUnits < 0 || c.MaxEventBytes < 0 || c.RebuildBytes < 0 || c.RestoreBytes < 0 || c.FetchBytes < 0 || c.SweepMemoryBytes < 0 {
		fault("a limit is negative")
	}
	if c.GuardedWait < 0 || c.SessionTimeout < 0 || c.DrainTimeout < 0 || c.ReplyTimeout < 0 {
		fault("a timeout is negative")
	}
	return errors.Join(errs...)
}

// choice checks that a policy is one of those that there are, or left out.
func choice[P ~string](what string, got P, all ...P) error {
	if got == "" || slices.Contains(all, got) {
		return nil
	}
	return fmt.Errorf("sink: %s %q: want one of %q", what, got, all)
}

// sweeps tells whether a generation, the first of its shard or a later one, ends with a sweep.
func (c *Config) sweeps(first bool) bool {
	return c.Sweep != SweepKeep && (!first || c.ExistingKeys != ExistingKeep)
}

func (c Config) withDefaults() Config {
	defaultTo(&c.ExistingKeys, ExistingRefuse)
	defaultTo(&c.Eviction, EvictionRefuse)
	defaultTo(&c.Sweep, SweepDelete)
	defaultTo(&c.LogLost, LogLostStop)
	defaultTo(&c.ExpiryMode, ExpiryHold)
	defaultTo(&c.Overdue, OverdueRefuse)
	defaultTo(&c.Unsupported, UnsupportedStop)
	defaultTo(&c.Functions, FunctionsReplace)
	defaultTo(&c.SweepMax, defaultSweepMax)
	defaultTo(&c.SweepMemoryBytes, defaultSweepBytes)
	defaultTo(&c.BatchBytes, defaultBatchBytes)
	defaultTo(&c.BatchUnits, defaultBatchUnits)
	defaultTo(&c.MaxEventBytes, defaultMaxEventBytes)
	defaultTo(&c.RebuildBytes, defaultRebuildBytes)
	defaultTo(&c.RestoreBytes, defaultRestoreBytes)
	defaultTo(&c.FetchBytes, defaultFetchBytes)
	defaultTo(&c.SessionTimeout, defaultSessionTimeout)
	defaultTo(&c.DrainTimeout, defaultDrainTimeout)
	defaultTo(&c.ReplyTimeout, defaultReplyTimeout)
	return c
}

func defaultTo[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
