package source

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// Config of a source. Zero values take the defaults that Validate fills in.
type Config struct {
	// Connector is the source's name: it begins its transactional ids and the keys of its offsets.
	Connector string
	// Prefix names the topics <prefix>.changes and <prefix>.offsets.
	Prefix string
	Kafka  kafka.Config
	// Dialer and Seeds reach the cluster: any one node is enough.
	Dialer *topology.Dialer
	Seeds  []string
	// Partitions of the data topic, fixed for its life. 0 takes what the topic has, or 12, for a cluster, and 1 for a single
	// server or a pair: only with one partition the order is total, and any command may have keys of several slots.
	Partitions int32
	// Replication factor of the topics; 0 takes 3 where there are three brokers.
	Replication int16
	// DataDir holds the spools, one folder for each shard.
	DataDir string
	// SpoolMemoryBytes (48 MiB) is what the spools of all shards hold in memory, SpoolDiskBytes (8 GiB) what each may have
	// on disk.
	SpoolMemoryBytes, SpoolDiskBytes int64
	// ProducerBytes (48 MiB) is what all shards together have on its way to Kafka.
	ProducerBytes int64
	// FullSyncsPerHost bounds the snapshots that one host makes for us at a time, 2 by default.
	FullSyncsPerHost int
	// ResyncMax (8) full resynchronisations in a row that led to nothing are followed by a pause of ResyncPause (10 min)
	// before each further one.
	ResyncMax   int
	ResyncPause time.Duration
	// LinkTimeout is how long a master may be silent, 60 s by default.
	LinkTimeout time.Duration
	// CommitInterval (20 ms) is the longest that a write waits for others before a commit, MaxCommitInterval (200 ms)
	// the same under backlog.
	CommitInterval, MaxCommitInterval time.Duration
	// Commits bounds the transactions per second of all lanes of a worker; shared. 400/s by default.
	Commits *rate.Limiter
	// TransactionTimeout after which Kafka gives up a transaction of ours that hangs, 30 s by default.
	TransactionTimeout time.Duration
	// ReadFrom says which nodes are joined: ReadFromMaster by default.
	ReadFrom string
	// MaxUnitBytes bounds one unit or one value, 256 MiB by default.
	MaxUnitBytes int
	// ModuleAux says what is done about data of modules that belongs to no key: ModuleAuxStop by default.
	ModuleAux string
	// DrainTimeout bounds the last flush and commit when stopping, 10 s by default.
	DrainTimeout time.Duration

	// lookAt stands for the master's own clock where a test has it lie.
	lookAt func(ctx context.Context, client *redis.Client) (look, error)
}

const (
	defaultPartitions         = 12
	defaultFullSyncsPerHost   = 2
	defaultResyncMax          = 8
	defaultResyncPause        = 10 * time.Minute
	defaultLinkTimeout        = 60 * time.Second
	defaultCommitInterval     = 20 * time.Millisecond
	defaultMaxCommitInterval  = 200 * time.Millisecond
	defaultCommitsPerSecond   = 400
	commitBurst               = 8
	defaultTransactionTimeout = 30 * time.Second
	defaultMaxUnitBytes       = 256 << 20
	defaultSpoolMemoryBytes   = 48 << 20
	defaultSpoolDiskBytes     = 8 << 30
	defaultProducerBytes      = 48 << 20
	defaultDrainTimeout       = 10 * time.Second
)

// Which node of a shard is joined.
const (
	ReadFromMaster = "master"
	// ReadFromReplica joins a replica where one is in step with its master, so that the snapshot is its work, and the
	// master where none is. A replica passes its master's stream on byte by byte, under the same replication ID and offsets.
	ReadFromReplica = "replica"
)

var validName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// NewCommits is a budget of transactions. Lanes that want one at the same time do not wait for each other, as long as there are
// not more over time than so many per second.
func NewCommits(perSecond int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), commitBurst)
}

// Validate fills in defaults and returns all faults.
func (c *Config) Validate() error {
	orDefault(&c.FullSyncsPerHost, defaultFullSyncsPerHost)
	orDefault(&c.ResyncMax, defaultResyncMax)
	orDefault(&c.ResyncPause, defaultResyncPause)
	orDefault(&c.LinkTimeout, defaultLinkTimeout)
	orDefault(&c.CommitInterval, defaultCommitInterval)
	orDefault(&c.MaxCommitInterval, defaultMaxCommitInterval)
	orDefault(&c.TransactionTimeout, defaultTransactionTimeout)
	orDefault(&c.MaxUnitBytes, defaultMaxUnitBytes)
	orDefault(&c.DrainTimeout, defaultDrainTimeout)
	orDefault(&c.ModuleAux, ModuleAuxStop)
	orDefault(&c.ReadFrom, ReadFromMaster)
	if c.Commits == nil {
		c.Commits = NewCommits(defaultCommitsPerSecond)
	}
	var errs []error
	if !validName.MatchString(c.Connector) {
		errs = append(errs, fmt.Errorf("connector name %q: use letters, digits, dot, dash and underscore", c.Connector))
	}
	if !validName.MatchString(c.Prefix) {
		errs = append(errs, fmt.Errorf("topic prefix %q: use letters, digits, dot, dash and underscore", c.Prefix))
	}
	if c.Partitions < 0 || c.Partitions > slot.Count {
		errs = append(errs, fmt.Errorf("partitions %d: want 1 to %d", c.Partitions, slot.Count))
	}
	orDefault(&c.SpoolDiskBytes, defaultSpoolDiskBytes)
	orDefault(&c.SpoolMemoryBytes, defaultSpoolMemoryBytes)
	orDefault(&c.ProducerBytes, defaultProducerBytes)
	if c.SpoolDiskBytes < 2*int64(c.MaxUnitBytes) {
		errs = append(errs, fmt.Errorf("spool disk of %d bytes: want at least twice the largest unit, %d bytes", c.SpoolDiskBytes, c.MaxUnitBytes))
	}
	if len(c.Seeds) == 0 || c.Dialer == nil {
		errs = append(errs, errors.New("no redis address given"))
	}
	if c.ModuleAux != ModuleAuxStop && c.ModuleAux != ModuleAuxSkip {
		errs = append(errs, fmt.Errorf("data of modules %q: want %s or %s", c.ModuleAux, ModuleAuxStop, ModuleAuxSkip))
	}
	if c.ReadFrom != ReadFromMaster && c.ReadFrom != ReadFromReplica {
		errs = append(errs, fmt.Errorf("read from %q: want %s or %s", c.ReadFrom, ReadFromMaster, ReadFromReplica))
	}
	if c.DataDir == "" || !filepath.IsAbs(c.DataDir) {
		errs = append(errs, fmt.Errorf("data folder %q: want an absolute path", c.DataDir))
	}
	return errors.Join(append(errs, c.Kafka.Validate())...)
}

// budget is a shard's part of what its connector may hold in memory.
type budget struct {
	spool, producer int64
	chunk           int // of a value or unit that is too large for one record
	// buffer is what is read in one go from the link, and from the spool; arena is a piece of memory for records.
	buffer, arena int
}

const (
	minSpoolBytes    = 1 << 20
	minProducerBytes = 2 << 20
	maxProducerBytes = 16 << 20
	minChunkBytes    = 128 << 10
	maxChunkBytes    = 1 << 20
	minBufferBytes   = 32 << 10
	buffersPerSpool  = 64
	arenasPerShard   = 16
)

func (c *Config) budget(shards int) budget {
	n := int64(max(shards, 1))
	producer := min(max(c.ProducerBytes/n, minProducerBytes), maxProducerBytes)
	return budget{
		spool:    max(c.SpoolMemoryBytes/n, minSpoolBytes),
		producer: producer,
		buffer:   int(min(max(c.SpoolMemoryBytes/n/buffersPerSpool, minBufferBytes), receiveBytes)),
		arena:    int(producer / arenasPerShard),
		chunk:    int(min(max(c.ProducerBytes/n/chunksInFlight, minChunkBytes), maxChunkBytes)),
	}
}
