package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redriver/redriver/redis/rdb"
)

// sampleValue is a payload that a server of some version wrote.
type sampleValue struct {
	name    string // version/sample
	payload string
	typ     byte
	format  rdb.Format
}

// samples are the payloads of package rdb's corpus, of every type and version.
func samples(t testing.TB) (out []sampleValue) {
	t.Helper()
	dir := filepath.Join("..", "redis", "rdb", "testdata", "corpus")
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.dump"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		typ, _, version, err := rdb.SplitPayload(b)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(dir, strings.TrimSuffix(file, ".dump"))
		out = append(out, sampleValue{filepath.ToSlash(name), string(b), typ, rdb.FormatOf(version)})
	}
	return out
}

// facts are what a value holds, one line each, in an order that does not depend on the encoding.
type facts struct {
	lines []string
	// counts: the encoding has a stream's counters; active: when its consumers were active.
	counts bool
	// messages of a stream's producers.
	messages int
}

func factsOf(t testing.TB, payload string) facts {
	t.Helper()
	f, err := tryFactsOf(payload)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func tryFactsOf(payload string) (f facts, err error) {
	typ, value, version, err := rdb.SplitPayload([]byte(payload))
	if err != nil {
		return f, err
	}
	d := rdb.NewDecoder(rdb.DecoderConfig{})
	d.ResetBytes(typ, value, rdb.FormatOf(version))
	var text bytes.Buffer
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, err
		}
		line := ""
		switch e.Kind {
		case rdb.ElementPiece:
			text.Write(e.Value)
		case rdb.ElementItem, rdb.ElementMember, rdb.ElementModule:
			line = fmt.Sprintf("%q", e.Value)
		case rdb.ElementScored:
			// -0 is 0 to whoever compares, and servers make it so when they pack a set.
			line = fmt.Sprintf("%q %v", e.Value, e.Score+0)
		case rdb.ElementField:
			line = fmt.Sprintf("%q %q expires %d", e.Field, e.Value, e.ExpireAtMs)
		case rdb.ElementEntry:
			line = fmt.Sprintf("entry %s %q", e.ID, e.Fields)
		case rdb.ElementMeta:
			f.counts = e.Meta.Known
			line = fmt.Sprintf("length %d last %s", e.Meta.Length, e.Meta.LastID)
			if f.counts {
				line += fmt.Sprintf("; deleted %s added %d", e.Meta.MaxDeletedID, e.Meta.EntriesAdded)
			}
		case rdb.ElementGroup:
			line = fmt.Sprintf("group %q last %s", e.Group, e.ID)
		case rdb.ElementConsumer:
			line = fmt.Sprintf("consumer %q %q", e.Group, e.Consumer)
		case rdb.ElementPending:
			line = fmt.Sprintf("pending %q %q %s at %d times %d", e.Group, e.Consumer, e.ID, e.DeliveredAtMs, e.DeliveryCount)
		case rdb.ElementMessage:
			f.messages++
		default:
		}
		if line != "" {
			f.lines = append(f.lines, line)
		}
	}
	switch d.Kind() {
	case rdb.ValueString:
		f.lines = []string{text.String()}
	case rdb.ValueSet, rdb.ValueZset, rdb.ValueHash:
		slices.Sort(f.lines)
	default:
	}
	f.lines = append(f.lines, "kind "+d.Kind().String())
	return f, nil
}

// without leaves out what lines say behind a mark.
func (f facts) without(mark string) facts {
	out := f
	out.lines = slices.Clone(f.lines)
	for i, l := range out.lines {
		out.lines[i], _, _ = strings.Cut(l, mark)
	}
	return out
}

// diffFacts tells where two values differ; "" for nowhere. Counters of a stream count only where both encodings have them.
func diffFacts(want, got facts) string {
	if want.counts != got.counts {
		want, got = want.without("; deleted"), got.without("; deleted")
	}
	for i := range max(len(want.lines), len(got.lines)) {
		w, g := "nothing", "nothing"
		if i < len(want.lines) {
			w = want.lines[i]
		}
		if i < len(got.lines) {
			g = got.lines[i]
		}
		if w != g {
			return fmt.Sprintf("source %.200s, target %.200s", w, g)
		}
	}
	return ""
}
