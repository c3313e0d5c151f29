package connectors_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redriver/redriver/connectors"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "redriver.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const minimal = `
worker:
  kafka.brokers: [kafka-1:9092]
connectors:
  a:
    type: source
    topic.prefix: p
    redis.address: redis-1:6379
`

// faultsOf returns the faults of a configuration as lines.
func faultsOf(t *testing.T, in connectors.Input) []string {
	t.Helper()
	_, err := connectors.Load(in)
	if err == nil {
		return nil
	}
	var faults *connectors.ConfigError
	if !errors.As(err, &faults) {
		t.Fatalf("%T: %v", err, err)
	}
	if connectors.CodeOf(err) != connectors.CodeConfig {
		t.Errorf("code %d", connectors.CodeOf(err))
	}
	var out []string
	for _, f := range faults.Faults {
		out = append(out, f.String())
		if !strings.Contains(err.Error(), f.String()) {
			t.Errorf("error does not have %q", f)
		}
	}
	return out
}

func TestFaults(t *testing.T) {
	sink := strings.Replace(minimal, "type: source", "type: sink", 1)
	for _, c := range []struct {
		name, text string
		want       []string // parts of the faults, in their order
	}{
		{"nothing wrong", minimal, nil},
		{"empty", "", []string{"has no connectors", "worker: kafka.brokers is missing"}},
		{"not YAML", "worker: [", []string{"is no YAML"}},
		{"no mapping", "- a", []string{"holds no sections", "has no connectors", "kafka.brokers is missing"}},
		{"unknown section", minimal + "worke:\n  x: 1\n", []string{`unknown key "worke" (line 10): did you mean "worker"?`}},
		{"unknown key", minimal + "    topic.partition: 3\n", []string{`connector a: unknown key "topic.partition" (line 9): did you mean "topic.partitions"?`}},
		{"half a key", minimal + "    partitions: 3\n", []string{`did you mean "topic.partitions"?`}},
		{"unlike any", minimal + "    qqqqqqqq: 3\n", []string{`unknown key "qqqqqqqq" (line 9): "redriver help config" lists the keys`}},
		{"key of the other kind", minimal + "    sweep.max: 0.5\n", []string{"connector a: sweep.max is a key of a sink, and this is a source (line 9)"}},
		{"no type", strings.Replace(minimal, "    type: source\n", "", 1), []string{"connector a: type is missing"}},
		{"mistyped type", strings.Replace(minimal, "type: source", "type: sorce", 1), []string{`type: "sorce": want source or sink; did you mean source?`}},
		{"no number", minimal + "    topic.partitions: many\n", []string{`topic.partitions: "many": want a whole number (line 9)`}},
		{"out of bounds", minimal + "    topic.partitions: 16385\n", []string{`topic.partitions: "16385": out of bounds, want 0 to 16384`}},
		{"duration without unit", minimal + "    link.timeout: 60\n", []string{`link.timeout: "60": want a time with its unit`}},
		{"size", minimal + "    spool.disk.bytes: 8 parsecs\n", []string{"want a number of bytes or one with its unit"}},
		{"nested", minimal + "    topic:\n      partitions: 3\n", []string{"connector a: topic is nested (line 10)"}},
		{"twice", minimal + "    topic.prefix: q\n", []string{"topic.prefix is there twice (line 9)"}},
		{"list for a text", strings.Replace(minimal, "topic.prefix: p", "topic.prefix: [p]", 1), []string{"topic.prefix is a list"}},
		{"url for an address", strings.Replace(minimal, "redis-1:6379", "redis://redis-1:6379", 1), []string{"is a URL, want host:port"}},
		{"port", strings.Replace(minimal, "redis-1:6379", "redis-1:637900", 1) + "    redis.timeout: 1h\n", []string{"port of \"redis-1:637900\"", `redis.timeout: "1h": out of bounds`}},
		{"empty value", minimal + "    redis.username:\n", []string{"redis.username is empty (line 9)"}},
		{"user without password", minimal + "    redis.username: u\n", []string{"redis.username is given without redis.password"}},
		{"missing variable", minimal + "    redis.password: ${env:NOWHERE}\n", []string{`redis.password: ${env:NOWHERE}: the environment variable is not set`}},
		{"missing file", minimal + "    redis.password: ${file:/nowhere}\n", []string{"${file:/nowhere}: open /nowhere: no such file"}},
		{"interval", minimal + "    commit.interval: 1s\n", []string{"commit.interval is above commit.interval.max"}},
		{"name", strings.Replace(minimal, "  a:", "  a b:", 1), []string{"connector a b: its name: use letters"}},
		{"replace without sweep", sink + "    target.existing.keys: replace\n    sweep.policy: keep\n", []string{"target.existing.keys is replace, and sweep.policy is keep"}},
		{"sweep of nothing", sink + "    sweep.max: 0\n", []string{`sweep.max: "0": out of bounds`}},
		{
			"two sources of one log", minimal + "  b:\n    type: source\n    topic.prefix: p\n    redis.address: other:1\n",
			[]string{"connector b: topic.prefix is that of source a too"},
		},
		{
			"copy into itself", minimal + "  b:\n    type: sink\n    topic.prefix: p\n    redis.address: redis-1:6379\n",
			[]string{"connector b: redis.address is that of a too"},
		},
		{
			"events too small", minimal + "  b:\n    type: sink\n    topic.prefix: p\n    redis.address: other:1\n    event.max.bytes: 1MiB\n",
			[]string{"connector b: event.max.bytes is below unit.max.bytes of a"},
		},
		{"all at once", `
worker:
  log.level: loud
  spool: x
connectors:
  a:
    type: source
    topic.prefix: "a b"
    topic.partitions: -1
  b:
    type: sink
`, []string{
			"worker: unknown key \"spool\"", "worker: kafka.brokers is missing", "worker: log.level: \"loud\"",
			"connector a: redis.address is missing", "connector a: topic.partitions: \"-1\"", "connector a: topic.prefix: \"a b\"",
			"connector b: redis.address is missing", "connector b: topic.prefix is missing",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := faultsOf(t, connectors.Input{File: write(t, c.text)})
			if len(got) != len(c.want) {
				t.Fatalf("%d faults, want %d:\n%s", len(got), len(c.want), strings.Join(got, "\n"))
			}
			for i := range got {
				if !strings.Contains(got[i], c.want[i]) {
					t.Errorf("%q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}

func TestMissingFileIsNamed(t *testing.T) {
	got := faultsOf(t, connectors.Input{File: "/nowhere/redriver.yaml"})
	if len(got) != 1 || !strings.Contains(got[0], "/nowhere/redriver.yaml") {
		t.Errorf("%q", got)
	}
}

func TestLaterSourcesOfAKeyWin(t *testing.T) {
	file := write(t, strings.Replace(minimal, "worker:", "worker:\n  log.level: debug\n  log.format: json", 1))
	for _, c := range []struct {
		environ       []string
		flags         map[string]string
		level, format string
	}{
		{nil, nil, "debug", "json"},
		{[]string{"REDRIVER_WORKER__LOG_LEVEL=warn", "REDRIVER_BIN=x"}, nil, "warn", "json"},
		{[]string{"REDRIVER_WORKER__LOG_LEVEL=warn"}, map[string]string{"log.level": "error"}, "error", "json"},
		{nil, map[string]string{"log.format": "text"}, "debug", "text"},
	} {
		cfg, err := connectors.Load(connectors.Input{File: file, Environ: c.environ, Flags: c.flags})
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Worker.LogLevel != c.level || cfg.Worker.LogFormat != c.format {
			t.Errorf("%v %v: %s %s", c.environ, c.flags, cfg.Worker.LogLevel, cfg.Worker.LogFormat)
		}
	}
	cfg, err := connectors.Load(connectors.Input{File: file, Environ: []string{"REDRIVER_WORKER__KAFKA_BROKERS=x:1, y:2"}})
	if err != nil || strings.Join(cfg.Worker.Kafka.Brokers, " ") != "x:1 y:2" {
		t.Errorf("%v, %v", cfg, err)
	}
	for environ, want := range map[string]string{
		"REDRIVER_WORKER__LOG_LEVELS=warn": `unknown key "log.levels" (from REDRIVER_WORKER__LOG_LEVELS): did you mean "log.level"?`,
		"REDRIVER_WORKER__LOG_LEVEL=loud":  `log.level: "loud": want debug, info, warn or error (from REDRIVER_WORKER__LOG_LEVEL)`,
		"REDRIVER_CONNECTORS__A__TYPE=x":   "only keys of the worker can be set this way",
	} {
		if got := faultsOf(t, connectors.Input{File: file, Environ: []string{environ}}); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q", environ, got)
		}
	}
	got := faultsOf(t, connectors.Input{File: file, Flags: map[string]string{"log.format": "xml"}})
	if len(got) != 1 || !strings.Contains(got[0], "(from --log-format)") {
		t.Errorf("%q", got)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	dir := t.TempDir()
	secretFile := filepath.Join(dir, "secret")
	if err := os.WriteFile(secretFile, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for written, shown := range map[string]string{
		"hunter2":                    "redis.password: (hidden)",
		"'x${env:PASS}'":             "redis.password: (hidden)",
		"${env:PASS}":                "redis.password: ${env:PASS}",
		"${file:" + secretFile + "}": "redis.password: ${file:" + secretFile + "}",
	} {
		cfg, err := connectors.Load(connectors.Input{
			File:    write(t, minimal+"    redis.password: "+written+"\n"),
			Environ: []string{"PASS=hunter2"},
		})
		if err != nil {
			t.Errorf("%s: %v", written, err)
			continue
		}
		if strings.Contains(cfg.String(), "hunter2") || !strings.Contains(cfg.String(), shown+"\n") {
			t.Errorf("%s:\n%s", written, cfg)
		}
		if got := cfg.Connectors[0].Dialer().Password; !strings.HasSuffix(got, "hunter2") {
			t.Errorf("%s: password %q", written, got)
		}
	}
	// A fault in a secret does not show it either.
	got := faultsOf(t, connectors.Input{File: write(t, minimal+"    redis.password: [hunter2]\n")})
	if len(got) != 1 || strings.Contains(got[0], "hunter2") {
		t.Errorf("%q", got)
	}
}

// What YAML takes for numbers and words stays what was written.
func TestValuesAreTexts(t *testing.T) {
	for _, password := range []string{"0123", "1e3", "yes", "null-ish", "true", "a$b", "$${x}"} {
		cfg, err := connectors.Load(connectors.Input{File: write(t, minimal+"    redis.password: "+password+"\n")})
		if err != nil {
			t.Errorf("%s: %v", password, err)
		} else if got := cfg.Connectors[0].Dialer().Password; got != password {
			t.Errorf("%s became %s", password, got)
		}
	}
}

// What is printed can be read again, and means the same.
func TestEffectiveConfigurationIsAConfiguration(t *testing.T) {
	cfg, err := connectors.Load(connectors.Input{File: write(t, minimal)})
	if err != nil {
		t.Fatal(err)
	}
	again, err := connectors.Load(connectors.Input{File: write(t, cfg.String())})
	if err != nil || again.String() != cfg.String() {
		t.Errorf("%v\n%s", err, cfg)
	}
	for _, want := range []string{"topic.partitions: 0", "log.level: info", "redis.address: redis-1:6379"} {
		if !strings.Contains(cfg.String(), want) {
			t.Errorf("no %s in\n%s", want, cfg)
		}
	}
}

func TestParseConnector(t *testing.T) {
	c, err := connectors.ParseConnector("a", map[string]string{"type": "sink", "topic.prefix": "p", "redis.address": "h:1", "sweep.max": "20%"}, nil)
	if err != nil || c.Kind != connectors.KindSink || c.Prefix() != "p" {
		t.Errorf("%v, %v", c, err)
	}
	_, err = connectors.ParseConnector("a", map[string]string{"type": "sink", "topic.prefix": "p", "redis.addres": "h:1"}, nil)
	if err == nil || !strings.Contains(err.Error(), `did you mean "redis.address"?`) {
		t.Error(err)
	}
}
