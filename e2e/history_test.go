package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/proc"
)

// edit is a change of our own code that breaks a promise.
type edit struct{ file, old, new string }

// mutant builds the binary with the edits, without touching the checkout.
func mutant(t *testing.T, edits []edit) string {
	t.Helper()
	root, err := testkit.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := map[string]string{}
	for _, e := range edits {
		path := filepath.Join(root, e.file)
		if text[path] == "" {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text[path] = string(b)
		}
		if strings.Count(text[path], e.old) != 1 {
			t.Fatalf("%s: the code to change is not there once:\n%s", e.file, e.old)
		}
		text[path] = strings.Replace(text[path], e.old, e.new, 1)
	}
	replace := map[string]string{}
	for path, changed := range text {
		replace[path] = filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(replace[path], []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayPath, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "redriver")
	if err := os.WriteFile(overlayPath, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlayPath, "-o", binary, "./cmd/redriver")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build mutant: %v\n%s", err, out)
	}
	return binary
}

// history runs numbered writes through a pipeline whose sink is killed now and then, and returns what the check finds.
// binary is empty for the code as it is.
func history(t *testing.T, binary, broker string) []*load.Violation {
	t.Helper()
	w := testkit.New(t)
	source, target := sourceCluster(w, 3, 0), w.Cluster(2, 0)
	p := newPipeline(t, w, broker, source)
	run := func(config string) *proc.Process {
		args := []string{"run", "--config", config, "--no-progress"}
		if binary == "" {
			return w.Redriver(args...).Process
		}
		return w.Start(proc.Config{Name: "mutant", Path: binary, Args: args})
	}
	h, err := load.NewHistory(source.Client(), load.HistoryConfig{Prefix: "history", Keys: 32, Workers: 4, Rate: 1500})
	if err != nil {
		t.Fatal(err)
	}
	toConfig := p.sinkConfig("to", target)
	from, to := run(p.sourceConfig()), run(toConfig)
	defer func() { _ = from.Kill(); _ = to.Kill() }()
	p.mark(target.Client(), time.Minute)

	writing, stopWriting := context.WithTimeout(t.Context(), 6*time.Second)
	defer stopWriting()
	sampling, stopSampling := context.WithCancel(t.Context())
	defer stopSampling()
	sampled := make(chan error, 1)
	go func() { sampled <- h.Sample(sampling, target.Client()) }()
	wrote := make(chan error, 1)
	go func() { wrote <- h.Run(writing) }()
	for range 4 {
		time.Sleep(1200 * time.Millisecond)
		if err := to.Kill(); err != nil {
			t.Fatal(err)
		}
		to = run(toConfig)
	}
	if err := <-wrote; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	patience := 30 * time.Second
	if binary != "" {
		patience = 8 * time.Second // it may never come
	}
	caughtUp, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	behind := h.WaitCaughtUp(caughtUp, source.Client(), target.Client())
	if behind != nil && binary == "" {
		t.Error(behind)
	}
	stopSampling()
	if err := <-sampled; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	violations, err := h.Check(t.Context(), source.Client(), target.Client())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", h.Stats())
	return violations
}

func TestHistoryHoldsThroughKillsOfTheSink(t *testing.T) {
	t.Parallel()
	for _, v := range history(t, "", testkit.New(t).Kafka().Addr()) {
		t.Error(v)
	}
}

// Each promise has a change of our code that breaks it; the history check must name that promise.
func TestHistoryNamesThePromiseThatAMutantBreaks(t *testing.T) {
	for promise, edits := range map[load.Promise][]edit{
		load.Complete: {{
			"source/publish.go",
			"p.em.unit(u, m.parts)",
			"if u.end%97 != 0 { p.em.unit(u, m.parts) }",
		}},
		load.Ordered: {{
			"sink/batch.go",
			"r.units = append(r.units, u)\n",
			"r.units = append([]*unit{u}, r.units...)\n",
		}},
		load.Once: {{
			"sink/chunks.go",
			"offset <= in.plan.done[i] {",
			"offset < 0 && i >= 0 {",
		}},
		load.AtomicUnit: {{
			"source/unit.go",
			"case resp.IsWord(name, \"MULTI\") && !u.atomic:\n\t\t\tu.atomic = true\n\t\t\tu.args = u.args[:first]\n\t\t\tcontinue",
			"case resp.IsWord(name, \"MULTI\"):\n\t\t\tu.args = u.args[:first]\n\t\t\treturn n, nil",
		}, {
			"source/unit.go",
			"case resp.IsWord(name, \"EXEC\") && u.atomic:",
			"case resp.IsWord(name, \"EXEC\"):",
		}, {
			"sink/batch.go",
			"if b.over || len(b.units) >= l.units",
			"if b.over || len(b.units) >= 1",
		}},
	} {
		t.Run(string(promise), func(t *testing.T) {
			t.Parallel()
			violations := history(t, mutant(t, edits), testkit.New(t).FakeKafka().Addr())
			for _, v := range violations {
				if v.Promise == promise {
					t.Logf("found: %v", v)
					return
				}
			}
			t.Errorf("the check did not find that %s is broken; it found %d other violations", promise, len(violations))
		})
	}
}
