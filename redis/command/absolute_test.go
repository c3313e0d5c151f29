package command

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
)

func absolute(line string, nowMs int64) (string, bool) {
	args := split(line)
	info, ok := Resolve(args)
	if !ok {
		return "unknown", false
	}
	out, changed := info.Absolute(args, nowMs)
	if now := string(bytes.Join(args, []byte(" "))); now != line {
		return "written to: " + now, changed
	}
	return string(bytes.Join(out, []byte(" "))), changed
}

func TestAbsolute(t *testing.T) {
	const nowMs = 1_000_000
	for line, want := range map[string]string{
		"EXPIRE k 10": "PEXPIREAT k 1010000", "pexpire k 10": "PEXPIREAT k 1000010", "EXPIRE k 10 NX": "PEXPIREAT k 1010000 NX",
		"EXPIRE k 10 XX": "PEXPIREAT k 1010000 XX", "PEXPIRE k 10 gt": "PEXPIREAT k 1000010 gt", "PEXPIRE k 10 LT": "PEXPIREAT k 1000010 LT",
		"SETEX k 10 v": "SET k v PXAT 1010000", "PSETEX k 10 EX": "SET k EX PXAT 1000010",
		"SET k v EX 10": "SET k v PXAT 1010000", "SET k v px 10 nx get": "SET k v PXAT 1000010 nx get", "SET k v XX GET EX 10": "SET k v XX GET PXAT 1010000",
		"SET k EX EX 10": "SET k EX PXAT 1010000", "SET EX PX PX 10": "SET EX PX PXAT 1000010", "SET k v EX 10 EX 20": "SET k v PXAT 1010000 PXAT 1020000",
		"SET k v IFEQ EX EX 10": "SET k v IFEQ EX PXAT 1010000", "SET k v EX 10 IFNE PX": "SET k v PXAT 1010000 IFNE PX",
		"GETEX k EX 10": "GETEX k PXAT 1010000", "getex k px 10": "getex k PXAT 1000010",
		"RESTORE k 10 p": "RESTORE k 1000010 p ABSTTL", "RESTORE k 10 p REPLACE IDLETIME 5": "RESTORE k 1000010 p REPLACE IDLETIME 5 ABSTTL",
		"RESTORE-ASKING k 10 ABSTTL FREQ 3": "RESTORE-ASKING k 1000010 ABSTTL FREQ 3 ABSTTL",
		"HEXPIRE k 10 FIELDS 1 f":           "HPEXPIREAT k 1010000 FIELDS 1 f", "HPEXPIRE k 10 NX FIELDS 2 f g": "HPEXPIREAT k 1000010 NX FIELDS 2 f g",
		"HEXPIRE k 10 FIELDS 1 f GT":  "HPEXPIREAT k 1010000 FIELDS 1 f GT",
		"HSETEX k EX 10 FIELDS 1 f v": "HSETEX k PXAT 1010000 FIELDS 1 f v", "HSETEX k PX 10 FNX FIELDS 1 EX 7": "HSETEX k PXAT 1000010 FNX FIELDS 1 EX 7",
		"HSETEX k FIELDS 1 EX 7 EX 10": "HSETEX k FIELDS 1 EX 7 PXAT 1010000", "HSETEX k FIELDS 2 f PX EX 3 FXX PX 10": "HSETEX k FIELDS 2 f PX EX 3 FXX PXAT 1000010",
		"HGETEX k EX 10 FIELDS 1 EX": "HGETEX k PXAT 1010000 FIELDS 1 EX", "HGETEX k FIELDS 1 PX PX 10": "HGETEX k FIELDS 1 PX PXAT 1000010",
		"MSETEX 2 EX 1 PX 2 EX 10": "MSETEX 2 EX 1 PX 2 PXAT 1010000", "MSETEX 1 a 1 PX 10 XX": "MSETEX 1 a 1 PXAT 1000010 XX",
		// over at once
		"EXPIRE k 0": "DEL k", "PEXPIRE k -1": "DEL k", "EXPIRE k -10 XX": "DEL k", "SETEX k 0 v": "DEL k", "SET k v NX EX -1": "DEL k", "GETEX k PX 0": "DEL k",
		"SET k v EX 10 EX 0": "DEL k", "SET k v EX 0 EX 10": "SET k v PXAT 1000000 PXAT 1010000", "RESTORE k -5 p": "DEL k", "MSETEX 2 a 1 b 2 NX EX 0": "DEL a b",
		"HEXPIRE k 0 FIELDS 2 f g": "HDEL k f g", "HSETEX k EX 0 FIELDS 2 f 1 g 2": "HDEL k f g", "HGETEX k FIELDS 1 f EX -1": "HDEL k f",
		"HEXPIRE k 0 LT FIELDS 1 f": "HPEXPIREAT k 1000000 LT FIELDS 1 f",
		// beyond 64 bits: as Redis 5 counts
		"EXPIRE k 9223372036854775": "DEL k", "SETEX k 18446744073709551 v": "DEL k", "PSETEX k 9223372036854775807 v": "DEL k",
		"PEXPIRE k 9223372036853775807": "PEXPIREAT k 9223372036854775807", "EXPIRE k 18446744073709552": "PEXPIREAT k 1000384",
	} {
		if got, changed := absolute(line, nowMs); got != want || !changed {
			t.Errorf("%s: %s (changed: %v), want %s", line, got, changed, want)
		}
	}
	for _, line := range []string{
		"PEXPIREAT k 10", "EXPIREAT k 10", "SET k v", "SET k EX", "SET k v EX", "SET k v PXAT 10", "SET k v EXAT 10 NX", "SET k v KEEPTTL GET", "SET k v IFEQ EX",
		"SET k v EX ten", "SETEX k v 10", "EXPIRE k", "EXPIRE k ten", "GETEX k", "GETEX k PERSIST", "GETEX k PXAT 10", "RESTORE k 0 p", "RESTORE k 10 p ABSTTL",
		"RESTORE k 10 p ABSTTL REPLACE", "RESTORE k ten p", "RESTORE k 0 p REPLACE", "HPEXPIREAT k 10 FIELDS 1 f", "HEXPIRE k 10 FIELD 1 f", "HEXPIRE k 10 FIELDS 2 f",
		"HSETEX k FIELDS 1 EX 10", "HSETEX k PXAT 10 FIELDS 1 f v", "HGETEX k PERSIST FIELDS 2 EX 10", "MSETEX 2 a 1 EX 10", "MSETEX 1 EX 10", "MSETEX x a 1 EX 10",
		"XADD k EX 10 v", "HSET k EX 10", "EVAL s 1 EX 10", "PING",
	} {
		if got, changed := absolute(line, nowMs); got != line || changed {
			t.Errorf("%s: %s (changed: %v), want it as it is", line, got, changed)
		}
	}
}

// TestAbsoluteIsComplete: every write that a server documents to take a time to live has a rule.
func TestAbsoluteIsComplete(t *testing.T) {
	for _, version := range []string{"redis-8.6", "valkey-9.1"} {
		docs := map[string][]syntax{}
		readSyntaxes(t, dial(t, testkit.New(t).Server(version).Addr()), docs)
		for name, args := range docs {
			info, ok := Lookup([]byte(name))
			if ok && info.Write && takesTTL(args) && info.absolute == nil && name != "XREADGROUP" { // which may block
				t.Errorf("%s: %s takes a time to live", version, name)
			}
		}
	}
}

// takesTTL tells by the words that servers have for it.
func takesTTL(args []syntax) bool {
	return slices.ContainsFunc(args, func(x syntax) bool {
		return x.token == "EX" || x.token == "PX" || slices.Contains([]string{"seconds", "milliseconds", "ttl"}, x.name) || takesTTL(x.parts)
	})
}

func FuzzAbsolute(f *testing.F) {
	for _, line := range append(slices.Clone(handVectors), examples...) {
		f.Add([]byte(line), int64(1_000_000))
	}
	f.Fuzz(func(t *testing.T, line []byte, nowMs int64) {
		args := bytes.Split(line, []byte(" "))
		info, ok := Resolve(args)
		if !ok {
			return
		}
		before := string(line)
		out, changed := info.Absolute(args, nowMs)
		if string(bytes.Join(args, []byte(" "))) != before {
			t.Fatalf("%q was written to", before)
		}
		if !changed {
			if !same(out, args) {
				t.Fatalf("%q: not changed, and another slice", line)
			}
			return
		}
		again, ok := Resolve(out)
		if !ok || !again.Write {
			t.Fatalf("%q becomes %q", line, out)
		}
		if twice, changed := again.Absolute(out, nowMs); changed {
			t.Fatalf("%q becomes %q, and that %q", line, out, twice)
		}
		// what is named stays what it was; a removal that names fields has one key, one that names keys has them all
		keys, err := info.Keys(args, nil)
		if named, err2 := again.Keys(out, nil); err == nil && (err2 != nil || len(named) != len(keys)) {
			t.Fatalf("%q has %d keys, %q %d (%v)", line, len(keys), out, len(named), err2)
		}
	})
}

// TestAbsoluteKeepsWhatItMeans: on old masters, the stream made absolute leaves at a newer server the expiries that the
// master has.
func TestAbsoluteKeepsWhatItMeans(t *testing.T) {
	for _, version := range []string{"redis-5.0", "redis-6.0", "redis-6.2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := testkit.New(t)
			from := newEffects(t, version, w.Server(version).Addr())
			to := newEffects(t, "redis-7.0", w.Server("redis-7.0").Addr())
			for _, example := range examples {
				compareReplay(t, from, to, example)
			}
			if from.relative < 10 {
				t.Errorf("%d relative commands only", from.relative)
			}
		})
	}
}

// toleranceMs is what may pass between reading the master's clock and its carrying out a command, and between looking at
// both servers.
const toleranceMs = 250

func compareReplay(t *testing.T, from, to *effects, example string) {
	t.Helper()
	from.build(t)
	to.build(t)
	args := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(example, "SOON", "2000000000000"), "PAST", "1"))
	if i := slices.Index(args, "PAYLOAD"); i > 0 {
		args[i] = from.payload
	}
	from.mark(t)
	answers, err := from.s.DoAll([]string{"TIME"}, args)
	if err != nil {
		t.Fatal(err)
	}
	if _, refused := answers[1].(error); refused {
		return
	}
	relative := false
	for _, sent := range from.mark(t) {
		info, _ := Resolve(sent)
		out, changed := info.Absolute(sent, clockOf(answers[0]))
		relative = relative || changed
		words := make([]string, len(out))
		for i, arg := range out {
			words[i] = string(arg)
		}
		if _, err := to.s.Do(words...); err != nil {
			t.Errorf("%s: %q: %v", example, words, err)
		}
	}
	if !relative {
		return
	}
	from.relative++
	want, got := from.look(t), to.look(t)
	for i, key := range allKeys() {
		if d := want.ttls[i] - got.ttls[i]; d < -toleranceMs || d > toleranceMs {
			t.Errorf("%s: %s has %d ms left at the master, %d ms when replayed", example, key, want.ttls[i], got.ttls[i])
		}
	}
}

// clockOf reads the answer of TIME.
func clockOf(answer any) (ms int64) {
	parts, _ := answer.([]any)
	s, _ := strconv.ParseInt(parts[0].(string), 10, 64)
	us, _ := strconv.ParseInt(parts[1].(string), 10, 64)
	return s*1000 + us/1000
}

// TestOverflowAsRedis5 holds the arithmetic against a server that does not refuse an overflow. A key whose time lies far in
// the past because of it is found by the server's search for such keys alone, which takes a moment.
func TestOverflowAsRedis5(t *testing.T) {
	w := testkit.New(t)
	s := dial(t, w.Server("redis-5.0").Addr())
	rnd := rand.New(rand.NewPCG(1, 2))
	var gone []string
	for i := range 300 {
		key := fmt.Sprint("k", i)
		ttl := strconv.FormatInt(math.MaxInt64>>rnd.IntN(30)-rnd.Int64N(1000), 10)
		answers, err := s.DoAll([]string{"TIME"}, []string{"SETEX", "k", ttl, "v"}, []string{"PTTL", "k"}, []string{"SETEX", key, ttl, "v"})
		if err != nil {
			t.Fatal(err)
		}
		now := clockOf(answers[0])
		args := split("SETEX k " + ttl + " v")
		info, _ := Resolve(args)
		out, _ := info.Absolute(args, now)
		if string(out[0]) == "DEL" {
			gone = append(gone, key)
			continue
		}
		if _, err := s.Do("DEL", key); err != nil { // it would be in the way of the search
			t.Fatal(err)
		}
		at, _ := strconv.ParseInt(string(out[4]), 10, 64)
		left, _ := answers[2].(int64)
		if d := at - now - left; d < -toleranceMs || d > toleranceMs {
			t.Errorf("%s: %q, %d ms away; the server has %d ms", args, out, at-now, left)
		}
	}
	w.Eventually(10*time.Second, "keys whose time is over are gone", func() error {
		if n, err := s.Do(append([]string{"EXISTS"}, gone...)...); n != int64(0) {
			return fmt.Errorf("%v of %d are there, %w", n, len(gone), err)
		}
		return nil
	})
	if len(gone) == 0 || len(gone) == 300 {
		t.Errorf("%d of 300 go", len(gone))
	}
}
