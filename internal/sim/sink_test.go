package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/sink"
)

// sinkProcess is one life of a sink.
type sinkProcess struct {
	host   *host
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	now    *sink.Sink
}

// startSink starts the sink, under the one instance name that a worker keeps for life: kfake does not always miss a member
// that went away while it joined, until it comes again.
func (w *world) startSink() {
	p := &sinkProcess{host: w.net.host(sinkHost), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	w.sink = p
	go func() { // ends with stopSink or crashSink
		defer close(p.done)
		for ctx.Err() == nil {
			s, err := sink.New(sink.Config{
				Name: "s", Prefix: prefix, Kafka: w.kafkaConfig(p.host),
				Dialer: &topology.Dialer{Dial: p.host.dial}, Seeds: w.into.seeds(),
				ExpiryHold: hold, SweepMax: 1, Instance: "i", SweepMemoryBytes: int(w.seed % 2), // next to nothing, or the default
				SessionTimeout: 6 * time.Second, DrainTimeout: 2 * time.Second, ReplyTimeout: 5 * time.Second,
			}, w.log)
			if err != nil {
				panic(err)
			}
			p.mu.Lock()
			p.now = s
			p.mu.Unlock()
			err = s.Run(ctx)
			if ctx.Err() != nil {
				return
			}
			if c, ok := errors.AsType[interface {
				error
				Class() sink.Class
			}](err); ok && c.Class() == sink.Stop {
				w.fail(fmt.Errorf("sink: %w", err))
				return
			}
			w.log.Warn("sink ended", slog.Any("error", err))
			time.Sleep(time.Second)
		}
	}()
}

// lateBytes is longer than any bytes are under way.
const lateBytes = 30 * time.Second

const hold = sink.MinExpiryHold

func (w *world) stopSink() {
	w.sink.cancel()
	<-w.sink.done
}

// crashSink ends the sink as a kill does.
func (w *world) crashSink() {
	w.sink.host.die()
	w.sink.cancel()
	<-w.sink.done
}

// runSync is one run of a source and a sink: the target has to hold in the end what the masters do.
func runSync(t *testing.T, seed uint64, log io.Writer) error {
	w := newWorld(t, seed, log)
	defer w.close()
	r := w.rng(1)
	w.from = newDeployment(w.net, "m", 1+r.IntN(2), false, seed)
	defer w.from.close()
	single := r.IntN(4) > 0
	shards := 1
	if !single {
		shards += r.IntN(2)
	}
	w.into = newDeployment(w.net, "t", shards, single, seed^1)
	defer w.into.close()
	load := newWorkload(w.from, w.rng(2))
	load.burst(r.IntN(100))
	partitions := int32(1 + r.IntN(3))
	w.startSource(filepath.Join(w.dir, "data"), partitions)
	w.startSink()
	var faults sync.WaitGroup
	faults.Go(func() { w.sinkFaults(partitions) })
	load.run(faultTime)
	w.from.calm.Store(true)
	faults.Wait()
	err := w.settleSource()
	if err == nil {
		err = w.settleSink()
	}
	w.stopSource()
	w.stopSink()
	if err != nil {
		return err
	}
	return w.compareLog()
}

// settleSink waits until the target holds what the masters do.
func (w *world) settleSink() error {
	want := w.from.contents()
	var diff []string
	settled := false
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(time.Second) {
		if err := w.failed(); err != nil {
			return err
		}
		got := w.into.contents()
		for _, v := range got.keys {
			if v.expireAt != 0 {
				v.expireAt -= hold.Milliseconds()
			}
		}
		if diff = differences(want, got, 5, func(k string) bool { return own.Is([]byte(k)) }); len(diff) == 0 {
			if settled {
				return nil
			}
			settled = true
			time.Sleep(lateBytes) // what is still under way must do no harm
		}
	}
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	return fmt.Errorf("after %s the target differs: %q\n%+v", settleTime, diff, w.sink.now.Status())
}

// sinkFaults plays faults of the seed, of all kinds but mostly of the sink's side.
func (w *world) sinkFaults(partitions int32) {
	r := w.rng(3)
	kinds := []fault{
		{"cut target", cutTarget},
		{"trouble with the target", troubleWithTarget},
		{"trouble with the target", troubleWithTarget},
		{"trouble with the target", troubleWithTarget},
		{"trouble with the broker", troubleWithBroker},
		{"cut broker", cutBroker},
		{"fail over target", failOverTarget},
		{"fail over target", failOverTarget},
		{"restart target", restartTarget},
		{"refuse at target", refuseTarget},
		{"refuse at target", refuseTarget},
		{"restart sink", func(w *world, _ *rand.Rand) {
			w.stopSink()
			w.startSink()
		}},
		{"crash sink", crashSink},
		{"crash sink", crashSink},
		{"broker errors", brokerErrors},
		{"fail over", failOver},
		{"forget backlog", forgetBacklog},
		{"flush", flushMaster},
		{"crash source", func(w *world, r *rand.Rand) { w.restartCrashed(r, partitions) }},
	}
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	w.play(kinds[:1+r.IntN(4)], r)
}

func cutTarget(w *world, r *rand.Rand) {
	w.net.cut(to(among(r, w.into.masters()...).addr))
}

func troubleWithTarget(w *world, r *rand.Rand) {
	troubleAhead(w, r, among(r, w.into.masters()...).addr)
}

func failOverTarget(w *world, r *rand.Rand) {
	// A node that loses the sink's very first watermark looks as if it had been wiped, and the sink stops by right.
	behind := 0
	if time.Since(w.began) > faultTime/2 {
		behind = among(r, 0, 1, 5, 40)
	}
	w.into.failOver(r.IntN(len(w.into.shards)), behind, time.Duration(among(r, 0, 0, 500, 2000))*time.Millisecond)
}

func restartTarget(w *world, r *rand.Rand) {
	w.into.restart(r.IntN(len(w.into.shards)), time.Duration(r.IntN(2000))*time.Millisecond)
}

func refuseTarget(w *world, r *rand.Rand) {
	m := among(r, w.into.masters()...)
	writes := r.IntN(2) == 0
	line := among(r, "LOADING Redis is loading the dataset in memory", "CLUSTERDOWN The cluster is down", "MASTERDOWN Link with MASTER is down")
	if writes {
		line = among(r, "OOM command not allowed when used memory > 'maxmemory'.", "READONLY You can't write against a read only replica.",
			"MISCONF Redis is configured to save RDB snapshots", "NOREPLICAS Not enough good replicas to write.")
	}
	set := func(line string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if writes {
			m.refuseWrites = line
		} else {
			m.refuse = line
		}
	}
	set(line)
	time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
	set("")
}

func crashSink(w *world, r *rand.Rand) {
	w.crashSink()
	time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
	w.startSink()
}

func TestSimSync(t *testing.T) { simulate(t, syncBudget, runSync) }
