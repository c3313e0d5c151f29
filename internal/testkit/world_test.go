package testkit_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/proc"
)

func TestWorld(t *testing.T) {
	w := testkit.New(t)
	n := w.Server("")
	if err := n.Client().Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if w.Kafka() != testkit.New(t).Kafka() {
		t.Error("two worlds of one binary have two brokers")
	}
	if w.FakeKafka().Addr() == "" {
		t.Error("no address")
	}
	if a, b := w.Name("topic"), w.Name("topic"); a == b {
		t.Errorf("the name %s twice", a)
	}
	p := w.Start(proc.Config{Path: "sh", Args: []string{"-c", "echo up; sleep 100"}})
	w.Eventually(10*time.Second, "the process says up", func() error {
		if p.LogTail(1) != "up" {
			return errors.New("silence")
		}
		return nil
	})
}

// TestRedriver runs a stand-in binary, so that it says something about the kit alone.
func TestRedriver(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	script := "#!/bin/sh\ntrap 'echo bye; exit 0' TERM\necho \"up $*\"\nwhile :; do sleep 0.01; done\n"
	if err := os.WriteFile(bin, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REDRIVER_BIN", bin)
	w := testkit.New(t)
	r := w.Redriver("run", "--config", "x")
	w.Eventually(10*time.Second, "it is up", func() error {
		if r.Log() != "up run --config x\n" {
			return errors.New(r.Log())
		}
		return nil
	})
	r.Stop()
	if !strings.HasSuffix(r.Log(), "bye\n") {
		t.Errorf("log %q", r.Log())
	}
}

// TestFailureKeepsLogs runs TestHelperFails in a process of its own.
func TestFailureKeepsLogs(t *testing.T) {
	kept := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelperFails$", "-test.v")
	cmd.Env = append(os.Environ(), "TESTKIT_HELPER=1", "REDRIVER_ARTIFACTS="+kept)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("passed:\n%s", out)
	}
	logs, _ := filepath.Glob(filepath.Join(kept, "redriver-TestHelperFails-*", "redis1", "*", "redis.log"))
	if len(logs) != 1 {
		t.Errorf("kept logs: %v", logs)
	}
	if !strings.Contains(string(out), "so it stays: not so after 20ms: not yet") {
		t.Errorf("output:\n%s", out)
	}
}

func TestHelperFails(t *testing.T) {
	if os.Getenv("TESTKIT_HELPER") == "" {
		return // is no test of its own
	}
	w := testkit.New(t)
	w.Server("")
	w.Eventually(20*time.Millisecond, "so it stays", func() error { return errors.New("not yet") })
}
