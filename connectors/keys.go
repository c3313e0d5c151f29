package connectors

import (
	"slices"
	"strconv"

	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/source"
)

// Type of a key's value.
type Type string

// The types. A list is written as a YAML list or as a text with commas.
const (
	TypeText     Type = "text"
	TypeInt      Type = "integer"
	TypeDuration Type = "duration"
	TypeSize     Type = "size"
	TypeFraction Type = "fraction"
	TypeList     Type = "list"
	TypeChoice   Type = "choice"
)

// Key is one row of a configuration table.
type Key struct {
	Name string
	Type Type
	// Default as it would be written; "" for none. Invariant: it passes the key's own check.
	Default string
	// Doc says what the key means, in one or two sentences.
	Doc string
	// Choices of a TypeChoice.
	Choices []string
	// Min and Max are the bounds, written as values are; "" for none.
	Min, Max string
	Required bool
	// Secret values are never printed.
	Secret bool
	// check is a further test of the text; its error completes the sentence "orders: redis.address: ...".
	check func(text string) error
}

// Bounds in words, "" for none.
func (k *Key) Bounds() string {
	switch {
	case len(k.Choices) > 0:
		return orList(k.Choices)
	case k.Min != "" && k.Max != "":
		return k.Min + " to " + k.Max
	case k.Min != "":
		return "at least " + k.Min
	case k.Max != "":
		return "at most " + k.Max
	}
	return ""
}

// Kinds of connectors.
const (
	KindSource = "source"
	KindSink   = "sink"
)

const (
	keyType      = "type"
	keyPrefix    = "topic.prefix"
	keyAddress   = "redis.address"
	keyUsername  = "redis.username"
	keyPassword  = "redis.password"
	keyDataDir   = "data.dir"
	keyBrokers   = "kafka.brokers"
	keyLogLevel  = "log.level"
	keyLogFormat = "log.format"

	keyExpiryHold = "expiry.hold"
	keyPartitions = "topic.partitions"
	keyDatabases  = "databases"
)

// WorkerKeys is the table of the section "worker".
func WorkerKeys() []Key {
	return slices.Concat(workerKeys(), tlsKeys("kafka", "Kafka"), saslKeys())
}

func workerKeys() []Key {
	return []Key{
		{
			Name: keyDataDir, Type: TypeText, Default: "/var/lib/redriver", check: checkAbsolute,
			Doc: "Folder for the spools of the sources: what is read from Redis and not yet committed in Kafka. It has to outlive the process. " +
				"Sinks keep there for a while what they have no memory for, see `sweep.memory.bytes`.",
		},
		{
			Name: keyBrokers, Type: TypeList, Required: true, check: checkAddresses,
			Doc: "Addresses of Kafka brokers to start from, host:port.",
		},
		{Name: "kafka.client.id", Type: TypeText, Default: "redriver", Doc: "Name that the brokers show in their logs and quotas."},
		{
			Name: "kafka.timeout", Type: TypeDuration, Default: "10s", Min: "100ms", Max: "10m",
			Doc: "How long a start waits for the first answer of Kafka.",
		},
		{
			Name: "commit.rate.max", Type: TypeInt, Default: "400", Min: "1", Max: "100000",
			Doc: "Kafka transactions per second of all sources of the worker together; up to 8 may begin at once.",
		},
		{
			Name: "memory.target", Type: TypeSize, Default: "192MiB", Min: "0", Max: "1024GiB",
			Doc: "Memory that the garbage collector tries to stay below, by working harder, and up to which it works little; 0 for neither. Give a process a third more. `GOMEMLIMIT` and `GOGC` in the environment go before it.",
		},
		{
			Name: "restart.pause", Type: TypeDuration, Default: "1s", Min: "10ms", Max: "1h",
			Doc: "Pause before a failed connector is started again. It doubles with every failure in a row.",
		},
		{
			Name: "restart.pause.max", Type: TypeDuration, Default: "1m", Min: "10ms", Max: "24h",
			Doc: "Longest pause before a failed connector is started again.",
		},
		{Name: keyLogLevel, Type: TypeChoice, Default: "info", Choices: []string{"debug", "info", "warn", "error"}, Doc: "Least level that is logged."},
		{
			Name: keyLogFormat, Type: TypeChoice, Default: "text", Choices: []string{"text", "json"},
			Doc: "Form of the log on standard error.",
		},
	}
}

// CommonKeys is the table of what all connectors have.
func CommonKeys() []Key { return slices.Concat(commonKeys(), tlsKeys("redis", "Redis")) }

func commonKeys() []Key {
	return []Key{
		{
			Name: keyType, Type: TypeChoice, Required: true, Choices: []string{KindSource, KindSink},
			Doc: "A source carries Redis into Kafka, a sink carries Kafka into Redis.",
		},
		{
			Name: keyPrefix, Type: TypeText, Required: true, check: checkName,
			Doc: "Names the topics `<prefix>.changes` and `<prefix>.offsets`. One source writes them, any number of sinks reads them.",
		},
		{
			Name: keyAddress, Type: TypeList, Required: true, check: checkAddresses,
			Doc: "Addresses of Redis, host:port. Of a cluster any one node is enough, more help when one is down. Of a single server its own; of " +
				"a pair both, so that the master is found after a failover. Which of these it is the servers say.",
		},
		{Name: keyUsername, Type: TypeText, Doc: "User of Redis; without it the default user."},
		{Name: keyPassword, Type: TypeText, Secret: true, Doc: "Password of Redis. Better a `${file:...}` or `${env:...}` than the text itself."},
		{
			Name: "redis.timeout", Type: TypeDuration, Default: "5s", Min: "100ms", Max: "10m",
			Doc: "Longest wait for a connection to Redis, and for each answer to an administrative command.",
		},
		{
			Name: keyAddressMap, Type: TypeList, check: checkAddressMap,
			Doc: "Where to dial addresses that the servers tell and that cannot be reached from here, as behind NAT: " +
				"`10.0.0.1:6379=proxy.example:7001`, one for each node.",
		},
	}
}

// SourceKeys is the table of what only sources have.
func SourceKeys() []Key {
	return []Key{
		{
			Name: keyPartitions, Type: TypeInt, Default: "0", Min: "0", Max: "16384",
			Doc: "Partitions of the data topic. They share the 16384 slots evenly, and cannot change while the topic is used. 0 takes what " +
				"the topic has, or 12 if there is none yet, for a cluster, and 1 for a single server or a pair: with one the log has the server's total order; with more the order holds by slot, and " +
				"commands whose keys lie in several slots are divided (`DEL`, `UNLINK`, `MSET`) or stop the source (`RENAME`, `SWAPDB`, ...).",
		},
		{
			Name: "redis.read.from", Type: TypeChoice, Default: source.ReadFromMaster, Choices: []string{source.ReadFromMaster, source.ReadFromReplica},
			Doc: "Which node of each shard is joined: its master, or a replica that is in step with it, and the master only where there is none. A replica " +
				"makes the snapshot in the master's place and passes the same stream on; `WAIT` and `min-replicas-to-write` at the master do not count us then.",
		},
		{
			Name: "topic.replication", Type: TypeInt, Default: "0", Min: "0", Max: "32767",
			Doc: "Replicas of topics that are created; 0 takes 3 where there are three brokers, else as many as there are.",
		},
		{
			Name: "spool.memory.bytes", Type: TypeSize, Default: "48MiB", Min: "1MiB", Max: "64GiB",
			Doc: "Memory of the spools of all shards together, at least 1 MiB of each.",
		},
		{
			Name: "producer.memory.bytes", Type: TypeSize, Default: "48MiB", Min: "1MiB", Max: "64GiB",
			Doc: "Memory for records on their way to Kafka, of all shards together: of each at least 2 MiB, at most 16 MiB.",
		},
		{
			Name: "spool.disk.bytes", Type: TypeSize, Default: "8GiB", Min: "1MiB", Max: "1024TiB",
			Doc: "Disk of each shard's spool. When it is full too, the master has to buffer by itself.",
		},
		{
			Name: "snapshot.per.host", Type: TypeInt, Default: "2", Min: "1", Max: "1000",
			Doc: "Snapshots that the masters of one host make for us at a time.",
		},
		{
			Name: "resync.max", Type: TypeInt, Default: "8", Min: "1", Max: "1000",
			Doc: "Full resynchronisations of a shard in a row that may lead to nothing. Then the shard waits `resync.pause` before each further one and says what ended the last: each is a fork at the master.",
		},
		{
			Name: "resync.pause", Type: TypeDuration, Default: "10m", Min: "1s", Max: "24h",
			Doc: "How long a shard waits that resynchronises in vain.",
		},
		{
			Name: "link.timeout", Type: TypeDuration, Default: "1m", Min: "1s", Max: "24h",
			Doc: "How long a master may be silent before its link counts as lost. A master speaks every `repl-ping-replica-period`, 10 s by default.",
		},
		{
			Name: "commit.interval", Type: TypeDuration, Default: "20ms", Min: "1ms", Max: "10s",
			Doc: "Longest that a write waits for others before it is committed.",
		},
		{
			Name: "commit.interval.max", Type: TypeDuration, Default: "200ms", Min: "1ms", Max: "10s",
			Doc: "The same under backlog, where fewer and larger transactions carry more.",
		},
		{
			Name: "transaction.timeout", Type: TypeDuration, Default: "30s", Min: "1s", Max: "15m",
			Doc: "After this time Kafka ends a transaction of a source that hangs; until then readers of its partitions wait.",
		},
		{
			Name: "unit.max.bytes", Type: TypeSize, Default: "256MiB", Min: "1MiB", Max: "1GiB",
			Doc: "Largest command or transaction of the stream, and largest key, that is carried: it passes through memory. A larger one stops the " +
				"source. The values of a snapshot may have any size.",
		},
		{
			Name: "module.aux", Type: TypeChoice, Default: source.ModuleAuxStop, Choices: []string{source.ModuleAuxStop, source.ModuleAuxSkip},
			Doc: "Data that a module of Redis keeps outside of keys, which no command can bring to a target: stop, or skip it and count.",
		},
		drainKey("Longest that a stopping source takes to commit what it has read."),
	}
}

// SinkKeys is the table of what only sinks have.
func SinkKeys() []Key {
	keys := []Key{
		{
			Name: "target.existing.keys", Type: TypeChoice, Default: string(sink.ExistingRefuse),
			Choices: []string{string(sink.ExistingRefuse), string(sink.ExistingReplace), string(sink.ExistingKeep)},
			Doc: "What a new sink does when the target already holds keys: refuse to start; replace them, so that the target becomes equal " +
				"to the source; keep those that the source does not have.",
		},
		{
			Name: "target.eviction", Type: TypeChoice, Default: string(sink.EvictionRefuse),
			Choices: []string{string(sink.EvictionRefuse), string(sink.EvictionAccept)},
			Doc: "What happens when a node of the target is set up to evict keys (`maxmemory` with a policy other than noeviction), or has evicted " +
				"some: refuse to start, and stop; or accept it, with a warning when it evicts. Evicted keys are missing at the target, and later " +
				"writes make parts of them again. A full target that evicts nothing is waited for.",
		},
		{
			Name: "target.unsupported", Type: TypeChoice, Default: string(sink.UnsupportedStop),
			Choices: []string{
				string(sink.UnsupportedStop), string(sink.UnsupportedSkip), string(sink.UnsupportedKeep), string(sink.UnsupportedDeadLetter),
			},
			Doc: "What the source has and the target cannot have, such as expiry times of hash fields before Redis 7.4 and Valkey 9, or values of " +
				"modules it does not load: stop with the key's name; skip such values, which are counted and not at the target then; keep the values " +
				"without it (fields without their expiry), and stop where nothing could be kept; or skip them and write their records into the topic " +
				"`<prefix>.dead`, see [dead letters](dead-letters.md).",
		},
		{
			Name: keyDatabases, Type: TypeText, Default: "all", check: checkDatabases,
			Doc: "Which database of the source goes into which of the target: `all`, each into its own, or pairs such as `0:0,3:1`. A cluster " +
				"has database 0 only. The sink keeps its own keys in the lowest one that it fills, and cannot change the map in its life. With `all` " +
				"every database of a single target belongs to the sink.",
		},
		{
			Name: "databases.unmapped", Type: TypeChoice, Default: string(sink.UnmappedStop),
			Choices: []string{string(sink.UnmappedStop), string(sink.UnmappedSkip)},
			Doc:     "What happens with writes in databases that go nowhere: the sink stops and names them, or leaves them out.",
		},
	}
	return append(append(keys, expiryKeys()...), applyKeys()...)
}

func expiryKeys() []Key {
	return []Key{
		{
			Name: "expiry.mode", Type: TypeChoice, Default: "auto", Choices: []string{"auto", string(sink.ExpiryHold), string(sink.ExpiryImport)},
			Doc: "How keys are kept from expiring at the target before what the source still does to them has arrived. hold: by `expiry.hold`. import: " +
				"by the import mode of Valkey 8.1 and newer, which is switched on at every node of the target and off by `redriver finish`; times are " +
				"exact then, and the target evicts nothing. auto is hold.",
		},
		{
			Name: keyExpiryHold, Type: TypeDuration, Default: "87600h", Min: "0s", Max: "262800h",
			Doc: "By how much expiry times are written later at the target than they are, so that no key expires there before what the source " +
				"still does to it has arrived, however late: the source's own `DEL` removes it on time. `redriver finish` sets exact times when the " +
				"copy is done. 0 writes exact times at once: a sink that lags behind a short time to live may then lose keys or stop. At least 8760h " +
				"otherwise; it cannot change in the life of a sink.",
		},
		{
			Name: "expiry.overdue", Type: TypeChoice, Default: string(sink.OverdueRefuse),
			Choices: []string{string(sink.OverdueRefuse), string(sink.OverdueAccept)},
			Doc: "What a sink does that finds writes older than `expiry.hold`, since it was away for longer than that: keys may have expired at the " +
				"target meanwhile that the source renewed. refuse: it stops before the first of them. accept: it goes on with a warning, and " +
				"`redriver verify --repair` mends what was lost.",
		},
	}
}

// applyKeys is how a sink writes.
func applyKeys() []Key {
	return []Key{
		{
			Name: "sweep.policy", Type: TypeChoice, Default: string(sink.SweepDelete),
			Choices: []string{string(sink.SweepDelete), string(sink.SweepReport), string(sink.SweepKeep)},
			Doc:     "Keys that a new snapshot no longer has: delete them at the target, report how many there are, or keep them and do not look.",
		},
		{
			Name: "sweep.max", Type: TypeFraction, Default: "0.2", Min: "0.0001", Max: "1",
			Doc: "Largest part of a shard's keys that a sweep may remove; above it the sink stops and asks. Also as a percentage, `20%`; 1 switches this off.",
		},
		{
			Name: "sweep.memory.bytes", Type: TypeSize, Default: "32MiB", Min: "1MiB", Max: "64GiB",
			Doc: "Memory for what a sweep needs to know of a snapshot: 11 to 33 bytes for each key while it is being read. What is above lies in `data.dir` " +
				"meanwhile, or in the folder for temporary files where that cannot be written, in files without a name: 8 bytes for each key, at times 16.",
		},
		{
			Name: "log.lost", Type: TypeChoice, Default: string(sink.LogLostStop), Choices: []string{string(sink.LogLostStop), string(sink.LogLostSnapshot)},
			Doc: "What happens when the log no longer holds what the sink has to read next, because retention removed it while the sink was away: " +
				"stop and say what is lost, or start again at the newest complete snapshot, whose sweep removes what was deleted meanwhile. If the log " +
				"has none, the sink waits for one: `redriver resync` has the source take it.",
		},
		{
			Name: "target.functions", Type: TypeChoice, Default: string(sink.FunctionsReplace),
			Choices: []string{string(sink.FunctionsReplace), string(sink.FunctionsSkip), string(sink.FunctionsStop)},
			Doc: "Libraries of functions: replace those of the target by the source's, and remove what the source removes, `FUNCTION FLUSH` included; " +
				"skip them and count; or stop at the first one. A target before Redis 7.0 has none: there, replace stops too.",
		},
		{Name: "batch.bytes", Type: TypeSize, Default: "1MiB", Min: "1KiB", Max: "1GiB", Doc: "What one partition sends before it waits for the answers."},
		{Name: "batch.units", Type: TypeInt, Default: "8000", Min: "1", Max: "1000000", Doc: "The same, counted in commands and transactions. The larger a batch is, the more of a slot's guarded writes share a transaction; without any of them it ends at 2000."},
		{
			Name: "guarded.wait", Type: TypeDuration, Default: "250ms", Min: "0s", Max: "10s",
			Doc: "How far apart the batches of a partition are begun, unless they are full, while more than 2500 guarded writes (`INCR`, `LPUSH`, " +
				"transactions, all that cannot be done twice) come to many of its slots in a second. More of a slot's share a transaction then, " +
				"which costs the target less, and they are seen so much later. 0 for none of it.",
		},
		{
			Name: "event.max.bytes", Type: TypeSize, Default: "512MiB", Min: "1MiB", Max: "1GiB",
			Doc: "Largest event that is put together from its chunks, and largest command that cannot be written in pieces. It has to hold what " +
				"`unit.max.bytes` of the source lets through.",
		},
		{
			Name: "rebuild.bytes", Type: TypeSize, Default: "1MiB", Min: "1KiB", Max: "1GiB",
			Doc: "Values of a snapshot above this size are not held in memory: they are built in pieces under another key of the same slot, which " +
				"takes the key's place in the end, or loaded at once, see `restore.bytes`. Commands and transactions above eight times of it are not " +
				"held either, see [large.md](large.md).",
		},
		{
			Name: "restore.bytes", Type: TypeSize, Default: "32MiB", Min: "1KiB", Max: "64MiB",
			Doc: "Hashes, lists, sets, sorted sets and streams of a snapshot that are larger than eight times `rebuild.bytes`, and no larger than this, " +
				"go to the target with one `RESTORE`, for about half of the CPU that it needs to build them in pieces. It answers nobody while it loads " +
				"one: 0.3 s at the default. Each member or field counts as 64 bytes at least. Not above eight times `rebuild.bytes` there are none.",
		},
		{Name: "fetch.bytes", Type: TypeSize, Default: "64MiB", Min: "1MiB", Max: "64GiB", Doc: "Memory for records that are read and not applied yet."},
		{
			Name: "session.timeout", Type: TypeDuration, Default: "30s", Min: "6s", Max: "30m",
			Doc: "A worker that Kafka does not hear of for so long loses its partitions to others.",
		},
		{
			Name: "reply.timeout", Type: TypeDuration, Default: "30s", Min: "1s", Max: "1h",
			Doc: "How long the target may be silent before its connection counts as lost.",
		},
		drainKey("Longest that a partition which is taken away, or a stopping sink, waits for answers of the target."),
	}
}

func drainKey(doc string) Key {
	return Key{Name: "drain.timeout", Type: TypeDuration, Default: "10s", Min: "100ms", Max: "10m", Doc: doc}
}

// keysOf is the whole table of a kind of connector; of an unknown kind, what all have.
func keysOf(kind string) []Key {
	switch kind {
	case KindSource:
		return append(CommonKeys(), SourceKeys()...)
	case KindSink:
		return append(CommonKeys(), SinkKeys()...)
	}
	return CommonKeys()
}

func hasKey(keys []Key, name string) bool {
	return slices.ContainsFunc(keys, func(k Key) bool { return k.Name == name })
}

func orList(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		var b []byte
		for i, w := range words {
			switch {
			case i == n-1:
				b = append(b, " or "...)
			case i > 0:
				b = append(b, ", "...)
			}
			b = append(b, w...)
		}
		return string(b)
	}
}

func quote(s string) string { return strconv.QuoteToASCII(s) }
