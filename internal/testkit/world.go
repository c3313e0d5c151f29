package testkit

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

const stopTimeout = 30 * time.Second

// World owns the servers of one test. Its methods that can fail end the test then; call them from its goroutine.
type World struct {
	tb  testing.TB
	dir string

	mu    sync.Mutex
	count map[string]int // how many of each kind there are, for their names
}

// New returns the world of a test. Its folder is removed if the test passes. If it fails the folder stays and is named in
// the output; it lies below the test's ArtifactDir with -artifacts, else in $REDRIVER_ARTIFACTS, else in the temporary
// folder.
func New(tb testing.TB) *World {
	tb.Helper()
	w := &World{tb: tb, count: map[string]int{}}
	w.dir = w.makeDir()
	// registered first, so it runs last, when all servers have ended
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("logs and data of the servers: %s", w.dir)
		} else if !keepArtifacts() {
			_ = os.RemoveAll(w.dir)
		}
	})
	return w
}

func keepArtifacts() bool {
	f := flag.Lookup("test.artifacts")
	return f != nil && f.Value.String() == "true"
}

var notInFileName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

func (w *World) makeDir() string {
	if keepArtifacts() {
		return w.tb.ArtifactDir()
	}
	parent := os.Getenv("REDRIVER_ARTIFACTS")
	if parent != "" {
		if err := os.MkdirAll(parent, 0o755); err != nil {
			w.tb.Fatalf("make folder of test: %v", err)
		}
		parent, _ = filepath.Abs(parent)
	}
	name := notInFileName.ReplaceAllString(w.tb.Name(), "_")
	dir, err := os.MkdirTemp(parent, "redriver-"+name[:min(len(name), 60)]+"-")
	if err != nil {
		w.tb.Fatalf("make folder of test: %v", err)
	}
	return dir
}

// Path returns a path below the world's folder.
func (w *World) Path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// newDir returns a folder for the next server of a kind: "cluster1", "cluster2".
func (w *World) newDir(kind string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count[kind]++
	return w.Path(kind + strconv.Itoa(w.count[kind]))
}

func (w *World) closeAtEnd(what string, closer func() error) {
	w.tb.Cleanup(func() {
		if err := closer(); err != nil {
			w.tb.Errorf("end %s: %v", what, err)
		}
	})
}

// Cluster starts a Redis cluster of the default version. It ends with the test.
func (w *World) Cluster(masters, replicasPerMaster int) *redistest.Cluster {
	w.tb.Helper()
	return w.ClusterWith(redistest.Config{Masters: masters, ReplicasPerMaster: replicasPerMaster})
}

// ClusterWith starts a Redis cluster; Dir may be left empty.
func (w *World) ClusterWith(cfg redistest.Config) *redistest.Cluster {
	w.tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = w.newDir("cluster")
	}
	c, err := redistest.StartCluster(w.tb.Context(), cfg)
	if err != nil {
		w.tb.Fatalf("no Redis cluster: %v", err)
	}
	w.closeAtEnd("cluster", c.Close)
	return c
}

// Server starts a single Redis server of a version, "" for the default one, outside any cluster.
func (w *World) Server(version string, args ...string) *redistest.Node {
	w.tb.Helper()
	n, err := redistest.StartServer(w.tb.Context(), redistest.ServerConfig{Version: version, Dir: w.newDir("redis"), Args: args})
	if err != nil {
		w.tb.Fatalf("no Redis server: %v", err)
	}
	w.closeAtEnd("redis", n.Close)
	return n
}

// sharedKafka is the broker that all tests of a binary share. It ends with the binary; its folder is removed then.
var sharedKafka = sync.OnceValues(func() (*kafkatest.Broker, error) {
	dir, err := os.MkdirTemp("", "redriver-kafka-")
	if err != nil {
		return nil, err
	}
	if err := proc.RemoveAtExit(dir); err != nil {
		return nil, err
	}
	//nolint:forbidigo // no test's context: the broker outlives the test that comes first
	return kafkatest.Start(context.Background(), kafkatest.Config{Dir: dir})
})

// Kafka returns a real broker that all tests of the binary share: choose names of topics, groups and connectors that are
// the test's own (see Name), and do not kill it. For that there is OwnKafka.
func (w *World) Kafka() *kafkatest.Broker {
	w.tb.Helper()
	b, err := sharedKafka()
	if err != nil {
		w.tb.Fatalf("no Kafka: %v", err)
	}
	w.tb.Cleanup(func() {
		if !w.tb.Failed() {
			return
		}
		if text, err := os.ReadFile(b.LogPath()); err == nil {
			_ = os.WriteFile(w.Path("kafka.log"), text, 0o644)
		}
	})
	return b
}

// OwnKafka starts a real broker for this test alone; Dir may be left empty.
func (w *World) OwnKafka(cfg kafkatest.Config) *kafkatest.Broker {
	w.tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = w.newDir("kafka")
	}
	b, err := kafkatest.Start(w.tb.Context(), cfg)
	if err != nil {
		w.tb.Fatalf("no Kafka: %v", err)
	}
	w.closeAtEnd("kafka", b.Kill)
	return b
}

// KafkaCluster starts real brokers for this test alone; the first is their controller too.
func (w *World) KafkaCluster(n int) []*kafkatest.Broker {
	w.tb.Helper()
	return w.KafkaClusterWith(kafkatest.ClusterConfig{Brokers: n})
}

// KafkaClusterWith starts real brokers for this test alone; Dir may be left empty.
func (w *World) KafkaClusterWith(cfg kafkatest.ClusterConfig) []*kafkatest.Broker {
	w.tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = w.newDir("kafka")
	}
	brokers, err := kafkatest.StartCluster(w.tb.Context(), cfg)
	if err != nil {
		w.tb.Fatalf("no Kafka: %v", err)
	}
	for _, b := range brokers {
		w.closeAtEnd("kafka", b.Kill)
	}
	return brokers
}

// FakeKafka starts an in-process stand-in for Kafka.
func (w *World) FakeKafka() *kafkatest.Fake {
	w.tb.Helper()
	f, err := kafkatest.StartFake(w.newDir("fake"))
	if err != nil {
		w.tb.Fatalf("no fake Kafka: %v", err)
	}
	w.tb.Cleanup(f.Close)
	return f
}

// Name returns a name that is this world's own, for topics and the like: letters, digits and dashes.
func (w *World) Name(prefix string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count["name"]++
	return prefix + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36) +
		"-" + strconv.Itoa(w.count["name"])
}

// Port returns a free port on 127.0.0.1; see proc.FreePorts.
func (w *World) Port() int {
	w.tb.Helper()
	port, err := proc.FreePort()
	if err != nil {
		w.tb.Fatal(err)
	}
	return port
}

// Start starts any other process. It is killed at the end of the test. A log path is chosen if there is none.
func (w *World) Start(cfg proc.Config) *proc.Process {
	w.tb.Helper()
	if cfg.LogPath == "" {
		cfg.LogPath = w.newDir(filepath.Base(cfg.Path)) + ".log"
	}
	p, err := proc.Start(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.closeAtEnd(filepath.Base(cfg.Path), p.Kill)
	return p
}

// Eventually calls check until it returns nil, and fails the test with its last error after the timeout. Between calls
// it waits 2 ms at first and 100 ms at last.
func (w *World) Eventually(timeout time.Duration, what string, check func() error) {
	w.tb.Helper()
	if err := Poll(w.tb.Context(), timeout, check); err != nil {
		w.tb.Fatalf("%s: not so after %v: %v", what, timeout, err)
	}
}

// Poll is Eventually for goroutines that are not the test's: it returns check's last error.
func Poll(ctx context.Context, timeout time.Duration, check func() error) error {
	deadline := time.Now().Add(timeout)
	for wait := 2 * time.Millisecond; ; wait = min(wait*3/2, 100*time.Millisecond) {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().Add(wait).After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}
