package e2e_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/verify"
)

var updateMatrix = flag.Bool("matrix", false, "carry every version into every other and write docs/compatibility.md")

// somePairs are what every run of the tests carries: each version as a source once, to the oldest and the newest of both
// families, and those where the families write the same type byte with different meanings.
var somePairs = [][2]string{
	{"redis-5.0", "redis-8.6"},
	{"redis-6.2", "redis-7.0"},
	{"redis-7.0", "redis-5.0"},
	{"redis-7.4", "redis-6.2"},
	{"redis-8.6", "redis-7.2"},
	{"redis-8.6", "valkey-9.1"},
	{"valkey-8.1", "redis-8.0"},
	{"valkey-9.1", "redis-7.4"},
	{"valkey-9.1", "redis-8.6"},
}

// pairOutcome is what a source became at a target.
type pairOutcome struct {
	keys     int64
	commands int // of the workload that the source knows
	differ   map[verify.Kind]int64
	note     string
}

// Every version as a source, every type in its snapshot, every write command in its stream: the target is identical, but
// for what it has no room for, and that is what the policy says.
func TestEveryVersionIntoEveryOther(t *testing.T) {
	t.Parallel()
	pairs := somePairs
	if *updateMatrix {
		pairs = nil
		for _, from := range redistest.Versions() {
			for _, to := range redistest.Versions() {
				pairs = append(pairs, [2]string{from, to})
			}
		}
	}
	bySource := map[string][]string{}
	for _, p := range pairs {
		bySource[p[0]] = append(bySource[p[0]], p[1])
	}
	w := testkit.New(t)
	broker := w.FakeKafka().Addr()
	var mu sync.Mutex
	outcomes := map[[2]string]pairOutcome{}
	for _, from := range slices.Sorted(maps.Keys(bySource)) {
		t.Run(from, func(t *testing.T) {
			for to, o := range carryInto(t, broker, from, bySource[from]) {
				mu.Lock()
				outcomes[[2]string{from, to}] = o
				mu.Unlock()
			}
		})
	}
	if *updateMatrix && !t.Failed() {
		if err := os.WriteFile("../docs/compatibility.md", []byte(matrixText(outcomes)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// carryInto carries one source into targets of several versions from one log.
func carryInto(t *testing.T, broker, from string, targets []string) map[string]pairOutcome {
	t.Helper()
	w := testkit.New(t)
	source := w.ClusterWith(redistest.Config{Version: from, Masters: 1})
	clusters := make([]*redistest.Cluster, len(targets))
	for i, to := range targets {
		clusters[i] = w.ClusterWith(redistest.Config{Version: to, Masters: 1})
	}
	known := writeEverything(t, source.Client(), "snapshot")
	p := newPipeline(t, w, broker, source)
	p.run(p.sourceConfig("topic.partitions", "4"))
	sinks := make([]*testkit.Redriver, len(targets))
	for i, to := range targets {
		policy := "keep"
		if lacksCommands(to) {
			policy = "skip"
		}
		// A name of its own: the broker waits for members of a group that were killed.
		sinks[i] = p.run(p.sinkConfig(fmt.Sprint(p.prefix, "-", i), clusters[i], "target.unsupported", policy))
	}
	arrived := func() {
		for i := range targets {
			if !t.Failed() || sinks[i].Running() {
				p.markOf(clusters[i].Client(), 4, 30*time.Second)
			}
		}
	}
	arrived()
	writeEverything(t, source.Client(), "stream")
	arrived()
	out := map[string]pairOutcome{}
	for i, to := range targets {
		r, err := verify.Compare(t.Context(), verify.At(source.Addrs()...), verify.At(clusters[i].Addrs()...), verify.Options{
			Rounds: 3, ExpiryHold: hold, TTLTolerance: tolerance(from),
		})
		if err != nil {
			t.Errorf("%s into %s: %v", from, to, err)
			continue
		}
		o := pairOutcome{keys: r.Keys, commands: known, differ: r.Counts}
		o.note = judge(t, from, to, r)
		out[to] = o
		t.Logf("%s into %s: %d keys, %d commands known: %s", from, to, r.Keys, known, o.note)
	}
	return out
}

// judge says what a comparison means for a pair of versions, and fails the test for what the target has room for.
func judge(t *testing.T, from, to string, r verify.Result) string {
	t.Helper()
	allowed := map[verify.Kind]string{}
	if knowsFieldExpiry(from) && !knowsFieldExpiry(to) {
		allowed[verify.FieldExpiry] = "fields of hashes do not expire"
	}
	if lacksCommands(to) && !lacksCommands(from) {
		allowed[verify.Group] = "consumers without pending entries are missing"
		allowed[verify.Missing] = "ZRANGESTORE, ZDIFFSTORE and GEOSEARCHSTORE are left out"
		allowed[verify.Value] = "XADD and XTRIM do not trim by ID"
	}
	var notes []string
	for _, k := range verify.Kinds {
		switch n := r.Counts[k]; {
		case n == 0:
		case allowed[k] != "":
			notes = append(notes, allowed[k])
		default:
			t.Errorf("%s into %s:\n%s", from, to, r)
			return "DIFFERENT"
		}
	}
	if notes == nil {
		return "identical"
	}
	return "identical, but " + strings.Join(notes, "; ")
}

// tolerance is how exactly the points in time are known: masters before 7 tell how long keys have to live, and not since
// when.
func tolerance(from string) time.Duration {
	if strings.HasPrefix(from, "redis-5") || strings.HasPrefix(from, "redis-6") {
		return time.Second
	}
	return 0
}

// lacksCommands: before 6.2 some commands that store a result have no counterpart.
func lacksCommands(version string) bool { return version == "redis-5.0" || version == "redis-6.0" }

func knowsFieldExpiry(version string) bool {
	return version == "redis-7.4" || strings.HasPrefix(version, "redis-8") || strings.HasPrefix(version, "valkey-9")
}

// matrixText is docs/compatibility.md.
func matrixText(outcomes map[[2]string]pairOutcome) string {
	var b strings.Builder
	b.WriteString("# Which versions go together\n\nThis page is written by `make matrix`, which carries every version into every other: keys of all types in the\n" +
		"snapshot, every write command in the stream, compared key by key at the end.\n\nA row is a source, a column a target. `=`: identical. ")
	notes := map[string]string{}
	letter := func(note string) string {
		if note == "identical" {
			return "="
		}
		if notes[note] == "" {
			notes[note] = string(rune('a' + len(notes)))
		}
		return notes[note]
	}
	versions := redistest.Versions()
	var table strings.Builder
	table.WriteString("| from \\ to |")
	for _, v := range versions {
		table.WriteString(" " + v + " |")
	}
	table.WriteString(" commands |\n|---|" + strings.Repeat("---|", len(versions)+1) + "\n")
	for _, from := range versions {
		table.WriteString("| " + from + " |")
		commands := 0
		for _, to := range versions {
			o := outcomes[[2]string{from, to}]
			commands = max(commands, o.commands)
			table.WriteString(" " + letter(o.note) + " |")
		}
		fmt.Fprintf(&table, " %d |\n", commands)
	}
	fmt.Fprintf(&b, "The last column counts the commands of the\nworkload that the source knows.\n\n%s\n", table.String())
	for _, note := range slices.SortedFunc(maps.Keys(notes), func(x, y string) int { return strings.Compare(notes[x], notes[y]) }) {
		fmt.Fprintf(&b, "- %s: %s\n", notes[note], note)
	}
	b.WriteString("\nWith `target.unsupported: stop`, the default, a sink stops at the first value that its target has no room for and names\n" +
		"the key; the table is with `keep`.\n")
	return b.String()
}
