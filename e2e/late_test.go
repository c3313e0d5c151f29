package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/verify"
)

// sessionSeconds is how long a session lives without being renewed; load goes on for six times as long.
func sessionSeconds(t *testing.T) int {
	t.Helper()
	v := os.Getenv("REDRIVER_SESSION_SECONDS")
	if v == "" {
		return 3
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Sessions live for seconds and are renewed again and again while sinks are away for much longer than that: one was
// stopped, one killed, one is asleep all the time, and one that writes exact times to a Valkey in import mode was killed.
// All of them end up with every session, changed as it was, and with its exact expiry time; and without those that ended.
func TestSessionsThatAreRenewedSurviveALateSink(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := sourceCluster(w, 3, 0)
	p := newPipeline(t, w, w.Kafka().Addr(), source)
	from := p.run(p.sourceConfig())
	ttl := time.Duration(sessionSeconds(t)) * time.Second
	s := &sessions{client: source.Client(), ttl: ttl, rng: rand.New(rand.NewPCG(11, 12))}
	s.create(t)

	names := []string{"stopped", "killed", "asleep", "importing"}
	targets, configs := map[string]*redistest.Cluster{}, map[string]string{}
	sinks := map[string]*testkit.Redriver{}
	for _, n := range names {
		if n == "importing" {
			targets[n] = w.ClusterWith(redistest.Config{Version: "valkey-9.1", Masters: 2})
			configs[n] = p.sinkConfig(n, targets[n], "expiry.mode", "import")
		} else {
			targets[n] = w.Cluster(2, 0)
			configs[n] = p.sinkConfig(n, targets[n])
		}
		sinks[n] = p.run(configs[n])
	}
	for _, n := range names {
		p.mark(targets[n].Client(), time.Minute)
	}
	sinks["stopped"].Stop()
	for _, n := range []string{"killed", "importing"} {
		if err := sinks[n].Kill(); err != nil {
			t.Fatal(err)
		}
	}
	signal(t, sinks["asleep"], syscall.SIGSTOP)
	s.live(t, 6*ttl)
	s.settle(t)
	for _, n := range []string{"stopped", "killed", "importing"} {
		sinks[n] = p.run(configs[n])
	}
	signal(t, sinks["asleep"], syscall.SIGCONT)
	for _, n := range names {
		p.mark(targets[n].Client(), time.Minute)
	}
	p.mark(targets[names[0]].Client(), time.Minute)
	for _, n := range names {
		if n == "importing" {
			exact(t, source, targets[n])
		} else {
			identical(t, source, targets[n])
		}
		sinks[n].Stop()
	}
	for _, n := range names {
		wantExit(t, w.Redriver("finish", "--to", "redis://"+targets[n].Addrs()[0]), 0, "exact expiry time")
		if r := exact(t, source, targets[n]); r.Own != 0 {
			t.Errorf("%s: after finish %d keys of ours are left", n, r.Own)
		}
	}
	t.Logf("%d sessions with %s each: %d renewed, %d changed, %d made to stay, %d renamed, %d ended", sessionN, ttl, s.renewed, s.changed, s.kept, s.renamed, s.ended)
	from.Stop()
}

// exact compares with exact expiry times on both sides.
func exact(t *testing.T, source, target *redistest.Cluster) verify.Result {
	t.Helper()
	r, err := verify.Compare(t.Context(), verify.At(source.Addrs()...), verify.At(target.Addrs()...), verify.Options{})
	if err != nil || !r.Identical() {
		t.Errorf("not identical: %v\n%s", err, r)
	}
	return r
}

func signal(t *testing.T, r *testkit.Redriver, sig syscall.Signal) {
	t.Helper()
	if err := r.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

const sessionN = 300

// sessions are keys that live for ttl after each use.
type sessions struct {
	client redis.UniversalClient
	ttl    time.Duration
	rng    *rand.Rand
	alive  []string

	renewed, changed, kept, renamed, ended int
	missed                                 int // had expired before their turn
}

func (s *sessions) create(t *testing.T) {
	t.Helper()
	for i := range sessionN {
		k := fmt.Sprintf("{session-%d}:%s", i, []string{"hash", "counter", "string", "list"}[i%4])
		s.alive = append(s.alive, k)
		s.use(t, k)
		s.do(t, "pexpire", k, (10 * time.Minute).Milliseconds()) // until the sinks run
	}
}

// do takes it that a session has expired while the machine was busy; settle refuses too many of those.
func (s *sessions) do(t *testing.T, args ...any) {
	t.Helper()
	err := s.client.Do(t.Context(), args...).Err()
	if errors.Is(err, redis.Nil) || err != nil && strings.Contains(err.Error(), "no such key") {
		s.missed++
	} else if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

// use changes the value of a session in a way that would show if it began anew.
func (s *sessions) use(t *testing.T, k string) {
	t.Helper()
	switch k[len(k)-4:] {
	case "hash":
		s.do(t, "hincrby", k, fmt.Sprint("f", s.rng.IntN(5)), 1)
	case "nter":
		s.do(t, "incr", k)
	case "list":
		s.do(t, "rpush", k, s.rng.IntN(1000))
	default:
		s.do(t, "append", k, "x")
	}
	s.changed++
}

// renew gives a session its time again, in one of the ways there are.
func (s *sessions) renew(t *testing.T, k string) {
	t.Helper()
	ms := s.ttl.Milliseconds()
	switch s.rng.IntN(5) {
	case 0:
		s.do(t, "pexpire", k, ms)
	case 1:
		s.do(t, "pexpireat", k, time.Now().Add(s.ttl).UnixMilli())
	case 2:
		s.do(t, "pexpire", k, ms, "xx") // the condition stays in the stream
	case 3:
		s.do(t, "persist", k)
		s.do(t, "pexpire", k, ms)
	default:
		if k[len(k)-4:] == "ring" {
			s.do(t, "getex", k, "px", ms)
		} else {
			s.do(t, "pexpire", k, ms)
		}
	}
	s.renewed++
}

// live goes on for a while: sessions are used and renewed; some end because nobody does, some stay for good, some get
// another name shortly before they would end.
func (s *sessions) live(t *testing.T, d time.Duration) {
	t.Helper()
	for _, k := range s.alive {
		s.renew(t, k)
	}
	half := time.NewTicker(s.ttl / 2)
	defer half.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-half.C {
		still := s.alive[:0]
		for _, k := range s.alive {
			switch s.rng.IntN(40) {
			case 0:
				s.ended++ // by not being renewed
				continue
			case 1:
				s.do(t, "persist", k)
				s.kept++
				continue
			case 2:
				s.do(t, "rename", k, k+":"+k[len(k)-4:])
				k += ":" + k[len(k)-4:]
				s.renamed++
			case 3:
				s.do(t, "copy", k, k+":copy") // keeps its expiry, and ends with it
			}
			if s.rng.IntN(2) == 0 {
				s.use(t, k)
			}
			s.renew(t, k)
			still = append(still, k)
		}
		s.alive = still
	}
}

// settle gives what is alive an hour, and waits until the source has removed the rest.
func (s *sessions) settle(t *testing.T) {
	t.Helper()
	if s.missed > sessionN/10 {
		t.Errorf("%d times a session had expired before its turn: this shows little", s.missed)
	}
	for _, k := range s.alive {
		s.do(t, "pexpire", k, time.Hour.Milliseconds())
	}
	time.Sleep(s.ttl + time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := testkit.Poll(ctx, 10*time.Second, func() error {
		c, ok := s.client.(*redis.ClusterClient)
		if !ok {
			return nil
		}
		return c.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error {
			// A key that has expired goes when it is touched, or when the server comes by.
			keys, err := m.Keys(ctx, "*").Result()
			if err != nil {
				return err
			}
			if n := m.DBSize(ctx).Val(); n != int64(len(keys)) {
				return fmt.Errorf("%d keys, %d of them alive", n, len(keys))
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
