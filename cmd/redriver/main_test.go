package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redriver/redriver/connectors"
)

var update = flag.Bool("update", false, "write the generated documents")

func TestReferenceIsWhatTheCommandsSay(t *testing.T) {
	const file = "../../docs/cli.md"
	want := reference()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s is not what the commands say (%v): run go test ./cmd/redriver -run Reference -update", file, err)
	}
}

// command runs a command line in this process.
func command(t *testing.T, environ []string, args ...string) (code connectors.Code, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, environ, &out, &errs)
	return code, out.String(), errs.String()
}

func TestEveryCommandHelps(t *testing.T) {
	for _, c := range (&app{}).root().Commands() {
		if c.Name() == "completion" || c.Name() == "help" {
			continue
		}
		code, stdout, stderr := command(t, nil, c.Name(), "--help")
		if code != connectors.CodeOK || !strings.Contains(stdout, "Examples:") || stderr != "" {
			t.Errorf("%s: code %d\n%s%s", c.Name(), code, stdout, stderr)
		}
	}
	code, stdout, _ := command(t, nil, "--help")
	if code != connectors.CodeOK || !strings.Contains(stdout, "Exit codes:") {
		t.Errorf("code %d\n%s", code, stdout)
	}
	_, stdout, _ = command(t, nil, "help", "config")
	for _, table := range connectors.Tables() {
		for _, k := range table.Keys {
			if !strings.Contains(stdout, "\n  "+k.Name+"  (") {
				t.Errorf("help config lacks %s", k.Name)
			}
		}
	}
}

func TestWrongArguments(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"snyc", `unknown command "snyc"`},
		{"run", "missing --config"},
		{"run --config x --log-lvel debug", "unknown flag: --log-lvel"},
		{"run extra", `unexpected argument "extra"`},
		{"config --config /nowhere", "/nowhere: no such file"},
		{"sync", "missing --from, --to, --data-dir"},
		{"sync --from a:1 --to redis://b:1 --data-dir x", "--from: want redis://"},
		{"sync --from rediss://a:1 --to redis://b:1/x --data-dir x", "number of a database"},
		{"sync --from redis://a:1/2 --to redis://b:1/3 --databases 0:0 --data-dir x", "give one of both"},
		{"sync --from redis://a:1 --to redis://b:1 --databases 0:0,1:0 --data-dir x", "two databases go into database 0"},
		{"sync --from redis://a:1 --to redis://a:1 --data-dir x", "redis.address is that of redriver-sink too"},
		{"sync --from redis://a:1 --to redis://b:1 --data-dir x --partitions -1", "topic.partitions"},
		{"sync --from redis://a:1 --to redis://b:1 --data-dir x --existing-keys eat", "want refuse, replace or keep"},
		{"sync --from redis://a:1 --to redis://b:1 --data-dir x --eviction eat", "want refuse or accept"},
		{"sync --from redis://u:hun%ter2@a:1 --to redis://b:1 --data-dir x", "%25"},
		{"demo --keys -1", "must not be negative"},
	} {
		code, stdout, stderr := command(t, nil, strings.Fields(c.args)...)
		if code != connectors.CodeConfig || !strings.Contains(stderr, c.want) || stdout != "" || strings.Contains(stderr, "hun") {
			t.Errorf("%s: code %d\n%s%s", c.args, code, stdout, stderr)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a fault of the arguments left a folder")
	}
}

func TestConfigPrintsWhatHolds(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "examples", "orders.yaml")
	environ := []string{"ORDERS_SOURCE_PASSWORD=hunter2", "ORDERS_TARGET_PASSWORD=hunter3", "REDRIVER_WORKER__LOG_LEVEL=warn"}
	for _, args := range [][]string{{"config", "--config", file, "--log-format", "json"}, {"run", "--print-config", "--config", file, "--log-format", "json"}} {
		code, stdout, stderr := command(t, environ, args...)
		if code != connectors.CodeOK || stderr != "" || strings.Contains(stdout, "hunter") {
			t.Errorf("%v: code %d\n%s%s", args, code, stdout, stderr)
		}
		for _, want := range []string{"log.level: warn", "log.format: json", "redis.password: ${env:ORDERS_SOURCE_PASSWORD}", "sweep.max: 0.2"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("%v: no %s in\n%s", args, want, stdout)
			}
		}
	}
}

func TestSyncAddresses(t *testing.T) {
	a := &app{environ: []string{"SECRET=s3"}}
	for text, want := range map[string]map[string]string{
		"redis://h":         {"redis.address": "h:6379"},
		"redis://h:1,i:2/0": {"redis.address": "h:1,i:2"},
		"redis://[::1]":     {"redis.address": "[::1]:6379"},
		"redis://u@h:1":     {"redis.address": "h:1", "redis.username": "u"},
		"redis://:p%40@h:1": {"redis.address": "h:1", "redis.password": "p@"},
		"redis://u:p:q@h:1": {"redis.address": "h:1", "redis.username": "u", "redis.password": "p:q"},
	} {
		got, err := a.redisAddress("--from", text, "NONE")
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %q", text, k, got[k])
			}
		}
	}
	if got, _ := a.redisAddress("--to", "redis://u@h:1", "SECRET"); got["redis.password"] != "${env:SECRET}" {
		t.Errorf("%v", got)
	}
}

func TestScreenKeepsItsLinesBelowTheLog(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b)
	s.draw([]string{"one", "two"})
	_, _ = s.Write([]byte("log\n"))
	s.clear()
	want := "one\ntwo\n" + "\x1b[2A\x1b[J" + "log\n" + "one\ntwo\n" + "\x1b[2A\x1b[J"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", 1234567: "1,234,567", -123: "-123"} {
		if got := count(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestCancelledBeforeItBegins(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	file := filepath.Join(t.TempDir(), "c.yaml")
	text := "worker:\n  kafka.brokers: 127.0.0.1:1\n  data.dir: " + t.TempDir() + "\nconnectors:\n  a:\n    type: sink\n    topic.prefix: p\n    redis.address: 127.0.0.1:1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := execute(ctx, []string{"run", "--config", file}, nil, &out, &errs); code != connectors.CodeOK {
		t.Errorf("code %d: %s", code, errs.String())
	}
}
