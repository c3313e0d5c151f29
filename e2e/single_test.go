package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/verify"
)

const singleDatabases = 5

// singleLoad writes to all databases of a single server, and across them, until stop is called.
func singleLoad(t *testing.T, n *redistest.Node, databases int, without ...string) (stop func()) {
	t.Helper()
	var left []string // out of the writers, whose COPY goes into database 0
	if slices.Contains(without, "COPY") {
		left = []string{"rename"}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	clients := make([]*redis.Client, databases)
	for db := range databases {
		clients[db] = n.NewClient(func(o *redis.Options) { o.DB = db })
		w, err := load.NewWriter(clients[db], load.WriterConfig{Seed: uint64(db + 1), Prefix: fmt.Sprintf("w%d:", db), Shared: "shared:", Rate: 400, Keys: 40, Without: left})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = w.Run(ctx) })
	}
	var crosses []*load.Cross
	for i := range 2 {
		c := load.NewCross(clients[0], load.CrossConfig{Seed: uint64(i + 1), Prefix: "cross:", Databases: databases, Rate: 300, Without: without})
		crosses = append(crosses, c)
		wg.Go(func() { c.Run(ctx) })
	}
	end := sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		for _, c := range crosses {
			if c.Err() != nil {
				t.Errorf("load: %v", c.Err())
			}
			t.Logf("%d commands across slots and databases", c.Done())
		}
		for _, c := range clients {
			c.Close()
		}
	})
	t.Cleanup(end)
	return end
}

// singleMark writes a key behind everything else and waits until it is at the target; twice, as mark does.
func (p *pipeline) singleMark(from *redis.Client, to redis.UniversalClient, timeout time.Duration) {
	p.t.Helper()
	for range 2 {
		p.singleMarkOnce(from, to, timeout)
	}
}

func (p *pipeline) singleMarkOnce(from *redis.Client, to redis.UniversalClient, timeout time.Duration) {
	p.t.Helper()
	value := p.w.Name("mark")
	if err := from.Set(p.t.Context(), "mark", value, 0).Err(); err != nil {
		p.t.Fatalf("write mark: %v", err)
	}
	p.w.Eventually(timeout, "all applied at the target", func() error {
		got, err := to.Get(p.t.Context(), "mark").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if got != value {
			return fmt.Errorf("mark is %q", got)
		}
		return nil
	})
}

// sameDatabases compares every key of every database of both sides.
func sameDatabases(t *testing.T, from, to verify.Deployment, options verify.Options) {
	t.Helper()
	options.Rounds, options.ExpiryHold = 3, hold
	result, err := verify.Compare(t.Context(), from, to, options)
	if err != nil {
		t.Fatalf("compare: %v", err)
	}
	if !result.Identical() {
		t.Fatalf("not identical:\n%s", result.String())
	}
	t.Logf("identical: %d keys", result.Keys)
}

func (p *pipeline) singleSource(address string, extra ...string) string {
	return p.config("from", merge(map[string]string{"type": "source", "topic.prefix": p.prefix, "redis.address": address}, extra))
}

func (p *pipeline) singleSink(address string, extra ...string) string {
	return p.config("to", merge(map[string]string{"type": "sink", "topic.prefix": p.prefix, "redis.address": address}, extra))
}

// Five databases under a mixed load into another single server, while source, sink and their connections are killed.
func TestSingleServerIntoAnotherIsIdentical(t *testing.T) {
	t.Parallel()
	for _, versions := range [][2]string{{"valkey-8.1", "valkey-8.1"}, {"redis-7.0", "redis-8.6"}} {
		t.Run(versions[0]+" "+versions[1], func(t *testing.T) {
			w := testkit.New(t)
			from, to := w.Server(versions[0], "--repl-backlog-size", backlog), w.Server(versions[1])
			p := newPipeline(t, w, w.Kafka().Addr(), nil)
			for db := range singleDatabases {
				c := from.NewClient(func(o *redis.Options) { o.DB = db })
				err := load.Fill(t.Context(), c, load.FillConfig{Keys: 2000, Seed: uint64(db), TTLShare: 0.1, Prefix: "fill:"})
				c.Close()
				if err != nil {
					t.Fatal(err)
				}
			}
			stop := singleLoad(t, from, singleDatabases)
			fromConfig, toConfig := p.singleSource(from.Addr()), p.singleSink(to.Addr())
			source, sink := p.run(fromConfig), p.run(toConfig)
			w.Eventually(time.Minute, "writes arrive", func() error { // time and again: the load flushes, and swaps databases
				if err := from.Client().Set(t.Context(), "begun", 1, 0).Err(); err != nil {
					return err
				}
				return to.Client().Get(t.Context(), "begun").Err()
			})
			p.committed(from)
			before := p.chainHolds().Generations // a FLUSHALL of the load ends a snapshot that is being made
			for round := range 3 {
				if err := sink.Kill(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(300 * time.Millisecond)
				sink = p.run(toConfig)
				time.Sleep(time.Duration(500+round*300) * time.Millisecond)
				if err := source.Kill(); err != nil {
					t.Fatal(err)
				}
				source = p.run(fromConfig)
				time.Sleep(time.Second)
				to.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
				from.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica")
				time.Sleep(time.Second)
			}
			stop()
			p.singleMark(from.Client(), to.Client(), time.Minute)
			sameDatabases(t, verify.At(from.Addr()), verify.At(to.Addr()), verify.Options{})
			source.Stop()
			sink.Stop()
			if after := p.chainHolds().Generations; !maps.Equal(before, after) {
				t.Errorf("snapshots were taken because of the kills: generations %v, before them %v", after, before)
			}
			wantExit(t, w.Redriver("finish", "--to", "redis://"+to.Addr()), 0, "exact expiry time")
			finished, err := verify.Compare(t.Context(), verify.At(from.Addr()), verify.At(to.Addr()), verify.Options{Rounds: 3})
			if err != nil || !finished.Identical() || finished.Own != 0 {
				t.Errorf("after finish: %v, %d keys of ours left\n%s", err, finished.Own, finished.String())
			}
		})
	}
}

// The history holds through kills of the sink.
func TestSingleServerHistory(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to := w.Server("", "--repl-backlog-size", backlog), w.Server("")
	p := newPipeline(t, w, w.Kafka().Addr(), nil)
	of := func(n *redistest.Node) *redis.Client {
		c := n.NewClient(func(o *redis.Options) { o.DB = 3 })
		t.Cleanup(func() { c.Close() })
		return c
	}
	source, target := of(from), of(to)
	h, err := load.NewHistory(source, load.HistoryConfig{Prefix: "history", Keys: 32, Workers: 4, Rate: 1500})
	if err != nil {
		t.Fatal(err)
	}
	run := p.run(p.singleSource(from.Addr()))
	toConfig := p.singleSink(to.Addr())
	sink := p.run(toConfig)
	p.singleMark(from.Client(), to.Client(), time.Minute)
	stopLoad := singleLoad(t, from, 2, "FLUSHALL", "SWAPDB")
	writing, stopWriting := context.WithTimeout(t.Context(), 6*time.Second)
	defer stopWriting()
	sampling, stopSampling := context.WithCancel(t.Context())
	defer stopSampling()
	sampled, wrote := make(chan error, 1), make(chan error, 1)
	go func() { sampled <- h.Sample(sampling, target) }()
	go func() { wrote <- h.Run(writing) }()
	for range 4 {
		time.Sleep(1200 * time.Millisecond)
		if err := sink.Kill(); err != nil {
			t.Fatal(err)
		}
		sink = p.run(toConfig)
	}
	<-wrote
	stopLoad()
	caughtUp, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := h.WaitCaughtUp(caughtUp, source, target); err != nil {
		t.Error(err)
	}
	stopSampling()
	<-sampled
	violations, err := h.Check(t.Context(), source, target)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		t.Error(v)
	}
	t.Logf("%+v", h.Stats())
	run.Stop()
	sink.Stop()
}

// Databases go where the map says, and what it does not name stays away.
func TestSingleServerDatabaseMap(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to := w.Server("", "--repl-backlog-size", backlog), w.Server("")
	p := newPipeline(t, w, w.Kafka().Addr(), nil)
	stop := singleLoad(t, from, singleDatabases, "SWAPDB", "MOVE", "COPY")
	foreign := to.NewClient(func(o *redis.Options) { o.DB = 9 })
	defer foreign.Close()
	foreign.Set(t.Context(), "foreign", 1, 0)
	source := p.run(p.singleSource(from.Addr()))
	toConfig := p.singleSink(to.Addr(), "databases", "0:4,3:1,2:2", "databases.unmapped", "skip")
	sink := p.run(toConfig)
	for range 3 {
		time.Sleep(1500 * time.Millisecond)
		if err := sink.Kill(); err != nil {
			t.Fatal(err)
		}
		sink = p.run(toConfig)
	}
	stop()
	target := to.NewClient(func(o *redis.Options) { o.DB = 4 })
	defer target.Close()
	p.singleMark(from.Client(), target, time.Minute)
	sameDatabases(t, verify.At(from.Addr()), verify.At(to.Addr()), verify.Options{Databases: []verify.Databases{{From: 0, To: 4}, {From: 3, To: 1}, {From: 2, To: 2}}})
	for db, want := range map[int]int64{0: 0, 3: 0, 5: 0, 9: 1} {
		c := to.NewClient(func(o *redis.Options) { o.DB = db })
		if n := c.DBSize(t.Context()).Val(); n != want {
			t.Errorf("database %d holds %d keys", db, n)
		}
		c.Close()
	}
	sink.Stop()
	// Another map is refused, and so is a database that goes nowhere, by name.
	wantExit(t, p.run(p.singleSink(to.Addr(), "databases", "0:4,3:1,1:2", "databases.unmapped", "skip")), exitTarget, "set databases to 0:4,2:2,3:1 again")
	other := w.Server("")
	wantExit(t, p.run(p.config("other", map[string]string{"type": "sink", "topic.prefix": p.prefix, "redis.address": other.Addr(), "databases": "0:0"})),
		exitData, "databases does not name it")
	source.Stop()
}

// A target pair fails over while writes come in.
func TestSingleTargetPairFailsOver(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, a, b := w.Server("", "--repl-backlog-size", backlog), w.Server(""), w.Server("")
	b.Client().Do(t.Context(), "REPLICAOF", "127.0.0.1", strconv.Itoa(a.Port()))
	p := newPipeline(t, w, w.Kafka().Addr(), nil)
	source, sink := p.run(p.singleSource(from.Addr())), p.run(p.singleSink(a.Addr()+","+b.Addr()))
	p.singleMark(from.Client(), a.Client(), time.Minute)
	stop := singleLoad(t, from, 3)
	time.Sleep(2 * time.Second)
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	b.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE")
	time.Sleep(2 * time.Second)
	stop()
	p.singleMark(from.Client(), b.Client(), time.Minute)
	sameDatabases(t, verify.At(from.Addr()), verify.At(b.Addr()), verify.Options{})
	source.Stop()
	sink.Stop()
}

// sync of one database, named in the addresses; and what the messages say of servers that are no cluster.
func TestSyncOfOneDatabase(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to := w.Server(""), w.Server("")
	three := from.NewClient(func(o *redis.Options) { o.DB = 3 })
	defer three.Close()
	if err := load.Fill(t.Context(), three, load.FillConfig{Keys: 1000, Seed: 1, TTLShare: 0.1}); err != nil {
		t.Fatal(err)
	}
	from.Client().Set(t.Context(), "elsewhere", 1, 0)
	wantExit(t, w.Redriver("sync", "--from", "redis://"+from.Addr()+"/3", "--to", "redis://"+to.Addr()+"/1", "--data-dir", t.TempDir(), "--until-synced", "--no-progress"), 0, "synced")
	sameDatabases(t, verify.At(from.Addr()), verify.At(to.Addr()), verify.Options{Databases: []verify.Databases{{From: 3, To: 1}}})
	if n := to.Client().DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("database 0 holds %d keys", n)
	}
	wantExit(t, w.Redriver("finish", "--to", "redis://"+to.Addr()), 0, "1,0")
	finished, err := verify.Compare(t.Context(), verify.At(from.Addr()), verify.At(to.Addr()), verify.Options{Databases: []verify.Databases{{From: 3, To: 1}}})
	if err != nil || !finished.Identical() || finished.Own != 0 {
		t.Errorf("after finish: %v, %d keys of ours left\n%s", err, finished.Own, finished.String())
	}
	// The same server under another name is found out.
	same := "redis://localhost:" + strconv.Itoa(from.Port())
	wantExit(t, w.Redriver("sync", "--from", "redis://"+from.Addr(), "--to", same, "--data-dir", t.TempDir(), "--no-progress"), exitTarget, "copied into itself")
}
