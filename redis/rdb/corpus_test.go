package rdb

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// corpusValue is a file of the corpus: a payload, and the readable form of its value.
type corpusValue struct {
	name    string // version/sample
	payload []byte
	typ     byte
	value   []byte
	format  Format
	lines   []string
}

// corpus reads testdata/corpus, in the order of names.
func corpus(t testing.TB) []corpusValue {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(corpusDir, "*", "*.dump"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	var all []corpusValue
	for _, file := range files {
		name, _ := filepath.Rel(corpusDir, strings.TrimSuffix(file, ".dump"))
		v := corpusValue{name: filepath.ToSlash(name)}
		if v.payload, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(strings.TrimSuffix(file, ".dump") + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		v.lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		var version int
		if v.typ, v.value, version, err = SplitPayload(v.payload); err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		v.format = FormatOf(version)
		all = append(all, v)
	}
	return all
}

// matches compares lines; a line that ends in " *" stands for any with that beginning, "?" for any word.
func matches(want, got []string) bool {
	return slices.EqualFunc(want, got, func(want, got string) bool {
		begin, open := strings.CutSuffix(want, " *")
		if !open {
			return want == got
		}
		w, g := strings.Fields(begin), strings.Fields(got)
		return len(g) >= len(w) && slices.EqualFunc(w, g[:len(w)], func(w, g string) bool { return w == "?" || w == g })
	})
}

// TestCorpus decodes what servers of every version wrote, and compares it with what they answered. With -update it asks
// them anew first.
func TestCorpus(t *testing.T) {
	if *update {
		makeCorpus(t)
	}
	d := NewDecoder(DecoderConfig{PieceBytes: 1000})
	types := map[byte]int{}
	for _, v := range corpus(t) {
		types[v.typ]++
		d.ResetBytes(v.typ, v.value, v.format)
		got, err := decoded(d)
		if err != nil || !matches(v.lines, got) {
			t.Errorf("%s, type %d: %v %s", v.name, v.typ, err, cmp.Diff(v.lines, got))
		}
		d.Reset(v.typ, iotest.OneByteReader(bytes.NewReader(v.value)), v.format)
		if got, err := decoded(d); err != nil || !matches(v.lines, got) {
			t.Errorf("%s, type %d, from a reader: %v %s", v.name, v.typ, err, cmp.Diff(v.lines, got))
		}
	}
	for typ := range byte(30) {
		if _, ok := KindOf(typ, Format{}); ok && types[typ] == 0 {
			t.Errorf("no value of type %d", typ)
		}
	}
	t.Logf("values per type: %v", types)
}
