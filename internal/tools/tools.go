// Package tools holds the scripts that put third-party servers into the cache, and runs them. They are embedded, so
// that a binary far from its sources can install what it needs too (the demo does).
//
// The folder is also home of tools.mod, the module file of the development tools: their dependencies must not enter the
// graph of the project. It is not called go.mod, which would make the folder a module of its own and out of reach of
// embedding.
package tools

import (
	"bytes"
	"context"
	_ "embed" // for the scripts
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed redis-install
var redisInstall string

//go:embed kafka-install
var kafkaInstall string

// InstallRedis makes sure that the named server ("redis-7.0", "valkey-8.1"; see redis-install list) is there, and
// returns the folder with its redis-server and redis-cli.
func InstallRedis(ctx context.Context, name string) (binDir string, err error) {
	return run(ctx, "redis-install", redisInstall, name)
}

// InstallKafka makes sure that Kafka's jars are there, and returns their folder.
func InstallKafka(ctx context.Context) (libDir string, err error) {
	return run(ctx, "kafka-install", kafkaInstall)
}

// CacheDir returns the folder the scripts install into; it need not exist.
func CacheDir() (string, error) {
	if dir := os.Getenv("REDRIVER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "redriver"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	return filepath.Join(home, ".cache", "redriver"), nil
}

func run(ctx context.Context, name, script string, args ...string) (string, error) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		return "", fmt.Errorf("run %s: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, bash, append([]string{"-c", script, name}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
