package connectors

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/source"
)

// Config is a checked configuration.
type Config struct {
	Worker Worker
	// Connectors by name.
	Connectors []Connector
}

// Worker is the process that runs connectors.
type Worker struct {
	DataDir      string
	Kafka        kafka.Config
	KafkaTimeout time.Duration
	LogLevel     string
	LogFormat    string
	// Commits is the budget of transactions that all sources share.
	Commits *rate.Limiter
	// MemoryTarget is what the process should stay below, in bytes; 0 for nothing in particular.
	MemoryTarget int64

	restartPause, restartPauseMax time.Duration
	values                        Values
}

func newWorker(v Values, fault func(key, what, hint string)) Worker {
	return Worker{
		DataDir:         v.text(keyDataDir),
		Kafka:           kafkaConfig(v, fault),
		KafkaTimeout:    v.duration("kafka.timeout"),
		LogLevel:        v.text(keyLogLevel),
		LogFormat:       v.text(keyLogFormat),
		Commits:         source.NewCommits(v.integer("commit.rate.max")),
		MemoryTarget:    v.integer("memory.target"),
		restartPause:    v.duration("restart.pause"),
		restartPauseMax: v.duration("restart.pause.max"),
		values:          v,
	}
}

// Connector is the configuration of one connector.
type Connector struct {
	Name string
	// Kind is KindSource or KindSink.
	Kind   string
	values Values

	tls   *tls.Config       // nil: off
	addrs map[string]string // the address map
}

// Prefix of the topics.
func (c *Connector) Prefix() string { return c.values.text(keyPrefix) }

// Seeds are the addresses of the Redis cluster that were given.
func (c *Connector) Seeds() []string { return c.values.list(keyAddress) }

// Dialer reaches that cluster.
func (c *Connector) Dialer() *topology.Dialer {
	return &topology.Dialer{
		Username: c.values.text(keyUsername), Password: c.values.text(keyPassword), Timeout: c.values.duration("redis.timeout"),
		TLS: c.tls, AddressMap: c.addrs,
	}
}

// check finds what contradicts itself, and reads the files that are named.
func (c *Connector) check(fault func(key, what, hint string)) {
	v := c.values
	var err error
	if c.tls, err = tlsConfig(v, "redis"); err != nil {
		fault("redis.tls", err.Error(), "")
	}
	if list := v.list(keyAddressMap); len(list) > 0 {
		c.addrs, _ = parseAddressMap(list) // its check has passed, or told of it
	}
	if v.text(keyUsername) != "" && v.text(keyPassword) == "" {
		fault(keyUsername, "is given without redis.password", "give both, or neither")
	}
	if c.Kind == KindSource && v.duration("commit.interval") > v.duration("commit.interval.max") {
		fault("commit.interval", "is above commit.interval.max", "lower it, or raise the other")
	}
	if c.Kind == KindSink && v.text("sweep.policy") == string(sink.SweepKeep) && v.text("target.existing.keys") == string(sink.ExistingReplace) {
		fault("target.existing.keys", "is replace, and sweep.policy is keep: it is the sweep that would remove the replaced keys",
			"choose sweep.policy: delete, or target.existing.keys: keep")
	}
}

// checkTogether finds what connectors do to each other.
func (cfg *Config) checkTogether(fault func(Fault)) {
	for i, a := range cfg.Connectors {
		for _, b := range cfg.Connectors[i+1:] {
			if a.Prefix() == "" || a.Prefix() != b.Prefix() {
				continue
			}
			if a.Kind == KindSource && b.Kind == KindSource {
				fault(Fault{"connector " + b.Name, keyPrefix, fmt.Sprintf("is that of source %s too (%s)", a.Name, quote(a.Prefix())), "give each source its own"})
			}
			same := slices.ContainsFunc(a.Seeds(), func(addr string) bool { return slices.Contains(b.Seeds(), addr) })
			if a.Kind != b.Kind && same {
				fault(Fault{
					"connector " + b.Name, keyAddress, fmt.Sprintf("is that of %s too, with the same topic.prefix", a.Name),
					"a deployment cannot be copied into itself: name the other one",
				})
			}
		}
	}
	for i, c := range cfg.Connectors {
		// What the source lets through has to pass the sink.
		for _, s := range cfg.Connectors[:i] {
			source, sink := s, c
			if source.Kind == KindSink {
				source, sink = c, s
			}
			if source.Kind == sink.Kind || source.Prefix() != sink.Prefix() {
				continue
			}
			if source.values.integer("unit.max.bytes") > sink.values.integer("event.max.bytes") {
				fault(Fault{"connector " + sink.Name, "event.max.bytes", "is below unit.max.bytes of " + source.Name, "raise it"})
			}
		}
	}
}

// sourceConfig is for source.New.
func (cfg *Config) sourceConfig(c *Connector) source.Config {
	v := c.values
	return source.Config{
		Connector: c.Name, Prefix: c.Prefix(), Kafka: cfg.Worker.Kafka, Dialer: c.Dialer(), Seeds: c.Seeds(),
		Partitions:         int32(v.integer(keyPartitions)),
		Replication:        int16(v.integer("topic.replication")),
		DataDir:            filepath.Join(cfg.Worker.DataDir, "spool"),
		SpoolMemoryBytes:   v.integer("spool.memory.bytes"),
		ProducerBytes:      v.integer("producer.memory.bytes"),
		SpoolDiskBytes:     v.integer("spool.disk.bytes"),
		ReadFrom:           v.text("redis.read.from"),
		FullSyncsPerHost:   int(v.integer("snapshot.per.host")),
		ResyncMax:          int(v.integer("resync.max")),
		ResyncPause:        v.duration("resync.pause"),
		LinkTimeout:        v.duration("link.timeout"),
		CommitInterval:     v.duration("commit.interval"),
		MaxCommitInterval:  v.duration("commit.interval.max"),
		Commits:            cfg.Worker.Commits,
		TransactionTimeout: v.duration("transaction.timeout"),
		MaxUnitBytes:       int(v.integer("unit.max.bytes")),
		ModuleAux:          v.text("module.aux"),
		DrainTimeout:       v.duration("drain.timeout"),
	}
}

// DefaultExpiryHold is the hold of sinks that are not told otherwise.
const DefaultExpiryHold = 87600 * time.Hour

// sinkConfig is for sink.New.
func (cfg *Config) sinkConfig(c *Connector) sink.Config {
	v := c.values
	databases, _ := sink.ParseDatabases(v.text(keyDatabases)) // checked when it was read
	mode, hold := sink.ExpiryHold, v.duration(keyExpiryHold)
	if v.text("expiry.mode") == string(sink.ExpiryImport) {
		mode, hold = sink.ExpiryImport, 0
	}
	return sink.Config{
		Name: c.Name, Prefix: c.Prefix(), Kafka: cfg.Worker.Kafka, Dialer: c.Dialer(), Seeds: c.Seeds(),
		Databases:        databases,
		Unmapped:         sink.UnmappedPolicy(v.text("databases.unmapped")),
		ExistingKeys:     sink.ExistingKeys(v.text("target.existing.keys")),
		Eviction:         sink.EvictionPolicy(v.text("target.eviction")),
		Sweep:            sink.SweepPolicy(v.text("sweep.policy")),
		SweepMax:         v.fraction("sweep.max"),
		SweepMemoryBytes: int(v.integer("sweep.memory.bytes")),
		DataDir:          filepath.Join(cfg.Worker.DataDir, "sweep"),
		LogLost:          sink.LogLostPolicy(v.text("log.lost")),
		Unsupported:      sink.UnsupportedPolicy(v.text("target.unsupported")),
		Functions:        sink.FunctionsPolicy(v.text("target.functions")),
		ExpiryMode:       mode,
		ExpiryHold:       hold,
		Overdue:          sink.OverduePolicy(v.text("expiry.overdue")),
		BatchBytes:       int(v.integer("batch.bytes")),
		BatchUnits:       int(v.integer("batch.units")),
		GuardedWait:      v.duration("guarded.wait"),
		MaxEventBytes:    int(v.integer("event.max.bytes")),
		RebuildBytes:     int(v.integer("rebuild.bytes")),
		RestoreBytes:     int(v.integer("restore.bytes")),
		FetchBytes:       int(v.integer("fetch.bytes")),
		SessionTimeout:   v.duration("session.timeout"),
		DrainTimeout:     v.duration("drain.timeout"),
		ReplyTimeout:     v.duration("reply.timeout"),
	}
}

// String is the effective configuration as YAML: every key with its value, secrets hidden.
func (cfg *Config) String() string {
	var b strings.Builder
	b.WriteString("worker:\n")
	write := func(indent string, keys []Key, v Values) {
		for _, k := range keys {
			if shown, ok := v.shown[k.Name]; ok {
				fmt.Fprintf(&b, "%s%s: %s\n", indent, k.Name, yamlText(shown))
			}
		}
	}
	write("  ", WorkerKeys(), cfg.Worker.values)
	b.WriteString("connectors:\n")
	for i := range cfg.Connectors {
		c := &cfg.Connectors[i]
		b.WriteString("  " + c.Name + ":\n")
		write("    ", keysOf(c.Kind), c.values)
	}
	return b.String()
}

// yamlText quotes what YAML would read as something else than the text it is.
func yamlText(s string) string {
	for _, r := range s {
		plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/,$(){}", r) || r == ':'
		if !plain {
			return quote(s)
		}
	}
	if s == "" || strings.HasPrefix(s, "{") || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ",") || strings.HasSuffix(s, ":") {
		return quote(s)
	}
	return s
}
