package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

const (
	byChannel = saysFull + ".*channel=true"
	byLink    = saysFull + ".*channel=false"
)

// Masters that are able to send their snapshot by a connection of its own, and the stream at the same time.
//
// Fault (source): the connection by which a snapshot comes is lost, or the link beside it, or the process is killed meanwhile.
// Another snapshot follows, by the link alone where it was the snapshot's connection that failed.
func TestSnapshotComesByAChannelOfItsOwn(t *testing.T) {
	t.Parallel()
	dual := []string{"--dual-channel-replication-enabled", "yes"}
	for version, args := range map[string][]string{"redis-8.0": nil, "redis-8.6": nil, "valkey-8.1": dual, "valkey-9.1": dual} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := testkit.New(t)
			// A snapshot takes 2 s and more.
			slow := append([]string{"--repl-backlog-size", "16kb", "--rdb-key-save-delay", "200"}, args...)
			source := w.ClusterWith(redistest.Config{Version: version, Masters: 1, Args: slow})
			if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 10_000, Seed: 3}); err != nil {
				t.Fatal(err)
			}
			c := carryUnderLoad(t, w, w.FakeKafka().Addr(), source)
			master := source.Masters()[0]
			if n, m := c.matches(byChannel), c.matches(byLink); n != 1 || m != 0 {
				t.Fatalf("the first snapshot came %d times by a channel, %d times by the link", n, m)
			}
			again := func(fault func()) (channels, links int) {
				t.Helper()
				before, beforeLinks := c.matches(byChannel), c.matches(byLink)
				loseBacklog(t, c, func() {})
				c.w.Eventually(30*time.Second, "a snapshot is on its way", func() error {
					_, err := replicaConns(t, master)
					return err
				})
				fault()
				c.arrives()
				return c.matches(byChannel) - before, c.matches(byLink) - beforeLinks
			}
			kill := func(snapshot bool) func() {
				return func() {
					conns, err := replicaConns(t, master)
					if err != nil {
						t.Fatal(err)
					}
					if err := master.Client().Do(t.Context(), "CLIENT", "KILL", "ID", conns[snapshot]).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if n, m := again(func() {}); n != 1 || m != 0 {
				t.Errorf("undisturbed: %d snapshots by a channel and %d by the link, want 1 and 0", n, m)
			}
			if n, m := again(kill(true)); n != 1 || m != 1 {
				t.Errorf("the channel killed: %d snapshots by a channel and %d by the link, want 1 and 1", n, m)
			}
			if n, m := again(kill(false)); n+m != 2 {
				t.Errorf("the link killed: %d snapshots by a channel and %d by the link, want 2", n, m)
			}
			again(func() {
				if err := c.from.Kill(); err != nil {
					t.Fatal(err)
				}
				c.from = c.run(c.fromConfig)
			})
			if args != nil { // Valkey
				if err := master.Client().Do(t.Context(), "ACL", "SETUSER", "default", "-sync").Err(); err != nil {
					t.Fatal(err)
				}
				for i := range 2 {
					links := c.matches(byLink)
					loseBacklog(t, c, func() {})
					c.arrives()
					if n := c.matches(byLink) - links; n != 1 {
						t.Errorf("a channel is forbidden: %d snapshots came by the link, want 1", n)
					}
					if n := c.says("not by a channel of its own"); n != 1 {
						t.Errorf("snapshot %d for which a channel is forbidden: it says so %d times, want once", i, n)
					}
				}
			}
			c.settle()
		})
	}
}

// replicaConns are the numbers of the connections by which a snapshot comes (true) and of the link beside it.
func replicaConns(t *testing.T, master *redistest.Node) (map[bool]string, error) {
	t.Helper()
	list, err := master.Client().Do(t.Context(), "CLIENT", "LIST", "TYPE", "replica").Text()
	if err != nil {
		return nil, err
	}
	conns := map[bool]string{}
	for line := range strings.Lines(list) {
		fields := map[string]string{}
		for f := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(f, "=")
			fields[name] = value
		}
		conns[fields["flags"] == "SC" || fields["cmd"] == "sync"] = fields["id"]
	}
	if len(conns) != 2 {
		return nil, fmt.Errorf("replicas of %s: %s", master.Addr(), list)
	}
	return conns, nil
}

// Fault (source): the process is killed while a snapshot comes by a channel of its own and Kafka is away. A part of the stream
// behind that snapshot is on disk then; nothing goes on from it, another snapshot follows by itself.
func TestStreamOfHalfASnapshotIsNotGoneOnWith(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := w.ClusterWith(redistest.Config{
		Version: "redis-8.6", Masters: 1, Args: []string{"--repl-backlog-size", "16kb", "--rdb-key-save-delay", "300"},
	})
	broker := newLeavingBroker(t)
	if err := load.Fill(t.Context(), source.Client(), load.FillConfig{Keys: 20_000, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	c := carryUnderLoad(t, w, broker.Addr(), source, "spool.memory.bytes", "1MiB")
	broker.leave()
	loseBacklog(t, c, func() {})
	c.w.Eventually(30*time.Second, "a snapshot is on its way", func() error {
		_, err := replicaConns(t, source.Masters()[0])
		return err
	})
	flood(t, source)
	w.Eventually(30*time.Second, "some of it is on disk", func() error {
		files, err := filepath.Glob(filepath.Join(c.dir, "data", "spool", c.connector("from"), "shard-1", "*"))
		if err == nil && len(files) < 2 {
			err = fmt.Errorf("%d files", len(files))
		}
		return err
	})
	if err := c.from.Kill(); err != nil {
		t.Fatal(err)
	}
	broker.comeBack(t)
	c.from = c.run(c.fromConfig)
	c.arrives()
	if n := c.says(saysFull); n != 1 {
		t.Errorf("%d snapshots behind the restart, want 1", n)
	}
	c.settle()
}
