package verify_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/verify"
)

// manyKeys writes keys to both sides, and makes some of the target's wrong, all over the keyspace.
func manyKeys(t *testing.T, n int, from, to client) (wrong int64) {
	t.Helper()
	for _, c := range []client{from, to} {
		pipe := c.Pipeline()
		for i := range n {
			pipe.Set(t.Context(), fmt.Sprint("key:", i), i, 0)
		}
		for i := 0; i < n && c == to; i += 50 {
			switch i % 150 {
			case 0:
				pipe.Append(t.Context(), fmt.Sprint("key:", i), "x")
			case 50:
				pipe.Del(t.Context(), fmt.Sprint("key:", i))
			default:
				pipe.Set(t.Context(), fmt.Sprint("extra:", i), i, 0)
			}
			wrong++
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return wrong
}

// exact checks the counts of manyKeys.
func exact(t *testing.T, s summary, keys int, wrong int64) {
	t.Helper()
	extra := s.Counts[verify.Extra]
	if s.Total() != wrong || s.Unsettled != 0 || s.Keys != int64(keys)+extra || extra != wrong/3 {
		t.Errorf("%d keys, %d unsettled, %v, want %d keys, %d differences", s.Keys, s.Unsettled, s.Counts, keys+int(wrong/3), wrong)
	}
}

// until waits until the state file holds a good part of the work.
func until(t *testing.T, c command, state string, keys int64) {
	t.Helper()
	err := testkit.Poll(t.Context(), 30*time.Second, func() error {
		b, err := os.ReadFile(state)
		if err != nil {
			return err
		}
		var s struct{ Scanned int64 }
		if err := json.Unmarshal(b, &s); err != nil || s.Scanned < keys {
			return fmt.Errorf("%d keys: %w", s.Scanned, err)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("no progress: %v\n%s", err, c.LogTail(5))
	}
}

const resumed = 30_000

// A comparison that is killed, or interrupted, goes on where it was, and its counts are those of one that was not.
func TestInterruptedComparisonGoesOn(t *testing.T) {
	for name, masters := range map[string]int{"cluster": 2, "single": 0} {
		for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
			t.Run(fmt.Sprint(name, "/", sig), func(t *testing.T) {
				t.Parallel()
				w := testkit.New(t)
				var from, to client
				if masters > 0 {
					from, to = w.Cluster(masters, 0).Client(), w.Cluster(1, 0).Client()
				} else {
					from, to = w.Server("").Client(), w.Server("").Client()
				}
				wrong := manyKeys(t, resumed, from, to)
				state := w.Path("state")
				args := append(addresses(from, to), "--state", state, "--rounds", "2", "--interval", "100ms")
				first := start(t, w, nil, append(args, "--keys-per-second", "15000")...)
				until(t, first, state, resumed/2)
				if err := first.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if sig == syscall.SIGINT {
					first.ends(failed)
					first.says("the same command goes on from " + state)
				} else if err := first.Wait(); err == nil {
					t.Fatal("it had ended before it was killed")
				}
				second := start(t, w, nil, args...)
				s := second.ends(different)
				exact(t, s, resumed, wrong)
				if !s.Resumed || s.Listed >= 2*resumed*9/10 {
					t.Errorf("resumed %v, %d keys listed again", s.Resumed, s.Listed)
				}
				if _, err := os.Stat(state); err == nil {
					t.Error("the state is there still")
				}
				t.Logf("%d of %d keys listed by the second process", s.Listed, 2*resumed)
			})
		}
	}
}

// A server that was restarted has another cursor: its keys are listed again, and it says so.
func TestRestartedServerIsListedAgain(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	node := w.Server("")
	from, to := node.Client(), w.Server("").Client()
	wrong := manyKeys(t, resumed, from, to)
	state := w.Path("state")
	args := append(addresses(from, to), "--state", state, "--rounds", "2", "--interval", "100ms")
	first := start(t, w, nil, append(args, "--keys-per-second", "15000")...)
	until(t, first, state, resumed/2)
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	restart(t, node, from)
	second := start(t, w, nil, args...)
	exact(t, second.ends(different), resumed, wrong)
	second.says("was restarted", node.Addr(), "listed again from the beginning")

	// The same while the process lives.
	third := start(t, w, nil, append(args, "--keys-per-second", "15000", "--patience", "20s")...)
	until(t, third, state, resumed/2)
	restart(t, node, from)
	exact(t, third.ends(different), resumed, wrong)
	third.says("was restarted", "waiting: source "+node.Addr())
}

// restart lets a server save its keys, and start with them as another process.
func restart(t *testing.T, n *redistest.Node, c client) {
	t.Helper()
	if err := c.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if size := c.DBSize(t.Context()).Val(); size != resumed {
		t.Fatalf("%d keys after a restart", size)
	}
}

func TestStateBelongsToOneQuestion(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to := w.Server("").Client(), w.Server("").Client()
	manyKeys(t, 10_000, from, to)
	state := w.Path("state")
	args := append(addresses(from, to), "--state", state)
	first := start(t, w, nil, append(args, "--keys-per-second", "3000")...)
	until(t, first, state, 0)
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, other := range [][]string{{"--mode", "keys"}, {"--prefix", "key:"}, {"--ttl-tolerance", "1s"}, {"--databases", "0:1"}} {
		c := start(t, w, nil, append(args, other...)...)
		c.ends(failed)
		c.says("belongs to another comparison", "remove the file")
	}
	whole, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"", "{", string(whole[:len(whole)/2]), "null", `{"version":1}`, strings.Replace(string(whole), `"slots":""`, `"slots":"x"`, 1)} {
		if err := os.WriteFile(state, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		c := start(t, w, nil, args...)
		c.ends(failed)
		c.says(state, "remove the file")
	}
	c := start(t, w, nil, append(addresses(from, to), "--state", filepath.Join(w.Path("no", "such"), "state"))...)
	c.ends(failed)
	c.says("write state of the comparison", "no such file")
}
