package lint_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/redriver/redriver"

// rooms says which rooms (folders at the top, with all below them) a room's own code may import. It is the way of the
// data: imports go down only, and source and sink share nothing but the record.
var rooms = map[string][]string{
	"cmd":        {"connectors", "source", "sink", "codec", "offsets", "event", "verify", "redis", "kafka"},
	"connectors": {"source", "sink", "codec", "offsets", "event", "verify", "redis", "kafka"},
	"source":     {"codec", "offsets", "event", "redis", "kafka"},
	"sink":       {"codec", "offsets", "event", "redis", "kafka"},
	"offsets":    {"event", "codec"},
	"codec":      {"event", "redis"},
	"event":      {"redis"},
	"verify":     {"redis"},
	"redis":      {},
	"kafka":      {},
	// a black box: it drives the binary, and reads with the packages of the formats what that left behind
	"e2e": formats,
}

// formats are the rooms that say what lies in a server or in the log.
var formats = []string{"codec", "offsets", "event", "verify", "redis", "kafka"}

// probes are internal packages that write to servers what tests check, or check what lies in the log; they may know the
// formats.
var probes = []string{chain, "internal/load", "internal/testkit"}

// chain checks the log as tests read it. Only tests and e2e may import it.
const chain = "internal/chain"

// kit is what starts real servers. Only tests, e2e and the demo may.
var kit = []string{"internal/testkit", "internal/tools"}

// mayUseKit tells whether a file may import the kit.
func mayUseKit(file string) bool {
	return strings.HasSuffix(file, "_test.go") || below(file, "e2e", "internal/load", "internal/testkit", "internal/tools") ||
		strings.HasPrefix(file, "cmd/redriver/demo")
}

// violation says why a file may not import folder to, both relative to the module; "" if it may.
func violation(file, to string) string {
	from, test := path.Dir(file), strings.HasSuffix(file, "_test.go")
	if below(to, kit...) {
		if mayUseKit(file) {
			return ""
		}
		return "the kit that starts servers is for tests, e2e and the demo"
	}
	if below(to, chain) && !test && !below(from, "e2e") {
		return "the check of the log's chain is for tests and e2e"
	}
	fromRoom, toRoom := room(from), room(to)
	if fromRoom == toRoom {
		return ""
	}
	if below(from, probes...) && slices.Contains(formats, toRoom) {
		return ""
	}
	if fromRoom == "internal" && !test {
		return "internal packages know nothing of the rooms"
	}
	if toRoom == "internal" {
		return "" // invariants and the like: for everyone
	}
	allowed, known := rooms[fromRoom]
	if !known && fromRoom != "internal" {
		return "room " + fromRoom + " has no place in the ranks: add it to rooms"
	}
	if slices.Contains(allowed, toRoom) {
		return ""
	}
	// A test may look at its package from further up, but the two sides stay apart, and a black box stays black.
	apart := [][2]string{{"source", "sink"}, {"sink", "source"}}
	if test && fromRoom != "e2e" && !slices.Contains(apart, [2]string{fromRoom, toRoom}) {
		return ""
	}
	return "room " + fromRoom + " may import " + strings.Join(append(slices.Clone(allowed), "internal"), ", ") + " only"
}

func room(folder string) string {
	first, _, _ := strings.Cut(folder, "/")
	return first
}

func below(folder string, parents ...string) bool {
	for _, parent := range parents {
		if folder == parent || strings.HasPrefix(folder, parent+"/") {
			return true
		}
	}
	return false
}

func TestImportRanks(t *testing.T) {
	checked := 0
	for _, file := range goFiles(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			to, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			checked++
			if why := violation(file, to); why != "" {
				t.Errorf("%s imports %s: %s", file, to, why)
			}
		}
	}
	if checked == 0 {
		t.Error("no import of ours found: is the root right?")
	}
}

// TestRanksHaveNoCycle keeps the table itself honest: what a room may import may not, over any way, import it.
func TestRanksHaveNoCycle(t *testing.T) {
	var reaches func(from, to string, seen map[string]bool) bool
	reaches = func(from, to string, seen map[string]bool) bool {
		for _, next := range rooms[from] {
			if next == to {
				return true
			}
			if !seen[next] {
				seen[next] = true
				if reaches(next, to, seen) {
					return true
				}
			}
		}
		return false
	}
	for name := range rooms {
		if reaches(name, name, map[string]bool{}) {
			t.Errorf("room %s reaches itself", name)
		}
	}
}

func TestViolation(t *testing.T) {
	for _, c := range []struct {
		file, to string
		bad      bool
	}{
		{file: "source/link.go", to: "codec"},
		{file: "source/link.go", to: "redis/resp"},
		{file: "source/link.go", to: "internal/invariant"},
		{file: "source/link.go", to: "sink", bad: true},
		{file: "source/link.go", to: "internal/testkit", bad: true},
		{file: "source/link_test.go", to: "internal/testkit"},
		{file: "source/link_test.go", to: "sink", bad: true},
		{file: "sink/lane.go", to: "source", bad: true},
		{file: "cmd/redriver/run.go", to: "connectors"},
		{file: "cmd/redriver/run.go", to: "internal/testkit/redistest", bad: true},
		{file: "cmd/redriver/demo.go", to: "internal/testkit/redistest"},
		{file: "redis/rdb/reader.go", to: "redis/own"},
		{file: "redis/rdb/reader.go", to: "event", bad: true},
		{file: "codec/raw.go", to: "offsets", bad: true},
		{file: "codec/raw_test.go", to: "offsets"},
		{file: "kafka/topic.go", to: "redis", bad: true},
		{file: "verify/verify.go", to: "kafka", bad: true},
		{file: "e2e/bench/main.go", to: "internal/testkit"},
		{file: "e2e/e2e_test.go", to: "sink", bad: true},
		{file: "internal/invariant/invariant.go", to: "event", bad: true},
		{file: "internal/load/writer.go", to: "redis/slot"},
		{file: "internal/load/writer.go", to: "sink", bad: true},
		{file: "internal/chain/chain.go", to: "codec"},
		{file: "internal/chain/chain.go", to: "source", bad: true},
		{file: "source/link_test.go", to: "internal/chain"},
		{file: "e2e/bench/main.go", to: "internal/chain"},
		{file: "source/link.go", to: "internal/chain", bad: true},
		{file: "internal/load/writer.go", to: "internal/chain", bad: true},
		{file: "cmd/redriver/demo.go", to: "internal/chain", bad: true},
		{file: "stray/stray.go", to: "event", bad: true},
	} {
		if why := violation(c.file, c.to); (why != "") != c.bad {
			t.Errorf("%s to %s: %q", c.file, c.to, why)
		}
	}
}

// root is the module's folder as seen from this package's.
const root = "../.."

// goFiles returns the module's Go files, relative to its root.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if entry.IsDir() && name != "." && (strings.HasPrefix(base, ".") || base == "bin" || base == "testdata") {
			return fs.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(base, ".go") {
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
