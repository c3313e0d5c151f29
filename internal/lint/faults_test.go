package lint_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of faults into README.md")

// fault is what the comment of a test says: a line "Fault (part): what happens. What becomes of it." and those that
// follow it up to the next one or an empty line.
type fault struct{ part, what, outcome, test string }

// faultParts are the parts of the table, in its order.
var faultParts = []string{"source", "kafka", "sink", "all"}

var (
	faultLine = regexp.MustCompile(`^Fault \((\w+)\): (.*)$`)
	faultText = regexp.MustCompile(`^(.*?)\. (.*)$`)
)

// faultsIn reads the comment of one test.
func faultsIn(test, comment string) (all []fault, err error) {
	for paragraph := range strings.SplitSeq(comment, "\n\n") {
		var joined []string
		for line := range strings.Lines(paragraph) {
			line = strings.TrimSpace(line)
			if faultLine.MatchString(line) {
				joined = append(joined, line)
			} else if len(joined) > 0 {
				joined[len(joined)-1] += " " + line
			}
		}
		for _, text := range joined {
			head := faultLine.FindStringSubmatch(text)
			body := faultText.FindStringSubmatch(head[2])
			if body == nil || !slices.Contains(faultParts, head[1]) {
				return nil, fmt.Errorf("%s: %q is not \"Fault (%s): what. What becomes of it.\"", test, text, strings.Join(faultParts, "|"))
			}
			all = append(all, fault{head[1], body[1], body[2], test})
		}
	}
	return all, nil
}

// TestFaultTable keeps the table of README.md what the tests say.
func TestFaultTable(t *testing.T) {
	var all []fault
	for _, file := range goFiles(t) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Test") || fn.Doc == nil {
				continue
			}
			found, err := faultsIn("`"+path.Dir(file)+"` "+fn.Name.Name, fn.Doc.Text())
			if err != nil {
				t.Error(err)
			}
			all = append(all, found...)
		}
	}
	if len(all) == 0 {
		t.Fatal("no test speaks of a fault")
	}
	checkBlock(t, filepath.Join(root, "README.md"), "faults", faultTable(all))
}

func faultTable(all []fault) string {
	byPart := map[string][]fault{}
	for _, f := range all {
		byPart[f.part] = append(byPart[f.part], f)
	}
	var b strings.Builder
	b.WriteString("| at | fault | what becomes of it | test |\n|---|---|---|---|\n")
	for _, part := range faultParts {
		slices.SortStableFunc(byPart[part], func(a, b fault) int { return strings.Compare(a.test, b.test) })
		for _, f := range byPart[part] {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", part, strings.ToUpper(f.what[:1])+f.what[1:], f.outcome, f.test)
		}
	}
	return b.String()
}

// checkBlock compares the part of a document between two marks with what it should be, or writes it.
func checkBlock(t *testing.T, file, name, want string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+": written by go test ./internal/lint -update -->\n", "<!-- end of "+name+" -->"
	head, rest, ok1 := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Errorf("%s has no block between %q and %q", file, begin, end)
	case *update:
		if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	case got != want:
		t.Errorf("the %s of %s are not what the tests say: run go test ./internal/lint -update", name, file)
	}
}

func TestFaultComments(t *testing.T) {
	got, err := faultsIn("x", "Something.\nFault (sink): it is killed. It goes on\nwhere it was.\nFault (kafka): gone. Waits.\n\nMore.")
	want := []fault{{"sink", "it is killed", "It goes on where it was.", "x"}, {"kafka", "gone", "Waits.", "x"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"Fault (disk): a. B.", "Fault (sink): no outcome"} {
		if _, err := faultsIn("x", bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
