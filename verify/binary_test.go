package verify_test

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/verify"
)

// The exit codes of the command.
const (
	same, different, failed = 0, 1, 2
)

// summary is what verify --json prints.
type summary struct {
	Verdict   string `json:"verdict"`
	Identical bool   `json:"identical"`
	verify.Result
}

// command is a run of the real binary.
type command struct {
	*testkit.Redriver

	t *testing.T
}

// start runs verify with a summary in JSON. env are NAME=value.
func start(t *testing.T, w *testkit.World, env []string, args ...string) command {
	t.Helper()
	args = append([]string{"verify", "--json", "--no-progress"}, args...)
	return command{w.RedriverWith(proc.Config{Args: args, Env: env}), t}
}

// addresses are the arguments for two clients.
func addresses(from, to client) []string {
	return []string{"--from", "redis://" + at(from).Addrs[0], "--to", "redis://" + at(to).Addrs[0]}
}

// ends waits for the end, and checks the exit code.
func (c command) ends(code int) summary {
	c.t.Helper()
	select {
	case <-c.Done():
	case <-time.After(3 * time.Minute):
		c.t.Fatalf("it does not end:\n%s", c.LogTail(10))
	}
	_ = c.Wait()
	if got := c.ExitCode(); got != code {
		c.t.Errorf("exit code %d, want %d\n%s", got, code, c.LogTail(10))
	}
	var s summary
	for line := range strings.Lines(c.Log()) {
		if strings.HasPrefix(line, "{") {
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				c.t.Error(err)
			}
		}
	}
	return s
}

// says fails the test unless the output has all of these.
func (c command) says(words ...string) {
	c.t.Helper()
	for _, w := range words {
		if !strings.Contains(c.Log(), w) {
			c.t.Errorf("it does not say %q:\n%s", w, c.LogTail(10))
		}
	}
}

// readList reads what --differences has written.
func readList(t *testing.T, path string) (ds []verify.Difference) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var d verify.Difference
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		ds = append(ds, d)
	}
	return ds
}

func clusterOf(version string, masters int) redistest.Config {
	return redistest.Config{Version: version, Masters: masters}
}
