package lint_test

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// bareTodo is a TODO that does not say what would settle it; a word or two do not.
var bareTodo = regexp.MustCompile(`//\s*(?:TODO|FIXME|XXX)\b(?:\([^)]*\))?:?\s*(?:\S+\s*){0,2}$`)

func TestFiles(t *testing.T) {
	hasDoc := map[string]bool{}
	for _, file := range goFiles(t) {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if bareTodo.MatchString(line) {
				t.Errorf("%s:%d: a TODO says what would settle it", file, i+1)
			}
		}
		if at := bytes.IndexFunc(text, func(r rune) bool { return r > 127 }); at >= 0 && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s:%d: not ASCII: write it as an escape", file, 1+bytes.Count(text[:at], []byte("\n")))
		}
		if strings.HasSuffix(file, "_test.go") && ownServer.Match(text) {
			t.Errorf("%s: start servers through internal/testkit: testall runs its users one after the other", file)
		}
		if !strings.HasSuffix(file, "_test.go") {
			folder := path.Dir(file)
			hasDoc[folder] = hasDoc[folder] || packageDoc.Match(text)
		}
	}
	for folder, ok := range hasDoc {
		if !ok {
			t.Errorf("%s: no package comment says what it is and what it is not", folder)
		}
	}
}

var packageDoc = regexp.MustCompile(`(?m)^(?:// .*|\*/)\npackage \w+$`)

// ownServer is a server's binary by its name; the brackets keep this file from matching.
var ownServer = regexp.MustCompile(`["/](?:redis|valkey)[-]server"`)
