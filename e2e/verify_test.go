package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
)

// The exit codes of verify.
const (
	verifySame      = 0
	verifyDifferent = 1
	verifyFailed    = 2
)

// While a pipeline runs under load, verify --settle sees no difference but the one that is planted; when the pipeline has
// stopped it says what is behind.
func TestVerifySettlesWithARunningPipeline(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 3, 0), w.Cluster(2, 0)
	if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 20_000, Seed: 11, TTLShare: 0.1}); err != nil {
		t.Fatal(err)
	}
	p := newPipeline(t, w, w.Kafka().Addr(), source)
	fromConfig, toConfig := p.sourceConfig(), p.sinkConfig("to", target)
	from, to := p.run(fromConfig), p.run(toConfig)
	p.mark(target.Client(), time.Minute)
	stop := writers(t, source.Client(), 2, 150)
	args := []string{
		"verify", "--no-progress", "--from", "redis://" + source.Addrs()[0], "--to", "redis://" + target.Addrs()[0],
		"--settle", fromConfig, "--settle", toConfig, "--rounds", "15", "--settle-stall", "3s",
	}
	ran := func(code int, more []string, words ...string) {
		t.Helper()
		began := time.Now()
		run := w.Redriver(slices.Concat(args, more)...)
		wantExit(t, run, code, words...)
		t.Logf("exit code %d after %s: %s", code, time.Since(began).Round(time.Millisecond), strings.TrimSpace(run.LogTail(1)))
	}
	for range 3 {
		ran(verifySame, []string{"--settle-stall", "60s"}, "IDENTICAL")
	}

	// A key that no writer knows, with a source that has nothing to say but that it lives. It commits that now and then.
	stop()
	pings := func(seconds string) {
		t.Helper()
		for _, m := range source.Masters() {
			if err := m.Client().ConfigSet(t.Context(), "repl-ping-replica-period", seconds).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	pings("1")
	if err := target.Client().Set(t.Context(), "planted", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	ran(verifyDifferent, []string{"--settle-stall", "20s"}, `extra   "planted"`, "DIFFERENT: 1 difference\n")
	ran(verifyFailed, []string{"--repair"}, "still", "--repair-beside-sink")
	if n := target.Client().Exists(t.Context(), "planted").Val(); n != 1 {
		t.Error("it was repaired beside a sink")
	}
	pings("3600")
	p.mark(target.Client(), time.Minute)

	// Nobody carries on what is written from now on.
	to.Stop()
	if err := source.Client().Set(t.Context(), "late", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	ran(verifyFailed, nil, "wait until the pipeline has settled", "connector to", "nothing has moved for 3s", "partition", "is applied")
	from.Stop()
	if err := source.Client().Set(t.Context(), "later", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	ran(verifyFailed, nil, "connector from", "nothing has moved for 3s", "is in Kafka", "127.0.0.1:")
	ran(verifyFailed, []string{"--settle", toConfig + ".no"}, "no such file")
}
