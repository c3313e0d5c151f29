package sink

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// troubled waits until a partition waits because of an answer of the target.
func (r *rig) troubled(s *running, words ...string) {
	r.Helper()
	r.w.Eventually(30*time.Second, "the sink meets "+strings.Join(words, " or "), func() error {
		var met []string
		for _, p := range s.Status().Partitions {
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(p.LastError, w) }) {
				return nil
			}
			met = append(met, p.LastError)
		}
		return fmt.Errorf("met %q", met)
	})
}

// answered is how often a node has answered an error of this kind.
func (r *rig) answered(n *redistest.Node, word string) int {
	r.Helper()
	_, text, _ := strings.Cut(n.Client().Info(r.Context(), "errorstats").Val(), "errorstat_"+word+":count=")
	text, _, _ = strings.Cut(text, "\r")
	count, _ := strconv.Atoi(text)
	return count
}

// keepWriting writes in the background until stop is called.
func (r *rig) keepWriting(l *lane, rng *rand.Rand) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for {
			l.commit(func() {
				for range 20 {
					l.random(rng)
				}
			})
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		close(ended)
		<-done
	})
	r.Cleanup(stop)
	return stop
}

// during writes all the time while fault runs, and then waits until the target has it all.
func (r *rig) during(l *lane, rng *rand.Rand, s *running, fault func()) {
	r.Helper()
	stop := r.keepWriting(l, rng)
	func() {
		defer stop()
		fault()
	}()
	r.same(s)
}

// set sets an option of a node.
func (r *rig) set(n *redistest.Node, option, value string) {
	r.Helper()
	if err := n.Client().ConfigSet(r.Context(), option, value).Err(); err != nil {
		r.Fatal(err)
	}
}

// sinkClients are the connections of sinks at all nodes.
func (r *rig) sinkClients() map[string]bool {
	out := map[string]bool{}
	for _, n := range r.target.Masters() {
		for line := range strings.Lines(n.Client().ClientList(r.Context()).Val()) {
			if strings.Contains(line, "name=redriver.") {
				id, _, _ := strings.Cut(line, " ")
				out[n.Addr()+" "+id] = true
			}
		}
	}
	return out
}

// TestTargetInTrouble: whatever a target answers for a while, nothing is lost, nothing is repeated, and the sink goes on by
// itself.
//
// Fault (sink): the target closes idle connections, answers OOM, MISCONF, NOREPLICAS, LOADING or CLUSTERDOWN, is stopped,
// or comes back from an older file. The sink waits and goes on, in order.
// Fault (sink): a node joins the target and leaves it again, under load. The sink follows the slots.
func TestTargetInTrouble(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, redistest.Config{Masters: 3, Args: []string{"--timeout", "5"}})
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	cfg := r.config()
	cfg.ReplyTimeout, cfg.Dialer.Timeout = 4*time.Second, 4*time.Second
	s := r.start(cfg)
	l.commit(func() {
		for range 300 {
			l.random(rng)
		}
	})
	r.same(s)
	m := r.target.Masters()

	t.Run("timeout 5", func(t *testing.T) {
		before := r.sinkClients()
		idle := time.Now()
		r.w.Eventually(30*time.Second, "longer than the timeout", func() error {
			if time.Since(idle) < 7*time.Second {
				return errors.New("not yet")
			}
			return nil
		})
		after := r.sinkClients()
		for c := range before {
			if !after[c] {
				t.Errorf("connection %s was lost while nothing was to be done", c)
			}
		}
		if len(before) < 8 {
			t.Errorf("only %d connections were there", len(before))
		}
	})
	t.Run("OOM", func(t *testing.T) {
		r.during(l, rng, s, func() {
			r.set(m[1], "maxmemory", "1")
			r.troubled(s, "OOM")
			r.set(m[1], "maxmemory", "0")
		})
	})
	t.Run("MISCONF", func(t *testing.T) {
		gone := r.w.Path("gone")
		if err := os.MkdirAll(gone, 0o755); err != nil {
			t.Fatal(err)
		}
		r.set(m[0], "dir", gone)
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		r.during(l, rng, s, func() {
			r.set(m[0], "save", "3600 1")
			m[0].Client().BgSave(t.Context())
			r.troubled(s, "MISCONF")
			r.set(m[0], "save", "")
		})
		r.set(m[0], "dir", filepath.Dir(m[0].LogPath()))
	})
	t.Run("NOREPLICAS", func(t *testing.T) {
		r.during(l, rng, s, func() {
			r.set(m[2], "min-replicas-to-write", "1")
			r.troubled(s, "NOREPLICAS")
			r.set(m[2], "min-replicas-to-write", "0")
		})
	})
	t.Run("LOADING", func(t *testing.T) {
		r.during(l, rng, s, func() {
			r.set(m[1], "loading-process-events-interval-bytes", "1024")
			r.set(m[1], "key-load-delay", "20000")
			reloaded := make(chan error, 1)
			go func() { reloaded <- m[1].NewClient().Do(t.Context(), "DEBUG", "RELOAD").Err() }()
			r.troubled(s, "LOADING")
			r.set(m[1], "key-load-delay", "0")
			<-reloaded
		})
	})
	t.Run("stopped and CLUSTERDOWN", func(t *testing.T) {
		r.during(l, rng, s, func() {
			if err := m[2].Pause(); err != nil {
				t.Fatal(err)
			}
			r.troubled(s, "CLUSTERDOWN", "cluster is down", "i/o timeout")
			r.w.Eventually(30*time.Second, "the others are down", func() error {
				if info := m[0].Client().ClusterInfo(t.Context()).Val(); !strings.Contains(info, "cluster_state:fail") {
					return errors.New(info)
				}
				return nil
			})
			r.troubled(s, "CLUSTERDOWN", "cluster is down")
			if err := m[2].Continue(); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("killed and back from an older file", func(t *testing.T) {
		if err := m[0].Client().Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		r.during(l, rng, s, func() {
			units := s.Status().Units
			r.w.Eventually(30*time.Second, "more is written", func() error {
				if n := s.Status().Units - units; n < 500 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			if err := m[0].Kill(); err != nil {
				t.Fatal(err)
			}
			if err := m[0].Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := r.target.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("a node comes and goes", func(t *testing.T) {
		added, err := r.target.AddMaster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// With keys, and the first slots of partitions, where the sink's own keys are.
		slots := []int{0, 2048, 4096}
		for i := range 60 {
			if n := int(slot.Of(fmt.Appendf(nil, "{%d}", i))); n < 5461 && !slices.Contains(slots, n) {
				slots = append(slots, n)
			}
		}
		move := func(from, to *redistest.Node) {
			t.Helper()
			if err := r.target.MoveSlots(t.Context(), from, to, slots...); err != nil {
				t.Fatal(err)
			}
			if err := r.target.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		r.during(l, rng, s, func() { move(m[0], added) })
		r.during(l, rng, s, func() {
			move(added, m[0])
			if err := r.target.Remove(t.Context(), added); err != nil {
				t.Fatal(err)
			}
		})
	})
	s.stop()
}

// TestTargetPairChangesRoles: the master of a pair becomes the replica while it is written to, and answers READONLY; and back.
//
// Fault (sink): the master of a target pair becomes its replica, and back. The sink follows the master.
func TestTargetPairChangesRoles(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	a, b := w.Server(""), w.Server("")
	r := &rig{
		TB: t, w: w, kafka: kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}, prefix: "p", name: "t", partitions: 2, source: w.Server(""),
	}
	if err := b.Client().Do(t.Context(), "REPLICAOF", "127.0.0.1", strconv.Itoa(a.Port())).Err(); err != nil {
		t.Fatal(err)
	}
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	s := r.start(Config{
		Name: r.name, Prefix: r.prefix, Kafka: r.kafka, Dialer: &topology.Dialer{Timeout: 2 * time.Second}, Seeds: []string{a.Addr(), b.Addr()},
		SessionTimeout: 6 * time.Second, DrainTimeout: 2 * time.Second, ReplyTimeout: 5 * time.Second,
	})
	r.waitApplied(s)
	stop := r.keepWriting(l, rng)
	master, replica := a, b
	for range 3 {
		w.Eventually(30*time.Second, "the pair and the sink are in step", func() error {
			if info := replica.Client().Info(t.Context(), "replication").Val(); !strings.Contains(info, "master_link_status:up") {
				return errors.New(info)
			}
			// The link is up before the stream comes; a replica promoted with nothing would be a target that was wiped.
			marks := []string{string(own.Key(own.Watermark, r.name, 0)), string(own.Key(own.Watermark, r.name, 8192))}
			if n := replica.Client().Exists(t.Context(), marks...).Val(); n != int64(len(marks)) {
				return fmt.Errorf("the replica has %d of %d watermarks", n, len(marks))
			}
			if list := master.Client().ClientList(t.Context()).Val(); !strings.Contains(list, "name=redriver.t.0.") || !strings.Contains(list, "name=redriver.t.1.") {
				return errors.New("the sink has not come yet")
			}
			return nil
		})
		if err := replica.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
			t.Fatal(err)
		}
		// What is acknowledged in between is lost.
		if err := master.Client().Do(t.Context(), "REPLICAOF", "127.0.0.1", strconv.Itoa(replica.Port())).Err(); err != nil {
			t.Fatal(err)
		}
		master, replica = replica, master
	}
	stop()
	if r.answered(a, "READONLY")+r.answered(b, "READONLY") == 0 {
		t.Error("the sink did not meet READONLY: this shows nothing")
	}
	want := stateOf(t, l.source)
	w.Eventually(time.Minute, "source and target are the same", func() error {
		select {
		case <-s.ended:
			t.Fatalf("sink ended: %v", s.err)
		default:
		}
		got, err := tryStateOf(t, master.Client())
		if what := diff(want, got); err == nil && what != "" {
			return errors.New(what)
		}
		return err
	})
	s.stop()
}
