package connectors

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	// Section is "worker" or "connector <name>"; "" for the file itself.
	Section string
	// Key in the section; "" for the section itself.
	Key  string
	What string
	// Hint is the next step; "" when What says it.
	Hint string
}

func (f Fault) String() string {
	var b strings.Builder
	if f.Section != "" {
		b.WriteString(f.Section + ": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + " ")
	}
	s := strings.TrimSuffix(b.String(), " ")
	if f.Key != "" && !startsVerb(f.What) {
		s += ":"
	}
	s = strings.TrimSpace(s + " " + f.What)
	if f.Hint != "" {
		s += ": " + f.Hint
	}
	return s
}

// startsVerb tells messages that go on from the key's name.
func startsVerb(what string) bool {
	return strings.HasPrefix(what, "is ") || strings.HasPrefix(what, "and ") || strings.HasPrefix(what, "has ")
}

// ConfigError is everything that is wrong with a configuration. It holds at least one fault.
type ConfigError struct {
	// File that was read; "" if none was.
	File   string
	Faults []Fault
}

func (e *ConfigError) Error() string {
	of := "configuration"
	if e.File != "" {
		of += " " + e.File
	}
	if len(e.Faults) == 1 {
		return of + ": " + e.Faults[0].String()
	}
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = "\n  " + f.String()
	}
	return fmt.Sprintf("%s: %d faults:%s", of, len(e.Faults), strings.Join(lines, ""))
}

// faults gathers; the order is by section and key, so that it does not depend on that of a map.
type faults struct{ list []Fault }

func (f *faults) add(x Fault) { f.list = append(f.list, x) }

func (f *faults) err(file string) error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b Fault) int {
		// the file, the worker, the connectors
		if c := strings.Compare(rank(a.Section), rank(b.Section)); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return &ConfigError{File: file, Faults: f.list}
}

func rank(section string) string {
	switch section {
	case "":
		return "0"
	case sectionWorker:
		return "1"
	}
	return "2" + section
}

func unknownKey(section, name string, keys []Key, where string) Fault {
	names := make([]string, len(keys))
	for i := range keys {
		names[i] = keys[i].Name
	}
	f := Fault{Section: section, What: "unknown key " + quote(name) + where, Hint: `"redriver help config" lists the keys`}
	if near, ok := nearest(name, names); ok {
		f.Hint = "did you mean " + quote(near) + "?"
	}
	return f
}

// Lookup finds an environment variable; os.LookupEnv, or a test's.
type Lookup func(name string) (string, bool)

// reference is ${file:PATH} or ${env:NAME}. Every other dollar is a dollar.
var (
	reference     = regexp.MustCompile(`\$\{(file|env):([^}]*)\}`)
	onlyReference = regexp.MustCompile(`^\$\{(file|env):[^}]*\}$`)
)

// maxSecretBytes bounds a file that is read into a value.
const maxSecretBytes = 64 << 10

// resolve replaces references by what they name.
func resolve(text string, lookup Lookup) (string, error) {
	var fault error
	out := reference.ReplaceAllStringFunc(text, func(ref string) string {
		m := reference.FindStringSubmatch(ref)
		switch m[1] {
		case "env":
			if v, ok := lookup(m[2]); ok && v != "" {
				return v
			}
			fault = fmt.Errorf("%s: the environment variable is not set: set %s, or write another reference", ref, quote(m[2]))
		case "file":
			b, err := os.ReadFile(m[2])
			// A file ends with a newline that is not part of the secret.
			v := strings.TrimRight(string(b), "\r\n")
			switch {
			case err != nil:
				fault = fmt.Errorf("%s: %w: check that the file is there and this user may read it", ref, err)
			case len(b) > maxSecretBytes:
				fault = fmt.Errorf("%s: the file has more than %d bytes: is it the right one?", ref, maxSecretBytes)
			case v == "":
				fault = fmt.Errorf("%s: the file is empty", ref)
			}
			return v
		}
		return ""
	})
	return out, fault
}

// nearest finds the candidate that a mistyped word most likely means.
func nearest(word string, candidates []string) (string, bool) {
	best, at := "", len(word)/3+2 // as far off as still looks alike
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), c); d < at {
			best, at = c, d
		}
	}
	if best == "" { // a word left out: "sweep" or "partitions"
		for _, c := range candidates {
			if len(word) > 3 && (strings.HasSuffix(c, "."+word) || strings.HasPrefix(c, word+".")) {
				return c, true
			}
		}
	}
	return best, best != ""
}

// distance counts insertions, deletions, replacements, and swaps of neighbours.
func distance(a, b string) int {
	before, prev := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev = prev, cur
	}
	return prev[len(b)]
}
