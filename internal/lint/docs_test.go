package lint_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile(`\bTest[A-Z]\w+`)
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Z]\w+)\(`)
)

// TestDocsNameTestsThatAreThere looks for each test that a document names.
func TestDocsNameTestsThatAreThere(t *testing.T) {
	there := map[string]bool{}
	for _, file := range goFiles(t) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
	}
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range append(docs, filepath.Join(root, "README.md"), filepath.Join(root, "ARCHITECTURE.md"), filepath.Join(root, "BENCHMARKS.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range testName.FindAllString(string(text), -1) {
			n++
			if !there[name] && !isPrefix(there, name) {
				t.Errorf("%s names %s, which is not there", file, name)
			}
		}
	}
	if n == 0 {
		t.Fatal("no document names a test")
	}
}

// isPrefix allows for the argument of -run, which is a part of names.
func isPrefix(there map[string]bool, name string) bool {
	for other := range there {
		if strings.HasPrefix(other, name) {
			return true
		}
	}
	return false
}
