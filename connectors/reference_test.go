package connectors_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redriver/redriver/connectors"
)

var update = flag.Bool("update", false, "write the generated documents")

const docs = "../docs"

func TestReferenceIsWhatTheTablesSay(t *testing.T) {
	file := filepath.Join(docs, "configuration.md")
	want := connectors.Markdown()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s is not what the tables say (%v): run go test ./connectors -update", file, err)
	}
	example := filepath.Join(docs, "examples", "orders.yaml")
	if *update {
		if err := os.WriteFile(example, []byte(connectors.Example), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(example); err != nil || string(got) != connectors.Example {
		t.Errorf("%s is not the example of the reference (%v): run go test ./connectors -update", example, err)
	}
}

func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(docs, "examples", "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	// Every variable that an example names is set.
	environ := []string{"ORDERS_SOURCE_PASSWORD=a", "ORDERS_TARGET_PASSWORD=b", "CACHE_PASSWORD=c"}
	for _, file := range files {
		cfg, err := connectors.Load(connectors.Input{File: file, Environ: environ})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if _, err := connectors.New(cfg, discard()); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Every row says enough, and what it says of itself holds.
func TestTables(t *testing.T) {
	for _, table := range connectors.Tables() {
		seen := map[string]bool{}
		for _, k := range table.Keys {
			if seen[k.Name] {
				t.Errorf("%s: %s is there twice", table.Title, k.Name)
			}
			seen[k.Name] = true
			if len(k.Doc) < 20 || !strings.HasSuffix(k.Doc, ".") || strings.ContainsAny(k.Doc, "|\n") {
				t.Errorf("%s: %s: doc %q", table.Title, k.Name, k.Doc)
			}
			if k.Type == connectors.TypeChoice && len(k.Choices) < 2 {
				t.Errorf("%s: %s has no choice", table.Title, k.Name)
			}
			switch k.Type {
			case connectors.TypeInt, connectors.TypeDuration, connectors.TypeSize, connectors.TypeFraction:
				if k.Min == "" || k.Max == "" || k.Default == "" {
					t.Errorf("%s: %s lacks a bound or default", table.Title, k.Name)
				}
			default:
			}
			if k.Required && k.Default != "" {
				t.Errorf("%s: %s is required and has a default", table.Title, k.Name)
			}
		}
	}
}
