package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/kafka"
)

const binaryTimeout = 2 * time.Minute

// binary runs the built program to its end.
func binary(t *testing.T, args ...string) (code connectors.Code, output string) {
	t.Helper()
	path, err := testkit.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), binaryTimeout)
	defer cancel()
	text, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("redriver %s has not ended after %v:\n%s", strings.Join(args, " "), binaryTimeout, text)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = connectors.Code(exit.ExitCode())
	}
	return code, string(text)
}

func configFile(t *testing.T, brokers, address string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("worker:\n  data.dir: %s\n  kafka.brokers: %s\n  kafka.timeout: 2s\nconnectors:\n  orders-source:\n"+
		"    type: source\n    topic.prefix: orders\n    redis.address: %s\n    redis.timeout: 2s\n%s\n", dir, brokers, address, strings.Join(more, "\n"))
	file := filepath.Join(dir, "redriver.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A start that cannot work says what, why and what to do, with an exit code of its own.
func TestBadStarts(t *testing.T) {
	w := testkit.New(t)
	kafka := w.FakeKafka().Addr()
	locked := w.Server("", "--requirepass", "hunter2", "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
	single := w.Server("")
	fresh := w.Server("", "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
	nowhere := fmt.Sprintf("127.0.0.1:%d", w.Port())
	for _, c := range []struct {
		name, file string
		code       connectors.Code
		want       []string // thing, cause, next step
	}{
		{"unknown key", configFile(t, kafka, single.Addr(), "    topic.prefx: x"), connectors.CodeConfig, []string{"orders-source", "topic.prefx", "did you mean"}},
		{"wrong address", configFile(t, kafka, nowhere), connectors.CodeRedisUnreachable, []string{"orders-source", nowhere, "refused", "check that host and port are right"}},
		{"no password", configFile(t, kafka, locked.Addr()), connectors.CodeRedisRefuses, []string{"orders-source", locked.Addr(), "NOAUTH", "password"}},
		{"wrong password", configFile(t, kafka, locked.Addr(), "    redis.password: hunter3"), connectors.CodeRedisRefuses, []string{"orders-source", locked.Addr(), "WRONGPASS", "check"}},
		{"not formed", configFile(t, kafka, fresh.Addr()), connectors.CodeTopology, []string{"orders-source", fresh.Addr(), "serves a slot", "form the cluster"}},
		{"no Kafka", configFile(t, nowhere, single.Addr()), connectors.CodeKafka, []string{"Kafka", nowhere, "refused", "kafka.brokers"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, output := binary(t, "run", "--config", c.file)
			if code != c.code {
				t.Errorf("code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(output, want) {
					t.Errorf("no %q", want)
				}
			}
			if strings.Contains(output, "hunter") {
				t.Error("it shows a password")
			}
			if strings.Contains(output, "redis: ") {
				t.Error("the Redis client prints by itself")
			}
			if t.Failed() {
				t.Log(output)
			}
		})
	}
}

// The service runs, refuses a second process on its folder, and stops in good order.
func TestRunStopsInGoodOrder(t *testing.T) {
	w := testkit.New(t)
	cluster := w.Cluster(3, 0)
	file := configFile(t, w.FakeKafka().Addr(), cluster.Addrs()[0])
	r := w.Redriver("run", "--config", file)
	w.Eventually(30*time.Second, "all shards stream", func() error {
		if n := strings.Count(r.Log(), "msg=streaming"); n < 3 {
			return fmt.Errorf("%d of 3", n)
		}
		return nil
	})
	if code, output := binary(t, "run", "--config", file); code != connectors.CodeConfig || !strings.Contains(output, "another process uses it") {
		t.Errorf("a second process on the folder: code %d\n%s", code, output)
	}
	r.Stop()
}

// Another number of partitions than the topic has is found before anything runs; without a number the topic's own is right,
// as long as it stays what the log began with.
func TestTopicMismatch(t *testing.T) {
	w := testkit.New(t)
	cluster, broker := w.Cluster(3, 0), w.FakeKafka().Addr()
	streams := func(lines ...string) {
		r := w.Redriver("run", "--config", configFile(t, broker, cluster.Addrs()[0], lines...))
		w.Eventually(30*time.Second, "it streams", func() error {
			if !strings.Contains(r.Log(), "msg=streaming") {
				return errors.New("not yet")
			}
			return nil
		})
		r.Stop()
	}
	streams("    topic.partitions: 7")
	streams()
	code, output := binary(t, "run", "--config", configFile(t, broker, cluster.Addrs()[0], "    topic.partitions: 12"))
	if code != connectors.CodeTopic || !strings.Contains(output, "orders.changes") || !strings.Contains(output, "set topic.partitions") {
		t.Errorf("code %d\n%s", code, output)
	}
	adm, err := (&kafka.Config{Brokers: []string{broker}}).Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	if _, err := adm.UpdatePartitions(t.Context(), 9, "orders.changes"); err != nil {
		t.Fatal(err)
	}
	code, output = binary(t, "run", "--config", configFile(t, broker, cluster.Addrs()[0]))
	if code != connectors.CodeTopic || !strings.Contains(output, "it has 9 partitions, and this connector began with 7") {
		t.Errorf("code %d\n%s", code, output)
	}
}

// sync copies, ends when it has, and refuses a target with keys that are not its own.
func TestSyncUntilSynced(t *testing.T) {
	w := testkit.New(t)
	from, to := w.Cluster(3, 0), w.Cluster(2, 0)
	for i := range 1000 {
		if err := from.Client().Set(t.Context(), fmt.Sprintf("key:%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"sync", "--from", "redis://" + from.Addrs()[0], "--to", "redis://" + to.Addrs()[0], "--data-dir", w.Path("sync"), "--until-synced"}
	for _, key := range []string{"key:7", "key:later"} { // the second time it goes on where the first ended
		if err := from.Client().Set(t.Context(), key, "written", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if code, output := binary(t, args...); code != connectors.CodeOK || !strings.Contains(output, "synced: ") {
			t.Fatalf("code %d\n%s", code, output)
		}
		if got, err := to.Client().Get(t.Context(), key).Result(); got != "written" {
			t.Errorf("%s is %q, %v", key, got, err)
		}
	}
	if got, err := to.Client().Get(t.Context(), "key:999").Result(); got != "999" {
		t.Errorf("key:999 is %q, %v", got, err)
	}
	other := []string{"sync", "--from", "redis://" + from.Addrs()[0], "--to", "redis://" + to.Addrs()[0], "--data-dir", w.Path("other"), "--prefix", "other"}
	if code, output := binary(t, other...); code != connectors.CodeTarget || !strings.Contains(output, "nothing was written") {
		t.Errorf("a target with keys: code %d\n%s", code, output)
	}
	self := []string{"sync", "--from", "redis://" + from.Addrs()[0], "--to", "redis://" + from.Addrs()[1], "--data-dir", w.Path("self")}
	if code, output := binary(t, self...); code != connectors.CodeTarget || !strings.Contains(output, "cannot be copied into itself") {
		t.Errorf("a cluster into itself: code %d\n%s", code, output)
	}
}
