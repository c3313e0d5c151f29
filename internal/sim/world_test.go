package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/source"
)

const (
	broker     = "localhost:9092"
	connector  = "c"
	prefix     = "p"
	sourceHost = "source"
	sinkHost   = "sink"
)

// world is one run: a network with everything on it.
type world struct {
	t    testing.TB
	seed uint64
	// began is when the run did, by the bubble's clock.
	began time.Time
	log   *slog.Logger
	dir   string
	net   *network
	from  *deployment
	into  *deployment // with a sink only

	kafka *kfake.Cluster
	watch *time.Timer
	mu    sync.Mutex
	// fatal is why a process ended by itself.
	fatal error

	source *sourceProcess
	sink   *sinkProcess
	// excused: something happened after which a new generation has to follow.
	excused bool
	crashes int
}

func newWorld(t testing.TB, seed uint64, log io.Writer) *world {
	w := &world{t: t, seed: seed, dir: t.TempDir(), net: newNetwork(), began: time.Now()}
	w.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.String("t", a.Value.Time().Sub(w.began).String())
		}
		return a
	}}))
	if log == io.Discard {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.net.plan = clearWeather
	// Without telemetry, which costs each client more than all of its work here.
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.GetTelemetrySubscriptions.Int16(), -1)
	versions.SetMaxKeyVersion(kmsg.PushTelemetry.Int16(), -1)
	cluster, err := kfake.NewCluster(
		kfake.MaxVersions(versions),
		kfake.NumBrokers(1), kfake.Ports(9092),
		kfake.ListenFn(func(_, _ string) (net.Listener, error) { return w.net.listen(broker), nil }),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	)
	if err != nil {
		t.Fatal(err)
	}
	w.kafka = cluster
	w.watch = time.AfterFunc(tooLong, func() {
		debug.SetTraceback("all")
		panic("the run does not end: what is asked to stop does not")
	})
	return w
}

// tooLong is beyond all that a run waits for.
const tooLong = 48 * time.Hour

// rng gives random numbers of the seed for one purpose.
func (w *world) rng(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, purpose)) }

func (w *world) close() {
	w.watch.Stop()
	w.kafka.Close()
	w.net.cut(everyConn)
	time.Sleep(time.Minute) // what waits for time comes to its end
}

func (w *world) kafkaConfig(h *host) kafka.Config {
	return kafka.Config{Brokers: []string{broker}, Dial: h.dial}
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fatal == nil {
		w.fatal = err
	}
}

func (w *world) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fatal
}

// sourceProcess is one life of a source.
type sourceProcess struct {
	host   *host
	src    *source.Source
	cancel context.CancelFunc
	done   chan struct{}
	dir    string
}

// startSource starts the source on what dir holds.
func (w *world) startSource(dir string, partitions int32) {
	p := &sourceProcess{host: w.net.host(sourceHost), dir: dir, done: make(chan struct{})}
	src, err := source.New(source.Config{
		Connector: connector, Prefix: prefix, Kafka: w.kafkaConfig(p.host),
		Dialer:     &topology.Dialer{Dial: p.host.dial},
		Seeds:      w.from.seeds(),
		Partitions: partitions, DataDir: dir,
		LinkTimeout: 20 * time.Second, ResyncPause: 10 * time.Second,
	}, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	p.src = src
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	w.source = p
	go func() { // ends with stopSource or crashSource
		defer close(p.done)
		// As a supervisor does: what is no configuration error is tried again.
		for ctx.Err() == nil {
			err := src.Run(ctx)
			if ctx.Err() != nil {
				return
			}
			if source.ClassOf(err) == source.Stop {
				w.fail(fmt.Errorf("source: %w", err))
				return
			}
			w.log.Warn("source ended", slog.Any("error", err))
			time.Sleep(time.Second)
		}
	}()
}

func (w *world) stopSource() {
	w.source.cancel()
	<-w.source.done
}

// crashSource ends the source as a kill does, and returns a folder with what it left behind.
func (w *world) crashSource(name string) string {
	p := w.source
	left := filepath.Join(w.dir, name)
	if err := os.CopyFS(left, os.DirFS(p.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	p.host.die()
	p.cancel()
	<-p.done
	return left
}
