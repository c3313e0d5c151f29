package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/internal/tools"
)

// machine is where figures come from, and of what.
type machine struct {
	cores                          int
	cpu, memory, kernel            string
	redis, kafka, golang, redriver string
}

func describeMachine(ctx context.Context, root string) (m machine, err error) {
	m = machine{cores: runtime.NumCPU(), golang: strings.TrimPrefix(runtime.Version(), "go"), cpu: "unknown", memory: "unknown", kernel: runtime.GOOS}
	if v, ok := procField("/proc/cpuinfo", "model name"); ok {
		m.cpu = v
	}
	if v, ok := procField("/proc/meminfo", "MemTotal"); ok {
		var kilobytes float64
		if _, err := fmt.Sscan(v, &kilobytes); err == nil {
			m.memory = fmt.Sprintf("%.0f GiB", kilobytes/(1<<20))
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release, _, _ := strings.Cut(strings.TrimSpace(string(text)), "-") // behind it is the distribution's own
		m.kernel = "Linux " + release
	}
	if m.redis, err = redisVersion(ctx); err != nil {
		return m, err
	}
	if m.kafka, err = kafkaVersion(ctx); err != nil {
		return m, err
	}
	m.redriver = "commit " + commit(ctx, root)
	if path := os.Getenv("REDRIVER_BIN"); path != "" { // not built from here
		out, err := exec.CommandContext(ctx, path, "version").Output()
		if err != nil {
			return m, fmt.Errorf("ask version of %s: %w", path, err)
		}
		m.redriver, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	return m, nil
}

// procField finds a line "name : value" of a file in /proc.
func procField(path, name string) (value string, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		if n, v, found := strings.Cut(line, ":"); found && strings.TrimSpace(n) == name {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// redisVersion asks the binary: "Redis server v=7.0.15 sha=...".
func redisVersion(ctx context.Context) (string, error) {
	bin, err := redistest.BinDir(ctx, "")
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "redis-server"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask version of redis-server: %w", err)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(field, "v="); ok {
			return v, nil
		}
	}
	return strings.TrimSpace(string(out)), nil
}

// kafkaVersion looks at the name of the client's jar, which has the broker's version.
func kafkaVersion(ctx context.Context) (string, error) {
	libs, err := tools.InstallKafka(ctx)
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(libs, "kafka-clients-*.jar"))
	if err != nil || len(found) == 0 {
		return "unknown", nil //nolint:nilerr // the pattern is ours; without a jar there is no broker either
	}
	name := strings.TrimSuffix(filepath.Base(found[0]), ".jar")
	return strings.TrimPrefix(name, "kafka-clients-"), nil
}

// commit is what was measured: the checkout's commit, with a plus sign if files that are built differ from it.
func commit(ctx context.Context, root string) string {
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = root
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	id, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return "unknown"
	}
	changed, err := git("status", "--porcelain", "--", "*.go", "go.mod", "go.sum")
	if err != nil || changed != "" {
		return id + "+ (with changes that are not committed)"
	}
	return id
}
