package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/source/spool"
)

// Source carries one cluster into one topic.
type Source struct {
	cfg Config
	log *slog.Logger

	// Set in run, before any shard: the source is no cluster but one master; what each shard may take.
	single   bool
	budget   budget
	arrivals arrivals
	pieces   sync.Pool

	mu     sync.Mutex
	shards map[event.Shard]*shard
	nodes  []string // of the cluster, as last seen
}

// shard is what runs for one shard.
type shard struct {
	status *ShardStatus
	spool  *spool.Spool
	mu     sync.Mutex
	known  topology.Shard
}

// New checks the configuration. It dials nothing.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, log: log, shards: map[event.Shard]*shard{}}, nil
}

// Status of all shards, by number.
func (s *Source) Status() []Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Snapshot
	for _, sh := range s.shards {
		n := sh.status.read()
		if sh.spool != nil {
			n.SpoolBytes = sh.spool.Bytes()
			if why := sh.spool.Stalled(); why != "" {
				n.LastError = "the spool takes no more: " + why
			}
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Snapshot) int { return int(a.Shard) - int(b.Shard) })
	return out
}

// Run replicates until ctx is done; then it commits what it has read and returns nil.
func (s *Source) Run(ctx context.Context) error {
	err := s.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Source) run(ctx context.Context) error {
	adm, err := s.cfg.Kafka.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	found, replIDs, silent, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	topic, err := s.topics(ctx, adm)
	if err != nil {
		return err
	}
	reg := &registry{cfg: &s.cfg, adm: adm, topic: topic}
	cl, err := reg.open(ctx)
	if err != nil {
		return err
	}
	numbered := reg.number(found, replIDs)
	if err = s.mayBegin(reg, numbered, silent); err == nil {
		err = reg.write(ctx, cl)
	}
	cl.Close()
	if err != nil {
		return err
	}
	limit := newHostLimit(s.cfg.FullSyncsPerHost)
	g, ctx := errgroup.WithContext(ctx)
	s.budget = s.cfg.budget(len(numbered))
	for n, known := range numbered {
		g.Go(func() error { return s.runShard(ctx, reg, limit, n, known) })
	}
	return g.Wait()
}

// inspect looks at the cluster before anything is written anywhere. silent are masters that do not answer, by node id.
func (s *Source) inspect(ctx context.Context) (t *topology.Topology, replIDs map[string][]event.ReplID, silent map[string]error, err error) {
	t, err = topology.Find(ctx, s.cfg.Dialer, s.cfg.Seeds, nil)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("discover source: %w", err)
	}
	s.single = t.Single
	s.learn(t)
	if !t.Uncovered.IsEmpty() {
		s.log.Warn("no master serves some slots of the source: their keys are not carried", slog.String("slots", t.Uncovered.String()))
	}
	if len(t.InFlight) > 0 {
		m := t.InFlight[0]
		return nil, nil, nil, fmt.Errorf("discover source: slot %d is being moved from node %.8s to %.8s (%d slots in all): "+
			"finish or cancel it first (redis-cli --cluster fix): slots that move while we join are not followed yet", m.Slot, m.From, m.To, len(t.InFlight))
	}
	replIDs, silent = map[string][]event.ReplID{}, map[string]error{}
	served := false
	for _, sh := range t.Shards {
		if sh.Slots.IsEmpty() {
			continue
		}
		served = true
		l := link{cfg: &s.cfg}
		m, err := l.inspect(ctx, sh.Master.Addr, roleMaster)
		if _, ok := errors.AsType[redis.Error](err); err != nil && (ok || s.single) {
			return nil, nil, nil, fmt.Errorf("discover source: %w", err)
		}
		if err != nil {
			silent[sh.Master.ID] = err
			continue
		}
		replIDs[sh.Master.ID] = append(replIDs[sh.Master.ID], m.replID)
		if !m.replID2.IsZero() {
			replIDs[sh.Master.ID] = append(replIDs[sh.Master.ID], m.replID2)
		}
	}
	if !served {
		return nil, nil, nil, errors.New("discover source: no master serves any slot: the cluster is not formed")
	}
	return t, replIDs, silent, nil
}

// mayBegin: a shard whose master does not answer stops none of the others, if it is known which one it is. A new one has
// to tell first.
func (s *Source) mayBegin(reg *registry, numbered map[event.Shard]topology.Shard, silent map[string]error) error {
	for n, sh := range numbered {
		err := silent[sh.Master.ID]
		if err == nil {
			continue
		}
		if reg.fresh[n] {
			return fmt.Errorf("discover source: %w", err)
		}
		s.log.Warn("a shard's master does not answer: the others begin without it", slog.Any("shard", n), slog.Any("error", err))
	}
	return nil
}

// offsetsSegmentBytes keeps what a start has to read small.
const offsetsSegmentBytes = 16 << 20

// topics creates or checks both topics.
func (s *Source) topics(ctx context.Context, adm *kadm.Client) (kafka.Topic, error) {
	_, err := kafka.Ensure(ctx, adm, kafka.TopicSpec{
		Name: offsets.Topic(s.cfg.Prefix), Partitions: offsets.Partitions, Replication: s.cfg.Replication,
		Settings: map[string]string{"cleanup.policy": "compact", "segment.bytes": strconv.Itoa(offsetsSegmentBytes)},
		Binding:  []string{"cleanup.policy"},
		Hint:     "delete it only together with the data topic",
	})
	if err != nil {
		return kafka.Topic{}, err
	}
	partitions, others := PartitionsOf(s.cfg.Partitions, s.single)
	t, err := kafka.Ensure(ctx, adm, kafka.TopicSpec{
		Name: offsets.ChangesTopic(s.cfg.Prefix), Partitions: partitions, TakesOthers: others, Replication: s.cfg.Replication,
		Settings: map[string]string{"cleanup.policy": "delete"},
		Binding:  []string{"cleanup.policy"},
		Hint: "the number maps slots to partitions and cannot change while the log is used: set topic.partitions to what the topic has, " +
			"or use a new topic.prefix",
	})
	for _, w := range t.Warnings {
		s.log.Warn("the log is less safe than it could be", slog.String("why", w))
	}
	return t, err
}

func (s *Source) runShard(ctx context.Context, reg *registry, limit *hostLimit, n event.Shard, known topology.Shard) error {
	log := s.log.With(slog.Any("shard", n))
	sp, err := spool.Open(spool.Config{
		Dir:         filepath.Join(s.cfg.DataDir, s.cfg.Connector, fmt.Sprintf("shard-%d", n)),
		MemoryBytes: s.budget.spool, DiskBytes: s.cfg.SpoolDiskBytes, Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := sp.Close(); err != nil {
			log.Warn("the spool could not be written: the master is asked again for what it held", slog.Any("error", err))
		}
	}()
	sh := &shard{status: &ShardStatus{}, spool: sp, known: known}
	sh.status.update(func(t *Snapshot) { t.Shard, t.Stage, t.Master = n, StageStarting, known.Master.Addr })
	sh.status.owns(&known.Slots)
	s.mu.Lock()
	s.shards[n] = sh
	s.mu.Unlock()

	gate := newGate()
	lk := &link{cfg: &s.cfg, limit: limit, arrivals: &s.arrivals, spool: sp, gate: gate, status: sh.status, log: log, wake: make(chan struct{}, 1), buffer: s.budget.buffer}
	lk.breaker = breaker{max: s.cfg.ResyncMax, pause: s.cfg.ResyncPause}
	lk.locate = func(ctx context.Context) (place, error) { return s.locate(ctx, sh) }
	ln := &lane{
		cfg: &s.cfg, shard: n, topic: reg.topic, adm: reg.adm, spool: sp, link: lk, gate: gate, status: sh.status, log: log,
		ready: make(chan struct{}), owner: reg.own, known: !reg.fresh[n], single: s.single, budget: s.budget, arrivals: &s.arrivals, pieces: &s.pieces,
	}
	ln.owned = sh.slots
	ln.ask = func(ctx context.Context, args [][]byte) ([][]byte, error) { return s.askKeys(ctx, sh, args) }

	// The link ends when the lane has ended, so that it acknowledges the last commit.
	linkCtx, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLink()
	laneCtx, stopLane := context.WithCancel(ctx)
	defer stopLane()
	var wg sync.WaitGroup
	var linkErr error
	wg.Go(func() { // ends with linkCtx, or with an error that stops the lane
		select {
		case <-ln.ready:
			if err := lk.run(linkCtx); err != nil && linkCtx.Err() == nil {
				linkErr = err
				stopLane()
			}
		case <-linkCtx.Done():
		}
	})
	err = ln.run(laneCtx)
	stopLink()
	wg.Wait()
	if err = errors.Join(linkErr, err); err != nil {
		return fmt.Errorf("shard %d: %w", n, err)
	}
	return nil
}

func (sh *shard) slots() slot.Set {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.known.Slots
}

// locate finds the shard's master and replicas: asked for at every connect, because they may be other nodes than before.
func (s *Source) locate(ctx context.Context, sh *shard) (place, error) {
	sh.mu.Lock()
	known := sh.known
	sh.mu.Unlock()
	learned := []string{known.Master.Addr}
	for _, r := range known.Replicas {
		learned = append(learned, r.Addr)
	}
	learned = slices.DeleteFunc(learned, func(a string) bool { return a == "" })
	seeds := s.cfg.Seeds
	if !s.single {
		// The shard's own nodes know first who its master is; when they are all gone, any other node of the cluster will do.
		seeds = slices.DeleteFunc(slices.Concat(s.knownNodes(), seeds), func(a string) bool { return slices.Contains(learned, a) })
	}
	// Nodes are asked in turn, and each that is gone takes its time.
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout+time.Duration(len(learned)+len(seeds))*max(handshakeTimeout, s.cfg.Dialer.Timeout))
	defer cancel()
	t, err := topology.Find(ctx, s.cfg.Dialer, seeds, learned)
	if err != nil {
		return place{}, fmt.Errorf("find the shard's master: %w", err)
	}
	s.learn(t)
	if t.Single != s.single {
		return place{}, fmt.Errorf("find the shard's master: %s is of another kind than the source was: one is a cluster, the other is not", t.Shards[0].Master.Addr)
	}
	// Whoever serves the shard's slots now is its master: nodes move between shards, slots do so only in a resharding.
	best, most := -1, 0
	for i := range t.Shards {
		common := t.Shards[i].Slots.Intersect(&known.Slots)
		if n := common.Len(); n > most {
			best, most = i, n
		}
	}
	if best < 0 {
		return place{}, errors.New("find the shard's master: no master serves its slots now")
	}
	c := t.Shards[best]
	sh.mu.Lock()
	sh.known = c
	sh.mu.Unlock()
	sh.status.owns(&c.Slots)
	at := place{master: c.Master.Addr}
	for _, r := range c.Replicas {
		if r.Addr != "" {
			at.replicas = append(at.replicas, r.Addr)
		}
	}
	return at, nil
}

// learn notes the nodes of a topology.
func (s *Source) learn(t *topology.Topology) {
	var nodes []string
	for _, sh := range t.Shards {
		for _, n := range append([]topology.Node{sh.Master}, sh.Replicas...) {
			if n.Addr != "" && !slices.Contains(nodes, n.Addr) {
				nodes = append(nodes, n.Addr)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = nodes
}

func (s *Source) knownNodes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.nodes)
}

const askTimeout = 5 * time.Second

// askKeys asks the shard's own COMMAND GETKEYS.
func (s *Source) askKeys(ctx context.Context, sh *shard, args [][]byte) ([][]byte, error) {
	sh.mu.Lock()
	addr := sh.known.Master.Addr
	sh.mu.Unlock()
	client := s.cfg.Dialer.Client(addr)
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	question := []any{"COMMAND", "GETKEYS"}
	for _, a := range args {
		question = append(question, a)
	}
	keys, err := client.Do(ctx, question...).StringSlice()
	var refused redis.Error
	if errors.As(err, &refused) && strings.HasPrefix(refused.Error(), "ERR ") {
		return nil, stop(fmt.Errorf("%s answers COMMAND GETKEYS: %w", addr, err))
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = []byte(k)
	}
	return out, nil
}
