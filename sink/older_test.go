package sink

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/verify"
)

// newerCommands is what only newer servers understand, with what has to be there before.
var newerCommands = []struct{ before, line string }{
	{"", "SET k v PXAT 4000000000123"},
	{"", "SET k v NX EXAT 4000000000"},
	{"SET k old", "SET k v XX GET PXAT 4000000000123"},
	{"SET k old PX 90000000", "SET k v KEEPTTL"},
	{"SET k old", "SET k v KEEPTTL"},
	{"SET k old", "SET k v GET"},
	{"SET k old", "SET k v IFEQ old"},
	{"", "MSETEX 2 {k}1 a {k}2 b PXAT 4000000000123"},
	{"SET {k}1 x PX 90000000", "MSETEX 2 {k}1 a {k}2 b KEEPTTL"},
	{"SET k v", "DELEX k IFEQ v"},
	{"SET k v", "PEXPIREAT k 4000000000123 NX"},
	{"SET k v PX 90000000", "EXPIREAT k 4000000000 GT"},
	{"RPUSH k a b c", "LMOVE k {k}2 RIGHT LEFT"},
	{"RPUSH k a b c", "LMOVE k {k}2 LEFT RIGHT"},
	{"RPUSH k a b c", "LMOVE k k LEFT RIGHT"},
	{"RPUSH k a", "LMOVE k {k}2 LEFT LEFT"},
	{"RPUSH k a b c d", "LPOP k 2"},
	{"RPUSH k a b c d", "RPOP k 3"},
	{"RPUSH k a b c d", "RPOP k 9"},
	{"SET k v PX 90000000", "COPY k {k}2"},
	{"ZADD k 1 a 2 b|ZADD {k}2 9 z", "COPY k {k}2 REPLACE"},
	{"ZADD k 5 a 5 b 5 c", "ZADD k GT 6 a 4 b 5 c 7 new"},
	{"ZADD k 5 a 5 b -inf c", "ZADD k XX LT CH 6 a 4.25 b -inf c 7 new"},
	{"XADD k 1-1 f v", "XADD k NOMKSTREAM 2-1 f v"},
	{"XADD k 1-1 f v", "XADD k NOMKSTREAM MAXLEN = 1 2-1 f v"},
	{"XADD k 1-1 f v", "XADD k KEEPREF MAXLEN = 1 2-1 NOMKSTREAM v"},
	{"XADD k 1-1 f v|XADD k 1-2 f v", "XTRIM k MAXLEN = 1 KEEPREF"},
	{"XADD k 1-1 f v", "XGROUP CREATE k g 0 ENTRIESREAD 0"},
	{"XADD k 1-1 f v|XGROUP CREATE k g 0", "XGROUP SETID k g 1-1 ENTRIESREAD 1"},
	{"XADD k 1-1 f v", "XSETID k 5-5 ENTRIESADDED 9 MAXDELETEDID 4-4"},
	{"XADD k 1-1 f v|XADD k 1-2 f v", "XDELEX k IDS 1 1-1"},
	{"XADD k 1-1 f v|XADD k 1-2 f v|XGROUP CREATE k g 0|XREADGROUP GROUP g c STREAMS k >|XCLAIM k g c 0 1-2 TIME 1700000000000 RETRYCOUNT 1 JUSTID", "XACKDEL k g IDS 1 1-1"},
	{"", "HSETEX k PXAT 4000000000123 FIELDS 2 a 1 b 2"},
	{"", "HGETDEL k FIELDS 2 a c"},
	{"", "HSETEX k FNX FIELDS 1 PXAT 1 EXAT 4000000000"},
	{"HSET k a 1", "HPEXPIREAT k 4000000000123 FIELDS 1 a NX"},
}

// What stands for a command at an older target has the same effect there as the command has at a server that knows it.
func TestOlderTargetsGetTheSameEffectByOlderCommands(t *testing.T) {
	w := testkit.New(t)
	newest := w.Server("redis-8.6")
	for version, d := range map[string]dialect{
		"redis-5.0": {version: 500}, "redis-6.0": {version: 600}, "redis-6.2": {version: 602}, "redis-7.0": {version: 700},
		"redis-7.2": {version: 702}, "redis-7.4": {version: 704}, "redis-8.0": {version: 800},
		"valkey-8.0": {valkey: true, version: 800}, "valkey-8.1": {valkey: true, version: 801}, "valkey-9.1": {valkey: true, version: 901},
	} {
		t.Run(version, func(t *testing.T) {
			old := testkit.New(t).Server(version)
			translated := 0
			for _, c := range newerCommands {
				flush(t, newest.Client(), old.Client())
				for line := range strings.SplitSeq(c.before, "|") {
					if line != "" {
						runLine(t, newest.Client(), strings.Fields(line))
						runLine(t, old.Client(), strings.Fields(line))
					}
				}
				words := strings.Fields(c.line)
				runLine(t, newest.Client(), words)
				var args [][]byte
				for _, word := range words {
					args = append(args, []byte(word))
				}
				var tr translation
				ok := d.translate(&tr, args)
				if !ok {
					tr.dst = resp.AppendCommandBytes(nil, args...)
				} else {
					translated++
				}
				for rest := tr.dst; len(rest) > 0; {
					n, args, err := resp.ParseCommand(rest, nil)
					if err != nil {
						t.Fatal(err)
					}
					var words []string
					for _, a := range args {
						words = append(words, string(a))
					}
					if err := tryLine(t, old.Client(), words); err != nil {
						t.Errorf("%s: translated %v to %q: %v", c.line, ok, words, err)
					}
					rest = rest[n:]
				}
				r, err := verify.Compare(t.Context(), verify.At(newest.Addr()), verify.At(old.Addr()), verify.Options{TTLTolerance: 2 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				for _, diff := range r.Differences {
					if tr.lacks == whatFieldExpiry && diff.Kind == verify.FieldExpiry || diff.Kind == verify.Group && diff.Key == "k" && strings.Contains(diff.String(), "consumer") && d.version < 602 {
						continue
					}
					t.Errorf("%s (before: %s): %v", c.line, c.before, diff)
				}
			}
			if d.version < 804 && translated == 0 {
				t.Error("nothing was translated")
			}
		})
	}
}

func flush(t *testing.T, clients ...*redis.Client) {
	t.Helper()
	for _, c := range clients {
		if err := c.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func runLine(t *testing.T, c *redis.Client, words []string) {
	t.Helper()
	if err := tryLine(t, c, words); err != nil {
		t.Fatalf("%q: %v", words, err)
	}
}

func tryLine(t *testing.T, c *redis.Client, words []string) error {
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
	}
	err := c.Do(t.Context(), args...).Err()
	if err != nil && err != redis.Nil { //nolint:errorlint // the client returns it bare
		return fmt.Errorf("%w", err)
	}
	return nil
}
