package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// rig is a log, a target, and sinks between them.
type rig struct {
	testing.TB
	w          *testkit.World
	kafka      kafka.Config
	prefix     string
	name       string // of the sink
	target     *redistest.Cluster
	source     *redistest.Node
	partitions int32
}

func newRig(t testing.TB, masters, replicas int) *rig {
	t.Helper()
	return newRigWith(t, redistest.Config{Masters: masters, ReplicasPerMaster: replicas})
}

func newRigWith(t testing.TB, target redistest.Config) *rig {
	t.Helper()
	w := testkit.New(t)
	return &rig{
		TB: t, w: w, kafka: kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}, prefix: "p", name: "t", partitions: 8,
		target: w.ClusterWith(target), source: w.Server(""),
	}
}

// newKafkaRig is newRig on a real broker, which is shared.
func newKafkaRig(t testing.TB) *rig {
	t.Helper()
	w := testkit.New(t)
	name := w.Name("sink")
	return &rig{
		TB: t, w: w, kafka: kafka.Config{Brokers: []string{w.Kafka().Addr()}}, prefix: name, name: name, partitions: 8,
		target: w.Cluster(3, 0), source: w.Server(""),
	}
}

func (r *rig) lane() *lane {
	r.Helper()
	return newLane(r.TB, r.kafka, r.prefix, 1, r.partitions, slot.Range{First: 0, Last: everything}, r.source)
}

func (r *rig) config() Config {
	return Config{
		Name: r.name, Prefix: r.prefix, Kafka: r.kafka, Dialer: &topology.Dialer{Timeout: 2 * time.Second}, Seeds: r.target.Addrs(),
		SessionTimeout: 6 * time.Second, DrainTimeout: 2 * time.Second, ReplyTimeout: 5 * time.Second,
	}
}

// running is a sink that runs.
type running struct {
	*Sink
	t      testing.TB
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

func (r *rig) start(cfg Config) *running {
	r.Helper()
	return r.run(r.prepare(cfg))
}

func (r *rig) prepare(cfg Config) *Sink {
	r.Helper()
	return r.prepareLogged(cfg, func(string) {})
}

// listener hands each message to hear.
type listener struct {
	slog.Handler
	level slog.Level
	hear  func(string)
}

func (h listener) Enabled(context.Context, slog.Level) bool { return true }

func (h listener) Handle(ctx context.Context, r slog.Record) error {
	h.hear(r.Message)
	if r.Level < h.level {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h listener) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(attrs)
	return h
}

func (r *rig) prepareLogged(cfg Config, hear func(string)) *Sink {
	r.Helper()
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelWarn
	}
	s, err := New(cfg, slog.New(listener{slog.NewTextHandler(os.Stderr, nil), level, hear}))
	if err != nil {
		r.Fatal(err)
	}
	return s
}

func (r *rig) run(s *Sink) *running {
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Sink: s, t: r.TB, cancel: cancel, ended: make(chan struct{})}
	go func() { // ends with run.stop
		defer close(run.ended)
		run.err = s.Run(ctx)
	}()
	r.Cleanup(func() {
		cancel()
		<-run.ended
	})
	return run
}

func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	<-r.ended
	if r.err != nil {
		r.t.Fatalf("sink ended: %v", r.err)
	}
}

// await waits for the end of Run.
func (r *running) await() error {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(30 * time.Second):
		r.t.Fatalf("the sink did not end: %+v", r.Status())
	}
	return r.err
}

// same waits until the target is what the source is.
func (r *rig) same(sinks ...*running) {
	r.Helper()
	want := stateOf(r.TB, r.source.Client())
	last := ""
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		for _, s := range sinks {
			select {
			case <-s.ended:
				r.Fatalf("sink ended: %v", s.err)
			default:
			}
		}
		// A new client: one that is kept takes a minute to find out about a failover.
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: r.target.Addrs(), DisableIdentity: true})
		got, err := tryStateOf(r.TB, c)
		c.Close()
		if err != nil {
			last = err.Error()
			continue
		}
		if last = diff(want, got); last == "" {
			return
		}
	}
	for _, s := range sinks {
		for _, p := range s.Status().Partitions {
			r.Logf("%+v", p)
		}
	}
	r.Fatalf("source and target differ:\n%s", last)
}

func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("REDRIVER_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("REDRIVER_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 1))
}

func TestReplay(t *testing.T) {
	t.Parallel()
	testReplay(t, newRig(t, 3, 0))
}

func TestReplayKafka(t *testing.T) {
	t.Parallel()
	testReplay(t, newKafkaRig(t))
}

func testReplay(t *testing.T, r *rig) {
	rng := seed(t)
	l := r.lane()
	for i := range 300 {
		l.source.Set(t.Context(), fmt.Sprintf("k%d", i), i, 0)
		l.source.RPush(t.Context(), fmt.Sprintf("l%d", i), i, "x")
	}
	l.source.PExpire(t.Context(), "k7", time.Hour)
	l.snapshot()
	l.commit(func() {
		for range 2000 {
			l.random(rng)
		}
	})
	s := r.start(r.config())
	r.same(s)
	s.stop()

	// While no sink runs, then while one runs.
	l.commit(func() {
		for range 500 {
			l.random(rng)
		}
	})
	s = r.start(r.config())
	for range 20 {
		l.commit(func() {
			for range 100 {
				l.random(rng)
			}
		})
	}
	r.same(s)
	if p := s.Status().PassedOver; p > 0 {
		t.Errorf("%d writes were passed over after a start in good order", p)
	}
	s.stop()
}

func TestExistingKeysAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 0)
	l := r.lane()
	l.source.Set(t.Context(), "a", 1, 0)
	l.snapshot()
	r.target.Client().Set(t.Context(), "foreign", 1, 0)
	err := r.start(r.config()).await()
	if existing := (*ExistingKeysError)(nil); !errors.As(err, &existing) || string(existing.Key) != "foreign" {
		t.Fatalf("got %v", err)
	}
	if got := diff(map[string]string{"foreign": "string 1 expires 0"}, stateOf(t, r.target.Client())); got != "" {
		t.Errorf("something was written: %s", got)
	}
	cfg := r.config()
	cfg.ExistingKeys = ExistingReplace
	s := r.start(cfg)
	r.same(s)
	s.stop()
}
