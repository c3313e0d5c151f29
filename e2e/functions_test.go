package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

func libraryCode(name, version string) string {
	return fmt.Sprintf("#!lua name=%s\nredis.register_function('%s_f', function() return '%s' end)", name, name, version)
}

// onAll runs a command on every master, as tools do that load functions into a cluster.
func onAll(t *testing.T, c *redistest.Cluster, args ...any) {
	t.Helper()
	for _, m := range c.Masters() {
		if err := m.Client().Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args[:2], err)
		}
	}
}

// librariesAre waits until every master has these libraries, name=version.
func librariesAre(w *testkit.World, t *testing.T, c *redistest.Cluster, want ...string) {
	t.Helper()
	w.Eventually(time.Minute, "libraries at the target", func() error {
		for _, m := range c.Masters() {
			libs, err := m.Client().FunctionList(t.Context(), redis.FunctionListQuery{WithCode: true}).Result()
			if err != nil {
				return err
			}
			var have []string
			for _, l := range libs {
				_, rest, _ := strings.Cut(l.Code, "return '")
				version, _, _ := strings.Cut(rest, "'")
				have = append(have, l.Name+"="+version)
			}
			if slices.Sort(have); !slices.Equal(have, want) {
				return fmt.Errorf("%s has %v, want %v", m.Addr(), have, want)
			}
		}
		return nil
	})
}

func TestFunctionsTravel(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 3, 0), w.Cluster(2, 0)
	onAll(t, source, "FUNCTION", "LOAD", libraryCode("one", "1"))
	onAll(t, source, "FUNCTION", "LOAD", libraryCode("two", "1"))
	p := newPipeline(t, w, w.FakeKafka().Addr(), source)
	from, to := p.run(p.sourceConfig()), p.run(p.sinkConfig("to", target))
	p.mark(target.Client(), time.Minute)
	librariesAre(w, t, target, "one=1", "two=1")

	// Of the stream; each step is at the target before the next one, so that each is seen.
	onAll(t, source, "FUNCTION", "LOAD", "REPLACE", libraryCode("one", "2"))
	onAll(t, source, "FUNCTION", "DELETE", "two")
	librariesAre(w, t, target, "one=2")
	dump, err := source.Masters()[0].Client().FunctionDump(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	onAll(t, source, "FUNCTION", "FLUSH")
	librariesAre(w, t, target)
	onAll(t, source, "FUNCTION", "RESTORE", dump)
	onAll(t, source, "FUNCTION", "LOAD", libraryCode("three", "1"))
	librariesAre(w, t, target, "one=2", "three=1")

	// A sink that was killed says it all again.
	if err := to.Kill(); err != nil {
		t.Fatal(err)
	}
	onAll(t, source, "FUNCTION", "LOAD", "REPLACE", libraryCode("three", "2"))
	to = p.run(p.sinkConfig("to", target))
	p.mark(target.Client(), time.Minute) // until then each shard's part of the log may bring earlier libraries once more
	librariesAre(w, t, target, "one=2", "three=2")
	if err := target.Client().FCallRO(t.Context(), "three_f", nil).Err(); err != nil && !strings.Contains(err.Error(), "write flag") {
		t.Error(err)
	}
	identical(t, source, target)
	from.Stop()
	to.Stop()
	if c := p.chainHolds(); c.Counts[event.Functions] != 3*7 {
		t.Errorf("%d events of functions", c.Counts[event.Functions])
	}
}

func TestFunctionsForATargetWithoutThem(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := sourceCluster(w, 3, 0)
	target := w.ClusterWith(redistest.Config{Version: "redis-6.2", Masters: 2})
	onAll(t, source, "FUNCTION", "LOAD", libraryCode("one", "1"))
	p := newPipeline(t, w, w.FakeKafka().Addr(), source)
	from := p.run(p.sourceConfig())
	for _, policy := range []string{"replace", "stop"} {
		to := p.run(p.sinkConfig("to", target, "target.functions", policy))
		w.Eventually(time.Minute, "the sink stops", func() error {
			if to.Running() {
				return errors.New("it runs")
			}
			return nil
		})
		if !strings.Contains(to.Log(), "target.functions") || to.ExitCode() == 0 {
			t.Errorf("%s: exit code %d:\n%s", policy, to.ExitCode(), to.LogTail(5))
		}
	}
	to := p.run(p.sinkConfig("to", target, "target.functions", "skip"))
	p.mark(target.Client(), time.Minute)
	to.Stop()
	from.Stop()
	if !strings.Contains(to.Log(), "left out") {
		t.Error("that functions are left out is told nowhere")
	}
}
