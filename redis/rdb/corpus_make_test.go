package rdb

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

var update = flag.Bool("update", false, "write testdata/corpus anew, with a server of every version")

// corpusVersions are the servers the corpus comes from, oldest first.
var corpusVersions = []string{
	"redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0", "redis-8.6",
	"valkey-8.0", "valkey-8.1", "valkey-9.1",
}

const corpusDir = "testdata/corpus"

// corpusWriter writes files, and nothing twice: what a server writes as one before it did is only in the index.
type corpusWriter struct {
	seen  map[string]string // type, value and text -> version/name
	index []string
}

func (w *corpusWriter) write(t *testing.T, version, name string, payload []byte, lines []string) {
	t.Helper()
	typ, value, rdbVersion, err := SplitPayload(payload)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n") + "\n"
	path := version + "/" + name
	same := fmt.Sprintf("%d %t %x %s", typ, FormatOf(rdbVersion).Valkey && typ >= typeHashTTLValkey, value, text)
	if first, ok := w.seen[same]; ok {
		w.index = append(w.index, fmt.Sprintf("%s type %d as %s", path, typ, first))
		return
	}
	w.seen[same] = path
	w.index = append(w.index, fmt.Sprintf("%s type %d", path, typ))
	for suffix, content := range map[string][]byte{".dump": payload, ".txt": []byte(text)} {
		file := filepath.Join(corpusDir, filepath.FromSlash(path)+suffix)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// makeCorpus has servers write every sample. The readable form beside a payload is what the server answers.
func makeCorpus(t *testing.T) {
	if err := os.RemoveAll(corpusDir); err != nil {
		t.Fatal(err)
	}
	w := &corpusWriter{seen: map[string]string{}}
	for _, version := range corpusVersions {
		c := versionServer(t, version)
		asked := c
		if version == "redis-5.0" { // which cannot show a stream in full
			asked = versionServer(t, "redis-6.0")
		}
		for _, s := range samples() {
			if payload, lines := makeSample(t, c, asked, s); payload != nil {
				w.write(t, version, s.name, payload, lines)
			}
		}
	}
	for _, version := range []string{"redis-7.2", "redis-7.4"} {
		payload, lines := makeModuleSample(t, version)
		w.write(t, version, "module", payload, lines)
	}
	servers := map[string]*redis.Client{}
	for _, h := range handmade() {
		c := servers[h.version]
		if c == nil {
			c = versionServer(t, h.version)
			servers[h.version] = c
		}
		payload := AppendPayload(nil, h.typ, []byte(h.value), h.rdbVersion)
		if err := c.RestoreReplace(t.Context(), "k", 0, string(payload)).Err(); err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
		w.write(t, "handmade", h.name, payload, answered(t, c, "k"))
	}
	if err := os.WriteFile(filepath.Join(corpusDir, "index.txt"), []byte(strings.Join(w.index, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func versionServer(t testing.TB, version string, args ...string) *redis.Client {
	t.Helper()
	server := testkit.New(t).Server(version, append([]string{"--activerehashing", "no"}, args...)...)
	c := server.NewClient(func(o *redis.Options) { o.Protocol = 2 })
	t.Cleanup(func() { c.Close() })
	return c
}

// makeSample makes a value on c and returns its payload, with what asked answers for it.
func makeSample(t *testing.T, c, asked *redis.Client, s sample) (payload []byte, lines []string) {
	t.Helper()
	ctx := t.Context()
	if err := c.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	config := maps.Clone(plainConfig)
	maps.Copy(config, s.config)
	for _, name := range slices.Sorted(maps.Keys(config)) {
		if err := c.ConfigSet(ctx, name, config[name]).Err(); err != nil && !strings.HasPrefix(name, "set-max-listpack") {
			t.Fatalf("config %s: %v", name, err)
		}
	}
	run := &sampler{
		do: func(args ...any) any {
			t.Helper()
			answer, err := c.Do(ctx, args...).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatalf("%s: %.100q: %v", s.name, fmt.Sprint(args...), err)
			}
			return answer
		},
		try: func(args ...any) bool { return c.Do(ctx, args...).Err() == nil },
	}
	s.build(run)
	payload, err := c.Dump(ctx, "k").Bytes()
	if errors.Is(err, redis.Nil) { // the server has nothing like it
		return nil, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if asked != c {
		if err := asked.RestoreReplace(ctx, "k", 0, string(payload)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	lines = answered(t, asked, "k")
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "added ") }); i >= 0 {
		lines = slices.Insert(lines, i, run.lines...)
	}
	return payload, lines
}

// makeModuleSample makes a value of a module. What its bytes stand for only the module knows.
func makeModuleSample(t *testing.T, version string) (payload []byte, lines []string) {
	t.Helper()
	bin, err := redistest.BinDir(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	c := versionServer(t, version, "--loadmodule", filepath.Join(filepath.Dir(bin), "dist", "lib", "rejson.so"))
	if err := c.Do(t.Context(), "JSON.SET", "k", "$", `{"a":[1,-2.5,"three",null,true],"b":{"c":"`+words(50)+`"}}`).Err(); err != nil {
		t.Fatal(err)
	}
	payload, err = c.Dump(t.Context(), "k").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return payload, []string{"kind module", "module " + c.Type(t.Context(), "k").Val() + " *"}
}

// handmadeValue is a value in an encoding that no server here writes any more, with a version that loads it.
type handmadeValue struct {
	name       string
	version    string
	typ        byte
	rdbVersion int
	value      string
}

func handmade() []handmadeValue {
	text := func(s string) string { return string(AppendText(nil, []byte(s))) }
	list := func(items ...string) string {
		var b strings.Builder
		for _, item := range items {
			b.WriteString(text(item))
		}
		return b.String()
	}
	return []handmadeValue{
		{"list-texts", "redis-5.0", typeList, 6, "\x04" + list("a", "", words(70)) + "\xc0\xff"},
		{"list-ziplist", "redis-5.0", typeListZiplist, 6, text(ziplistOf("a", "5", words(300), "b", "-1", words(16384), "70000"))},
		{"zset-text-scores", "redis-5.0", typeZset, 6, "\x07" + text("a") + "\x051e+21" + text("b") + "\xfe" + text("c") + "\xff" +
			text("d") + "\x150.30000000000000004e0" + text("e") + "\x02-0" + text("f") + "\x03-12" + "\xc1\x39\x30" + "\x0612.5e3"},
		{"hash-zipmap", "redis-5.0", typeHashZipmap, 2, text("\x02\x01a\x02\x00bb\x03ccc\x00\x03\x01\x02\x03\xff")},
		{"hash-zipmap-long", "redis-5.0", typeHashZipmap, 2, text("\x02\xfe\x2c\x01\x00\x00" + words(300) + "\x01\x00v" +
			"\x01f\xfe\xfe\x00\x00\x00\x01" + words(254) + "\x00\xff")},
		{"zset-ziplist", "redis-5.0", typeZsetZiplist, 6, text(ziplistOf("a", "-inf", "b", "-0", "c", "1", "d", "1.5", "e", "inf"))},
		{"hash-timed-pre", "redis-7.4", typeHashTTLPre, 12, "\x03" + "\x81\x00\x00\x03\xbb\x2c\xc3\x04\x00" + list("a", "1") +
			"\x00" + list("b", "2") + "\x81\x00\x00\x03\xbb\x2c\xc3\x04\x01" + list("c", "3")},
		{
			"hash-timed-small-pre", "redis-7.4", typeHashLPEXPre, 12,
			text("\x1f\x00\x00\x00\x06\x00\x81a\x02\x81x\x02\xf4\x00\x04\xc3\x2c\xbb\x03\x00\x00\x09\x81b\x02\x81y\x02\x00\x01\xff"),
		},
		{"list-quicklist", "redis-5.0", typeListQuick, 7, "\x02" + text(ziplistOf("1", "a")) + text(ziplistOf("2", words(254), "b", "8388608", "128"))},
		{"list-quicklist2", "redis-7.0", typeListQuick2, 10, "\x03\x01" + text("12") + "\x02" + text("\x0c\x00\x00\x00\x02\x00\x81f\x02\x05\x01\xff") +
			"\x01\xc3\x05\x0a\x00a\xe0\x00\x00"},
	}
}

// ziplistOf packs strings, numbers among them as the shortest that holds them.
func ziplistOf(items ...string) string {
	var b []byte
	prev, last := 0, 0
	for _, item := range items {
		last = len(b)
		if prev < 254 {
			b = append(b, byte(prev))
		} else {
			b = append(b, 254, byte(prev), byte(prev>>8), byte(prev>>16), byte(prev>>24))
		}
		n := len(item)
		switch item {
		case "5":
			b = append(b, 0xf6)
		case "1":
			b = append(b, 0xf2)
		case "2":
			b = append(b, 0xf3)
		case "-1":
			b = append(b, 0xfe, 0xff)
		case "128":
			b = append(b, 0xc0, 0x80, 0)
		case "70000":
			b = append(b, 0xf0, 0x70, 0x11, 0x01)
		case "8388608":
			b = append(b, 0xd0, 0, 0, 0x80, 0)
		default:
			switch {
			case n < 64:
				b = append(b, byte(n))
			case n < 16384:
				b = append(b, 0x40|byte(n>>8), byte(n))
			default:
				b = append(b, 0x80, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
			}
			b = append(b, item...)
		}
		prev = len(b) - last
	}
	total := len(b) + ziplistHeaderBytes + 1
	tail := last + ziplistHeaderBytes
	head := []byte{
		byte(total), byte(total >> 8), byte(total >> 16), 0, byte(tail), byte(tail >> 8), byte(tail >> 16), 0,
		byte(len(items)), 0,
	}
	return string(append(append(head, b...), 0xff))
}
