package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// right is a row of docs/rights.md.
type right struct {
	name  string
	stops bool
}

var (
	userLine = regexp.MustCompile(`(?m)^    ACL SETUSER redriver-(\w+) on >(\S+) (.*)$`)
	rightRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*\\| (stops|goes on)[^|]* \\|$")
)

// documentedRights reads the rule of a user and the rows about it.
func documentedRights(t *testing.T, user string) (rule []string, rows []right) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "rights.md"))
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(string(text), "\n## ") {
		m := userLine.FindStringSubmatch(section)
		if len(m) == 0 || m[1] != user {
			continue
		}
		for _, row := range rightRow.FindAllStringSubmatch(section, -1) {
			rows = append(rows, right{strings.ReplaceAll(row[1], `\|`, "|"), row[2] == "stops"})
		}
		return strings.Fields(m[3]), rows
	}
	t.Fatalf("docs/rights.md has no user redriver-%s", user)
	return nil, nil
}

// grant gives a user exactly these rights on every node.
func grant(t *testing.T, c *redistest.Cluster, user string, rule []string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", user, "reset", "on", ">secret"}
	for _, r := range rule {
		if strings.HasPrefix(r, "+cluster|myshardid") { // not known to Redis 7.0
			continue
		}
		args = append(args, r)
	}
	for _, m := range c.Masters() {
		if err := m.Client().Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// The users of the docs are enough; with one right less the process ends and names it, or goes on, as the docs say.
func TestRights(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 2, 0), w.Cluster(2, 0)
	for _, k := range []string{"a", "b", "c", "d"} {
		if err := source.Client().RPush(t.Context(), k, k).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p := newPipeline(t, w, w.FakeKafka().Addr(), source)
	as := func(user string) []string {
		return []string{"redis.username", user, "redis.password", "secret", "target.existing.keys", "replace"}
	}
	sourceOf := func(p *pipeline) *testkit.Redriver { return p.run(p.sourceConfig(as("source")[:4]...)) }
	rules := map[string][]string{}
	rows := map[string][]right{}
	for user, c := range map[string]*redistest.Cluster{"source": source, "sink": target} {
		rules[user], rows[user] = documentedRights(t, user)
		if len(rows[user]) != len(rules[user]) {
			t.Fatalf("%s: %d rights, and %d are explained", user, len(rules[user]), len(rows[user]))
		}
		grant(t, c, user, rules[user])
	}
	without := func(user, name string) []string {
		return slices.DeleteFunc(slices.Clone(rules[user]), func(r string) bool { return r == name })
	}
	// The last word of a right is in what the server says of it.
	wantNamed := func(t *testing.T, r *testkit.Redriver, right string) {
		t.Helper()
		done := make(chan struct{})
		go func() { _ = r.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatalf("without %s it runs:\n%s", right, r.LogTail(5))
		}
		if r.ExitCode() != exitRefused {
			t.Errorf("without %s: exit code %d", right, r.ExitCode())
		}
		named := strings.TrimLeft(right, "+~")
		if strings.HasPrefix(named, "@") || named == "*" { // a category, or keys: a command or the keys are named
			named = "permission"
		}
		if log := r.Log(); !strings.Contains(log, named) || !strings.Contains(log, "grant") {
			t.Errorf("without %s it says neither that nor what to do:\n%s", right, r.LogTail(3))
		}
	}

	for _, row := range rows["source"] {
		if row.stops {
			grant(t, source, "source", without("source", row.name))
			wantNamed(t, sourceOf(newPipeline(t, w, p.broker, source)), row.name)
		}
	}
	needed := func(user string) (rule []string) {
		for _, r := range rows[user] {
			if r.stops {
				rule = append(rule, r.name)
			}
		}
		return rule
	}
	grant(t, source, "source", needed("source"))
	from := sourceOf(p)
	for i, row := range rows["sink"] {
		if row.stops {
			grant(t, target, "sink", without("sink", row.name))
			name := "to" + string(rune('a'+i))
			wantNamed(t, p.run(p.sinkConfig(name, target, as("sink")...)), row.name)
		}
	}
	grant(t, target, "sink", needed("sink"))
	to := p.run(p.sinkConfig("to", target, as("sink")...))
	p.mark(target.Client(), time.Minute)
	grant(t, source, "source", rules["source"])
	grant(t, target, "sink", rules["sink"])
	to.Stop()
	to = p.run(p.sinkConfig("to", target, as("sink")...))
	p.mark(target.Client(), time.Minute)
	identical(t, source, target)
	to.Stop()
	from.Stop()
	rule, _ := documentedRights(t, "finish")
	grant(t, target, "finisher", rule)
	wantExit(t, w.Redriver("finish", "--to", "redis://finisher:secret@"+target.Addrs()[0]), 0, "exact expiry time")
}
