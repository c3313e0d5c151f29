package e2e_test

import (
	"context"
	"encoding/binary"
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

	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
)

// sized returns how much of something a test does: short of it, and long of it for make long.
func sized[T int | time.Duration](short, long T) T {
	if os.Getenv("REDRIVER_LONG") != "" {
		return long
	}
	return short
}

// Source and sink are killed at random moments, each many times, under load. A consumer that knows nothing of it sees
// every lane's chain whole, and both clusters are identical in the end.
//
// Fault (all): source and sink are killed by SIGKILL in turn, at random moments. Both go on from what Kafka and the target
// say; no record is lost or repeated.
func TestKilledSourceAndSinkLoseAndRepeatNothing(t *testing.T) {
	kills := sized(8, 20) // of each side
	w := testkit.New(t)
	brokers := map[string]string{"kafka": w.Kafka().Addr(), "embedded": w.FakeKafka().Addr()}
	for name, broker := range brokers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := testkit.New(t)
			source, target := sourceCluster(w, 3, 0), w.Cluster(2, 0)
			if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 60_000, Seed: 3, TTLShare: 0.1}); err != nil {
				t.Fatal(err)
			}
			p := newPipeline(t, w, broker, source)
			stop := writers(t, source.Client(), 4, 400)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			fates := rand.New(rand.NewPCG(seed, 1))

			follow, stopFollowing := context.WithCancel(t.Context())
			defer stopFollowing()
			followed := make(chan error, 1)

			sides := []string{p.sourceConfig(), p.sinkConfig("to", target)}
			running := []*testkit.Redriver{p.run(sides[0]), p.run(sides[1])}
			time.Sleep(time.Second)
			go func() {
				var c chain.Checker
				followed <- c.Follow(follow, kafka.Config{Brokers: []string{broker}}, p.prefix+".changes")
			}()
			for i := range 2 * kills {
				side := i % 2
				time.Sleep(time.Duration(100+fates.IntN(900)) * time.Millisecond)
				running[side].Kill()
				running[side] = p.run(sides[side])
			}
			t.Logf("%d commands written", stop())
			p.mark(target.Client(), time.Minute)
			stopFollowing()
			if err := <-followed; err != nil {
				t.Errorf("a consumer of the topic sees: %v", err)
			}
			identical(t, source, target)
			p.chainHolds()
		})
	}
}

// Kafka is gone for a time while the source streams under load: the master does not notice.
//
// Fault (kafka): the broker is killed and comes back later. The spool takes the stream meanwhile; the masters notice
// nothing, and nothing is resynchronised.
func TestKafkaAwayIsNotNoticedByTheMaster(t *testing.T) {
	w := testkit.New(t)
	source, target := sourceCluster(w, 3, 0), w.Cluster(2, 0)
	broker := w.OwnKafka(kafkatest.Config{})
	p := newPipeline(t, w, broker.Addr(), source)
	from, to := p.run(p.sourceConfig()), p.run(p.sinkConfig("to", target))
	p.mark(target.Client(), time.Minute)
	full := fullSyncs(t, source)
	stop := writers(t, source.Client(), 4, 3000)
	time.Sleep(2 * time.Second)

	ctx, stopWatch := context.WithCancel(t.Context())
	var most int64
	var offline []string
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			for _, m := range source.Masters() {
				omem, state := replicaOutput(ctx, m)
				most = max(most, omem)
				if state != "online" && ctx.Err() == nil {
					offline = append(offline, fmt.Sprintf("%s: %q", m.Addr(), state))
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	if err := broker.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(sized(12*time.Second, 30*time.Second))
	if err := broker.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	stopWatch()
	wg.Wait()
	t.Logf("%d commands written; the masters held at most %d bytes for the link", stop(), most)
	p.mark(target.Client(), 2*time.Minute)
	if most > 1<<20 {
		t.Errorf("a master buffered %d bytes for the link", most)
	}
	if len(offline) > 0 {
		t.Errorf("the link was not online: %s", offline[0])
	}
	if now := fullSyncs(t, source); now != full {
		t.Errorf("%d full resynchronisations followed", now-full)
	}
	identical(t, source, target)
	from.Stop()
	to.Stop()
	p.chainHolds()
}

func fullSyncs(t *testing.T, c *redistest.Cluster) (n int) {
	t.Helper()
	for _, m := range c.Masters() {
		info, err := m.Client().InfoMap(t.Context(), "stats").Result()
		if err != nil {
			t.Fatal(err)
		}
		k, _ := strconv.Atoi(info["Stats"]["sync_full"])
		n += k
	}
	return n
}

// replicaOutput is what the master buffers for its replica, and the replica's state.
func replicaOutput(ctx context.Context, m *redistest.Node) (omem int64, state string) {
	list, err := m.Client().Do(ctx, "CLIENT", "LIST", "TYPE", "replica").Text()
	if err != nil {
		return 0, err.Error()
	}
	for word := range strings.FieldsSeq(list) {
		if v, ok := strings.CutPrefix(word, "omem="); ok {
			n, _ := strconv.ParseInt(v, 10, 64)
			omem = max(omem, n)
		}
	}
	info, err := m.Client().InfoMap(ctx, "replication").Result()
	if err != nil {
		return omem, err.Error()
	}
	for word := range strings.SplitSeq(info["Replication"]["slave0"], ",") {
		if v, ok := strings.CutPrefix(word, "state="); ok {
			state = v
		}
	}
	return omem, state
}

// A kill of the embedded broker between two commit markers leaves one of them out: the position says what the log does
// not hold. The source finds that when it starts, and takes a new generation.
//
// Fault (kafka): a commit marker of one partition is missing on the embedded broker. The source finds the hole at its start
// and takes a new snapshot.
func TestAMissingCommitMarkerIsFoundAtStart(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 1, 0), w.Cluster(1, 0)
	if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 1000, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	broker, err := kafkatest.StartFake(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPipeline(t, w, broker.Addr(), source)
	from, to := p.run(p.sourceConfig()), p.run(p.sinkConfig("to", target))
	p.mark(target.Client(), time.Minute)
	to.Kill()
	// Written and committed, but not seen by the sink: a marker that a consumer has seen is on disk. The last one stands apart
	// from the others, because the times of files are coarse.
	for i := range 1000 {
		if i == 999 {
			time.Sleep(time.Second)
		}
		if err := source.Client().Incr(t.Context(), fmt.Sprintf("counter-%d", i)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	from.Kill()
	// What lies in the folder now is what a kill leaves.
	if err := os.CopyFS(filepath.Join(dir, "b"), os.DirFS(filepath.Join(dir, "a"))); err != nil {
		t.Fatal(err)
	}
	port := broker.Port()
	broker.Close()
	cutLastBatch(t, filepath.Join(dir, "b"), filepath.Join(dir, "a"), p.prefix+".changes")
	again, err := kafkatest.StartFakeOn(filepath.Join(dir, "b"), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	from, to = p.run(p.sourceConfig()), p.run(p.sinkConfig("to", target))
	p.mark(target.Client(), time.Minute)
	identical(t, source, target)
	if !strings.Contains(from.Log(), "a new generation follows") {
		t.Errorf("the source did not say that the log and its position differ:\n%s", from.Log())
	}
	from.Stop()
	to.Stop()
}

// cutLastBatch removes the last batch, a commit marker, of the partition of the topic that was written last, as the times of
// the files in the folder that dir was copied from say.
func cutLastBatch(t *testing.T, dir, from, topic string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "partitions", topic+"-*", "*.dat"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments of %s in %s: %v", topic, dir, err)
	}
	written := func(file string) time.Time {
		info, err := os.Stat(from + strings.TrimPrefix(file, dir))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	slices.SortFunc(files, func(a, b string) int { return written(b).Compare(written(a)) })
	const indexEntry, lengthAt, batchHead, attributesAt, control = 15, 8, 12, 21, 0x20
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		last, n := 0, 0
		for pos := 0; pos+batchHead <= len(raw); n++ {
			last = pos
			pos += batchHead + int(binary.BigEndian.Uint32(raw[pos+lengthAt:]))
		}
		if n == 0 || raw[last+attributesAt+1]&control == 0 {
			continue
		}
		index := strings.TrimSuffix(file, ".dat") + ".idx"
		if err := os.Truncate(file, int64(last)); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(index, int64((n-1)*indexEntry)); err != nil {
			t.Fatal(err)
		}
		t.Logf("cut the commit marker at the end of %s", file)
		return
	}
	t.Fatal("no partition ends with a commit marker")
}
