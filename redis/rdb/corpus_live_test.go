package rdb

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
)

// reencode makes a payload for servers that load the target's format out of a value.
func reencode(d *Decoder, e *Encoder, target Format) ([]byte, error) {
	if err := e.Reset(d.Kind(), target); err != nil {
		return nil, err
	}
	for {
		el, err := d.Next()
		if errors.Is(err, io.EOF) {
			typ, value := e.Value()
			return AppendPayload(nil, typ, value, target.Version), nil
		}
		if err != nil {
			return nil, err
		}
		if err := e.Append(el); err != nil {
			return nil, err
		}
	}
}

// serverFormat asks a server which format its own payloads have.
func serverFormat(t *testing.T, c *redis.Client) Format {
	t.Helper()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	payload, err := c.Dump(t.Context(), "k").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	_, _, version, err := SplitPayload(payload)
	if err != nil {
		t.Fatal(err)
	}
	return FormatOf(version)
}

// TestCorpusRestore has servers of every version load the corpus and what the Encoder makes of it. Where a server takes
// both, they must be the same to it; where it refuses the payload of a newer one, it must answer for ours what the newer
// one answered, as far as it knows of it.
func TestCorpusRestore(t *testing.T) {
	all := corpus(t)
	for _, version := range corpusVersions {
		t.Run(version, func(t *testing.T) {
			c := versionServer(t, version)
			asked := c
			if version == "redis-5.0" {
				asked = versionServer(t, "redis-6.0")
			}
			r := restorer{c: c, asked: asked, target: serverFormat(t, c), version: version}
			for _, v := range all {
				if v.typ != typeModule2 {
					r.check(t, v)
				}
			}
			t.Logf("version %d: %d payloads loaded, %d too new or of another family, %d values it has no room for",
				r.target.Version, r.loaded, r.refused, r.noRoom)
			if r.loaded == 0 || r.loaded+r.refused+r.noRoom < len(all)/2 {
				t.Error("too few")
			}
		})
	}
}

type restorer struct {
	c, asked *redis.Client
	target   Format
	version  string
	d        *Decoder
	e        Encoder

	loaded, refused, noRoom int
}

func (r *restorer) check(t *testing.T, v corpusValue) {
	t.Helper()
	ctx := t.Context()
	if r.d == nil {
		r.d = NewDecoder(DecoderConfig{})
	}
	r.d.ResetBytes(v.typ, v.value, v.format)
	ours, err := reencode(r.d, &r.e, r.target)
	if errors.Is(err, ErrNoEncoding) && r.d.Kind() == ValueHash && r.target.Version < 12 {
		r.noRoom++
		return
	}
	if err != nil {
		t.Errorf("%s: %v", v.name, err)
		return
	}
	if err := r.c.RestoreReplace(ctx, "ours", 0, string(ours)).Err(); err != nil {
		t.Errorf("%s: server refuses ours: %v", v.name, err)
		return
	}
	theirs := r.c.RestoreReplace(ctx, "theirs", 0, string(v.payload)).Err()
	if strings.HasPrefix(v.name, r.version+"/") && theirs != nil {
		t.Errorf("%s: server refuses its own: %v", v.name, theirs)
	}
	if theirs != nil {
		r.refused++
		got := r.answered(t, ours)
		want := known(v.lines, got)
		if got = known(got, want); !matches(want, got) {
			t.Errorf("%s: %s", v.name, cmp.Diff(want, got))
		}
		return
	}
	r.loaded++
	r.compare(t, v)
	if r.d.Kind() == ValueZset { // and with scores as text
		r.d.ResetBytes(v.typ, v.value, v.format)
		old, err := reencode(r.d, &r.e, Format{Version: versionZset2 - 1})
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		if err := r.c.RestoreReplace(ctx, "ours", 0, string(old)).Err(); err != nil {
			t.Fatalf("%s: server refuses ours: %v", v.name, err)
		}
		r.compare(t, v)
	}
}

// compare fails the test unless the keys ours and theirs have the same value.
func (r *restorer) compare(t *testing.T, v corpusValue) {
	t.Helper()
	ctx := t.Context()
	digests, err := r.c.Do(ctx, "DEBUG", "DIGEST-VALUE", "ours", "theirs").StringSlice()
	if err != nil || len(digests) != 2 {
		t.Fatalf("%s: digests %v, %v", v.name, digests, err)
	}
	if digests[0] != digests[1] && !r.sameButZero(t) {
		t.Errorf("%s: digests %v", v.name, digests)
	}
	if r.d.Kind() == ValueStream && r.asked == r.c {
		var answers [2]string
		for i, key := range []string{"ours", "theirs"} {
			answers[i] = strings.Join(answered(t, r.c, key), "\n")
		}
		if answers[0] != answers[1] {
			t.Errorf("%s: %s", v.name, cmp.Diff(answers[1], answers[0]))
		}
	}
	if r.d.Kind() == ValueHash {
		if ours, theirs := answered(t, r.c, "ours"), answered(t, r.c, "theirs"); !cmp.Equal(ours, theirs) {
			t.Errorf("%s: %s", v.name, cmp.Diff(theirs, ours))
		}
	}
}

// sameButZero compares sorted sets but for the sign of zero: a server from 7.0 on that packs what it has loaded drops it,
// and keeps it in what came packed.
func (r *restorer) sameButZero(t *testing.T) bool {
	t.Helper()
	var answers [2]string
	for i, key := range []string{"ours", "theirs"} {
		answers[i] = strings.ReplaceAll(strings.Join(answered(t, r.c, key), "\n")+"\n", " score -0\n", " score 0\n")
	}
	return r.d.Kind() == ValueZset && answers[0] == answers[1]
}

func (r *restorer) answered(t *testing.T, payload []byte) []string {
	t.Helper()
	if r.asked != r.c {
		if err := r.asked.RestoreReplace(t.Context(), "ours", 0, string(payload)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return answered(t, r.asked, "ours")
}

// known is lines without what a server does not know that answered other, or that no command shows.
func known(lines, other []string) []string {
	if lines[0] != "kind stream" {
		return lines
	}
	all := "\n" + strings.Join(other, "\n")
	meta, producers := strings.Contains(all, "\nfirst "), strings.Contains(all, "\nproducers ")
	var left []string
	for _, line := range lines {
		word, _, _ := strings.Cut(line, " ")
		switch {
		case word == "first" && !meta, word == "message", (word == "producers" || word == "added") && !producers:
			continue
		case word == "group" && !meta:
			line = line[:strings.LastIndexByte(line, ' ')] + " -1"
		case word == "consumer" && strings.Contains(all, "active unknown"):
			line = line[:strings.LastIndexByte(line, ' ')] + " unknown"
		}
		left = append(left, line)
	}
	return left
}

// TestLiveExpiredFields shows what a payload has of fields whose time has passed and that the server has not removed yet:
// the server no longer answers for them, and dumps them.
func TestLiveExpiredFields(t *testing.T) {
	for _, version := range []string{"redis-7.4", "redis-8.6", "valkey-9.1"} {
		for _, encoding := range []string{"128", "0"} {
			t.Run(version+"/entries="+encoding, func(t *testing.T) {
				c := versionServer(t, version)
				ctx := t.Context()
				for _, args := range [][]any{
					{"CONFIG", "SET", "hash-max-listpack-entries", encoding},
					{"DEBUG", "SET-ACTIVE-EXPIRE", "0"},
					{"HSET", "k", "stays", "1", "goes", "2", "never", "3"},
					{"HPEXPIREAT", "k", int64(4102444800123), "FIELDS", 1, "stays"},
					{"HPEXPIRE", "k", 1, "FIELDS", 1, "goes"},
				} {
					if err := c.Do(ctx, args...).Err(); err != nil {
						t.Fatalf("%v: %v", args, err)
					}
				}
				// Not by asking for the field: Redis removes what it finds expired then.
				goesAt := time.Now().UnixMilli()
				testkit.New(t).Eventually(10*time.Second, "the field expires", func() error {
					if c.Time(ctx).Val().UnixMilli() < goesAt+10 {
						return errors.New("not yet")
					}
					return nil
				})
				payload, err := c.Dump(ctx, "k").Bytes()
				if err != nil {
					t.Fatal(err)
				}
				typ, value, rdbVersion, err := SplitPayload(payload)
				if err != nil {
					t.Fatal(err)
				}
				d := NewDecoder(DecoderConfig{})
				d.ResetBytes(typ, value, FormatOf(rdbVersion))
				at := map[string]int64{}
				for {
					e, err := d.Next()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					at[string(e.Field)] = e.ExpireAtMs
				}
				t.Logf("type %d: %v", typ, at)
				if at["stays"] != 4102444800123 || at["never"] != 0 || len(at) != 3 || at["goes"] < goesAt-5000 || at["goes"] > goesAt+1000 {
					t.Errorf("type %d: %v, now %d", typ, at, goesAt)
				}
			})
		}
	}
}
