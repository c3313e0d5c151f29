package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
)

// runSource is one run of a source: the log has to say in the end what the masters hold.
func runSource(t *testing.T, seed uint64, log io.Writer) error {
	w := newWorld(t, seed, log)
	defer w.close()
	r := w.rng(1)
	single := r.IntN(4) == 0
	shards := 1
	if !single {
		shards += r.IntN(2)
	}
	w.from = newDeployment(w.net, "m", shards, single, seed)
	defer w.from.close()
	load := newWorkload(w.from, w.rng(2))
	load.burst(r.IntN(200))
	partitions := int32(1 + r.IntN(4))
	w.startSource(filepath.Join(w.dir, "data"), partitions)
	var faults sync.WaitGroup
	faults.Go(func() { w.sourceFaults(partitions) })
	load.run(faultTime)
	w.from.calm.Store(true)
	faults.Wait()
	err := w.settleSource()
	w.stopSource()
	if err != nil {
		return err
	}
	return w.compareLog()
}

// settleTime is how long it may take until all is as it should be, once the faults are over.
const settleTime = 10 * time.Minute

// settleSource waits until the source has committed all that the masters have.
func (w *world) settleSource() error {
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if err := w.failed(); err != nil {
			return err
		}
		if w.sourceBehind() == "" {
			return nil
		}
	}
	return errors.New("after " + settleTime.String() + ": " + w.sourceBehind())
}

// sourceBehind says what the source has not committed, nothing if there is nothing.
func (w *world) sourceBehind() string {
	committed := func(id string) (event.Offset, string) {
		status := w.source.src.Status()
		for _, s := range status {
			if s.Committed.ReplID.String() == id {
				return s.Committed.Offset, fmt.Sprintf("%s, %s", s.Stage, s.LastError)
			}
		}
		return -1, fmt.Sprintf("%+v", status)
	}
	if why := w.behind(committed); why != "" {
		return why
	}
	// The status does not tell a snapshot whose entries are not published from one whose end is.
	state, err := w.offsets()
	if err != nil {
		return err.Error()
	}
	return w.behind(func(id string) (event.Offset, string) {
		for _, p := range state.Positions {
			if p.ReplID.String() == id && p.Snapshot == nil {
				return p.Offset, ""
			}
		}
		return -1, "no position"
	})
}

// behind says which master's history is committed how far only.
func (w *world) behind(committed func(replID string) (event.Offset, string)) string {
	for _, m := range w.from.masters() {
		m.mu.Lock()
		id, end := m.hist.id, m.hist.end()
		m.mu.Unlock()
		if at, why := committed(id); int64(at) < end {
			return fmt.Sprintf("of %.8s %d of %d are committed: %s", id, at, end, why)
		}
	}
	return ""
}

// offsets reads the offsets topic.
func (w *world) offsets() (state offsets.State, err error) {
	cfg := w.kafkaConfig(w.net.host("reader"))
	adm, err := cfg.Admin()
	if err != nil {
		return state, err
	}
	defer adm.Close()
	topic := offsets.Topic(prefix)
	spans, err := kafka.Spans(context.Background(), adm, topic)
	if err != nil {
		return state, err
	}
	return state, cfg.ReadCommitted(context.Background(), topic, spans, func(r *kgo.Record) error {
		return state.Apply(connector, r.Key, r.Value)
	})
}

func (w *world) compareLog() error {
	m, err := w.replay()
	if err != nil {
		return err
	}
	if diff := differences(w.from.contents(), m.data, 5, nil); len(diff) > 0 {
		return fmt.Errorf("the log says otherwise than the masters: %q", diff)
	}
	if m.again > 0 && !w.excused {
		return fmt.Errorf("%d times a snapshot was taken again, and nothing had happened that asks for it", m.again)
	}
	return nil
}

func TestSimSource(t *testing.T) {
	simulate(t, sourceBudget, runSource)
}
