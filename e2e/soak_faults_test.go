package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/proxy"
)

// Where a fault is at home. There is one at a time in each of them.
const (
	atSource   = "source"
	atRedriver = "redriver"
	atKafka    = "kafka"
	atTarget   = "target"

	placeN = 4
)

// soakFault is one kind of trouble. do makes it, ends it, and waits until what it broke is whole again.
type soakFault struct {
	at, name string
	weight   int
	do       happening
}

func (f soakFault) String() string { return f.at + ": " + f.name }

func allFaults() []soakFault {
	return slices.Concat(sourceFaults, redriverFaults, kafkaFaults, targetFaults)
}

// pick draws by weight one that is not at home in one of the places.
func pick(r *rand.Rand, not ...string) soakFault {
	faults := slices.DeleteFunc(allFaults(), func(f soakFault) bool { return slices.Contains(not, f.at) })
	sum := 0
	for _, f := range faults {
		sum += f.weight
	}
	n := r.IntN(sum)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("unreachable")
}

var redriverFaults = []soakFault{
	{atRedriver, "the source is killed", 4, onOwn((*soak).source1, again((*service).kill))},
	{atRedriver, "the sink is killed", 4, onOwn((*soak).sink1, again((*service).kill))},
	{atRedriver, "the source is stopped in good order", 2, onOwn((*soak).source1, again((*service).stop))},
	{atRedriver, "the sink is stopped in good order", 2, onOwn((*soak).sink1, again((*service).stop))},
	{atRedriver, "the source is stopped (SIGSTOP)", 2, onOwn((*soak).source1, frozen)},
	{atRedriver, "the sink is stopped (SIGSTOP)", 2, onOwn((*soak).sink1, frozen)},
	{atRedriver, "another sink takes over", 4, anotherSink},
	{atRedriver, "another source takes over", 3, anotherSource},
}

func (s *soak) source1() *service { return s.from[s.fromNow] }
func (s *soak) sink1() *service   { return s.to[s.toNow] }

func onOwn(which func(*soak) *service, do func(ctx context.Context, v *service, r *rand.Rand) error) happening {
	return func(ctx context.Context, s *soak, r *rand.Rand) error { return do(ctx, which(s), r) }
}

func again(end func(*service) error) func(ctx context.Context, v *service, r *rand.Rand) error {
	return func(ctx context.Context, v *service, r *rand.Rand) error {
		if err := end(v); err != nil {
			return err
		}
		if r.IntN(2) == 0 {
			if err := pauseFor(ctx, between(r, 0, 5*time.Second)); err != nil {
				return err
			}
		}
		return v.start()
	}
}

func frozen(ctx context.Context, v *service, r *rand.Rand) error {
	return v.freeze(ctx, between(r, time.Second, 15*time.Second))
}

// anotherSink joins the sink, which sleeps past its session and wakes again. Then one of the two goes.
func anotherSink(ctx context.Context, s *soak, r *rand.Rand) error {
	old, other := s.to[s.toNow], s.to[1-s.toNow]
	begin := other.logSize()
	if err := other.start(); err != nil {
		return err
	}
	if err := other.says(ctx, begin, "partition starts"); err != nil {
		return err
	}
	if err := old.freeze(ctx, between(r, 7*time.Second, 12*time.Second)); err != nil {
		return err
	}
	if err := pauseFor(ctx, between(r, 0, 4*time.Second)); err != nil {
		return err
	}
	goes := old
	if r.IntN(2) == 0 {
		goes = other
	} else {
		s.toNow = 1 - s.toNow
	}
	if r.IntN(2) == 0 {
		return goes.kill()
	}
	return goes.stop()
}

// anotherSource takes the connector over, while the first is at work or asleep. The first one has to end.
func anotherSource(ctx context.Context, s *soak, r *rand.Rand) error {
	old, other := s.from[s.fromNow], s.from[1-s.fromNow]
	old.mayEnd()
	p, asleep := old.running(), r.IntN(2) == 0
	if p != nil && asleep {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
	}
	begin := other.logSize()
	if err := other.start(); err != nil {
		return err
	}
	s.fromNow = 1 - s.fromNow
	if err := other.says(ctx, begin, "msg=streaming"); err != nil {
		return err
	}
	if p == nil {
		return nil
	}
	if asleep {
		if err := p.Signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	return ends(ctx, old.name, p)
}

func ends(ctx context.Context, name string, p *proc.Process) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.Done():
		return nil
	case <-time.After(2 * patience):
		return fmt.Errorf("%s does not end, though another has its connector:\n%s", name, p.LogTail(20))
	}
}

func (v *service) logSize() int64 {
	info, err := os.Stat(v.log)
	if err != nil {
		return 0
	}
	return info.Size()
}

// says waits until the log has a word behind an offset.
func (v *service) says(ctx context.Context, begin int64, word string) error {
	return testkit.Poll(ctx, 2*patience, func() error {
		text, err := os.ReadFile(v.log)
		if err != nil {
			return err
		}
		if begin > int64(len(text)) || !strings.Contains(string(text[begin:]), word) {
			return fmt.Errorf("%s does not say %q", v.name, word)
		}
		return nil
	})
}

// Any broker may be the controller.
var kafkaFaults = []soakFault{
	{atKafka, "a broker is killed", 4, brokersDown(1)},
	{atKafka, "two of three brokers are killed", 2, brokersDown(2)},
	{atKafka, "all brokers are killed", 2, brokersDown(3)},
	{atKafka, "a broker is stopped (SIGSTOP)", 3, pauseBroker},
	{atKafka, "connections are cut", 3, cutKafka},
	{atKafka, "all brokers are away", 2, func(ctx context.Context, s *soak, r *rand.Rand) error {
		s.toKafka.down(true)
		defer s.toKafka.down(false)
		return pauseFor(ctx, between(r, 5*time.Second, 15*time.Second))
	}},
	{atKafka, "slow connections", 2, slowly(func(s *soak) wires { return s.toKafka })},
	{atKafka, "silent connections", 2, silently(func(s *soak) wires { return s.toKafka })},
	{atKafka, "one broker is silent", 2, func(ctx context.Context, s *soak, r *rand.Rand) error {
		return silently(func(s *soak) wires {
			addrs := make([]string, 0, len(s.toKafka))
			for addr := range s.toKafka {
				addrs = append(addrs, addr)
			}
			slices.Sort(addrs)
			addr := addrs[r.IntN(len(addrs))]
			return map[string]*proxy.Wire{addr: s.toKafka[addr]}
		})(ctx, s, r)
	}},
}

func brokersDown(n int) happening {
	return func(ctx context.Context, s *soak, r *rand.Rand) error {
		var down []*kafkatest.Broker
		for _, i := range r.Perm(len(s.brokers))[:min(n, len(s.brokers))] {
			down = append(down, s.brokers[i])
			if err := s.brokers[i].Kill(); err != nil {
				return err
			}
		}
		if err := pauseFor(ctx, between(r, 0, 8*time.Second)); err != nil {
			return err
		}
		var g errgroup.Group
		for _, b := range down {
			g.Go(func() error { return b.Restart(ctx) }) // ends when it is ready
		}
		if err := g.Wait(); err != nil {
			return err
		}
		return s.kafkaReady(ctx)
	}
}

func pauseBroker(ctx context.Context, s *soak, r *rand.Rand) error {
	b := s.brokers[r.IntN(len(s.brokers))]
	if err := b.Pause(); err != nil {
		return err
	}
	if err := errors.Join(pauseFor(ctx, between(r, time.Second, 10*time.Second)), b.Continue()); err != nil {
		return err
	}
	return s.kafkaReady(ctx)
}

func cutKafka(ctx context.Context, s *soak, r *rand.Rand) error {
	for range 1 + r.IntN(5) {
		s.toKafka.cut()
		if err := pauseFor(ctx, between(r, 0, time.Second)); err != nil {
			return err
		}
	}
	return nil
}
