package sink

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/redriver/redriver/redis/topology"
)

// TestZombieBehindASlowNetwork (traps 56, 77): a sink is stopped for longer than its session while what it has sent is still on
// its way. Another takes over and goes on; then the bytes arrive, and the first one wakes up. Neither writes anything any more.
//
// On a real broker, as TestStopped.
//
// Fault (sink): stopped by SIGSTOP past its session while its bytes are delayed on the way, then continued. Neither the
// bytes nor the sink write anything behind the take-over.
func TestZombieBehindASlowNetwork(t *testing.T) {
	t.Parallel()
	r := newKafkaRig(t)
	rng := seed(t)
	l := r.lane()
	l.snapshot()
	proxies, addresses := r.proxies()
	cfg := r.config()
	behind := cfg
	behind.Dialer = &topology.Dialer{Timeout: 2 * time.Second, AddressMap: addresses}
	first := r.child(behind)
	burst := func() {
		l.commit(func() {
			for i := range 300 {
				l.random(rng)
				l.do([]string{"INCR", fmt.Sprintf("{%d}late", i%60)})
			}
		})
	}
	burst()
	r.same()
	for _, w := range proxies {
		w.hold("EXEC")
	}
	burst()
	r.w.Eventually(30*time.Second, "guarded writes are on their way to every node", func() error {
		for _, w := range proxies {
			if !w.holds("EXEC") {
				return errors.New("not to " + w.to)
			}
		}
		return nil
	})
	if err := first.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	second := r.child(cfg)
	r.same() // it has taken over
	burst()
	r.same()
	for _, w := range proxies {
		w.release()
	}
	r.w.Eventually(30*time.Second, "all that was held back has arrived", func() error {
		for _, w := range proxies {
			if w.holds("") {
				return errors.New("not at " + w.to)
			}
		}
		return nil
	})
	burst()
	r.same()
	if err := first.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		burst()
		r.same()
	}
	for _, w := range proxies {
		w.mu.Lock()
		if w.refused == 0 {
			t.Errorf("%s took what came late", w.to)
		}
		w.mu.Unlock()
	}
	if !first.Running() || !second.Running() {
		t.Fatalf("a sink ended: %s %s", first.LogTail(3), second.LogTail(3))
	}
}
