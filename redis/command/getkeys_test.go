package command

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/command/internal/live"
)

// handVectors are what generated vectors may miss; words separated by one blank,
// so that two blanks are an empty word.
var handVectors = []string{
	"SORT k", "SORT k STORE d", "SORT k BY w_* LIMIT 0 10 GET g_* GET # ALPHA STORE d", "sort k store d STORE e",
	"SORT k BY store DESC", "SORT k GET store STORE d", "SORT k LIMIT store store STORE d", "SORT_RO k BY w",
	"MIGRATE h 1 k 0 100", "MIGRATE h 1 k 0 100 COPY REPLACE", "MIGRATE h 1 k 0 100 AUTH keys",
	"MIGRATE h 1  0 100 KEYS a b c", "MIGRATE h 1  0 100 AUTH2 u p REPLACE keys a", "MIGRATE h 1  0 100 KEYS keys a",
	"GEORADIUS k 1 2 3 m", "GEORADIUS k 1 2 3 m COUNT 3 ANY ASC STORE d", "georadius k 1 2 3 m storedist d",
	"GEORADIUSBYMEMBER k m 3 m STORE d", "GEORADIUSBYMEMBER k m 3 km WITHDIST STOREDIST d",
	"GEORADIUS_RO k 1 2 3 m", "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 m",
	"XREAD STREAMS a b 0 0", "XREAD COUNT 2 BLOCK 1 STREAMS a 0", "XREAD BLOCK 1 streams a b c 0 0 0",
	"XREADGROUP GROUP g c STREAMS a b > >", "XREADGROUP GROUP g c COUNT 1 BLOCK 2 NOACK STREAMS a >",
	"ZUNIONSTORE d 2 a b", "ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX", "ZINTERSTORE d 1 a", "ZDIFFSTORE d 3 a b c",
	"ZUNION 2 a b", "ZINTER 1 a WITHSCORES", "ZINTERCARD 2 a b LIMIT 1", "SINTERCARD 1 a", "ZDIFF 2 a b",
	"EVAL s 2 a b x y", "EVALSHA s 1 a", "EVAL_RO s 1 a", "FCALL f 2 a b c", "FCALL_RO f 1 a", "EVAL s 0", "EVAL s 0 x y",
	"FCALL f 0", "EVAL s x a", "EVAL s -1 a", "EVAL s 3 a b", "ZUNIONSTORE d 5 a b",
	"LMPOP 2 a b LEFT", "BLMPOP 0 2 a b LEFT COUNT 3", "ZMPOP 1 a MIN", "BZMPOP 1 2 a b MAX",
	"BLPOP a b c 0", "BRPOP a 0", "BZPOPMIN a b 0", "BZPOPMAX a 0", "BLMOVE a b LEFT RIGHT 0", "BRPOPLPUSH a b 0",
	"MSET a 1 b 2 c 3", "MSETNX a 1 b 2", "MGET a b", "DEL a", "DEL a b c", "UNLINK a b", "EXISTS a b", "TOUCH a b",
	"RENAME a b", "RENAMENX a b", "COPY a b", "COPY a b DB 3 REPLACE", "MOVE a 1", "SMOVE a b m",
	"BITOP AND d a b", "BITOP NOT d a", "PFMERGE d a b", "PFCOUNT a b", "PFADD k", "PFDEBUG GETREG k", "PFSELFTEST",
	"SUNIONSTORE d a b", "SINTERSTORE d a", "SDIFFSTORE d a b c", "ZRANGESTORE d s 0 1", "LCS a b LEN",
	"XGROUP CREATE k g $ MKSTREAM", "XGROUP DESTROY k g", "xgroup createconsumer k g c", "XGROUP SETID k g 0",
	"XINFO STREAM k FULL", "XCLAIM k g c 0 1-1", "XAUTOCLAIM k g c 0 0", "XADD k * f v", "XSETID k 1-1",
	"OBJECT ENCODING k", "MEMORY USAGE k", "DEBUG OBJECT k", "RESTORE k 0 x", "RESTORE-ASKING k 0 x REPLACE", "DUMP k",
	"SET k v", "SET k v GET", "SET k v EX 1 KEEPTTL", "BITFIELD k GET u8 0", "BITFIELD k SET u8 0 1", "GETEX k PERSIST",
	"PING", "MULTI", "EXEC", "SELECT 0", "FLUSHALL", "FLUSHDB ASYNC", "SWAPDB 0 1", "PUBLISH c m", "SPUBLISH c m",
	"SCRIPT LOAD s", "FUNCTION LOAD s", "FUNCTION FLUSH", "FUNCTION RESTORE p", "REPLCONF GETACK *", "CONFIG SET a b",
	"WATCH a b", "UNWATCH", "CLUSTER COUNTKEYSINSLOT 1", "WAIT 1 2", "COMMAND", "HELLO", "ACL SETUSER x",
	"DEL", "SET k", "GET a b", "RENAME a", "ZADD k 1", "MSET a", "EVAL s", "XGROUP CREATE k",
	"HEXPIRE k 1 FIELDS 1 f", "HPEXPIREAT k 1 FIELDS 2 f g", "HSETEX k FIELDS 1 f v", "HGETDEL k FIELDS 1 f", "HGETEX k PERSIST FIELDS 1 f",
	"MSETEX 2 a 1 b 2 EX 5", "MSETEX 1 a 1", "DELIFEQ k v", "DELEX k IFEQ v", "XDELEX k KEEPREF IDS 1 1-1", "XACKDEL k g IDS 1 1-1",
	"VADD k VALUES 1 1 e", "VREM k e", "VSETATTR k e a", "VADD k REDUCE 1 FP32 x e CAS Q8 EF 5 SETATTR a M 3",
	"MSETEX 2 a 1 b 2 NX PXAT 5", "MSETEX 3 a 1 b 2", "HSETEX k FIELDS 1 f v EX 10", "HEXPIRE k 1 FIELDS 1 f NX", "HGETEX k FIELDS 1 f EX 1",
	"SET k v IFEQ x PX 5", "SET k v XX EX 1 EX 2", "DELEX k", "XADD k IDMPAUTO p * f v", "XREADGROUP GROUP g c CLAIM 1 STREAMS a >",
	"XSETID k 1-1 ENTRIESADDED 2 MAXDELETEDID 0-0", "XIDMPRECORD k p i 1-1", "XCFGSET k IDMP-DURATION 1", "XGROUP CREATE k g 0 ENTRIESREAD 1",
	"SORT k BY nosort GET # STORE d", "EVALSHA s 0", "EVAL_RO s 0 k", "FCALL f 0 x", "RESTORE k 0 x REPLACE ABSTTL IDLETIME 1",
	"EXPIRE k 1 NX", "PFCOUNT a", "GETSET k v", "SPOP k 2", "LPOP k 2", "ZADD k GT CH 1 m", "ZPOPMIN k 2", "CLUSTER FLUSHSLOT 1", "TRIMSLOTS RANGES 1 1 2",
}

// wrong are vectors of handVectors that old servers' GETKEYS gets wrong: it takes two keys of TOUCH for one, finds none
// behind a subcommand, and refuses nothing for what a subcommand needs.
var wrong = map[string][]string{
	"redis-5.0": {"TOUCH a b", "PFDEBUG GETREG k", "MEMORY USAGE k", "XGROUP CREATE k"},
	"redis-6.0": {"PFDEBUG GETREG k", "XGROUP CREATE k"},
	"redis-6.2": {"XGROUP CREATE k"},
}

// TestKeysAgainstServers compares Keys with COMMAND GETKEYS, on the vectors above and on some made from the syntax of
// each write command as the newest servers' COMMAND DOCS has it.
func TestKeysAgainstServers(t *testing.T) {
	docs := map[string][]syntax{}
	for _, version := range []string{"valkey-9.1", "redis-8.6"} {
		readSyntaxes(t, dial(t, testkit.New(t).Server(version).Addr()), docs)
	}
	eachServer(t, func(t *testing.T, version, addr string) {
		s := dial(t, addr)
		known := map[string]live.Command{}
		for _, c := range serverCommands(t, s) {
			known[c.Name] = c
		}
		vectors := 0
		for _, line := range handVectors {
			args := strings.Split(line, " ")
			c, ok := known[strings.ToUpper(args[0])]
			if ok && !isTooNew(c, args) && !slices.Contains(wrong[version], line) {
				compareKeys(t, s, args)
				vectors++
			}
		}
		rnd := rand.New(rand.NewPCG(7, 11))
		All(func(i *Info) bool {
			word, _, _ := strings.Cut(i.Name, " ")
			if c, ok := known[word]; ok && i.Write {
				vectors += compareGenerated(t, s, rnd, i, c, docs[i.Name])
			}
			return true
		})
		t.Logf("%d vectors", vectors)
		if vectors < 1000 {
			t.Errorf("%d vectors only", vectors)
		}
	})
}

// compareGenerated makes some vectors of a write command; c is what the server has of it, or of the command whose
// subcommand it is.
func compareGenerated(t *testing.T, s *live.Server, rnd *rand.Rand, i *Info, c live.Command, syntax []syntax) (vectors int) {
	if c.Legacy && c.Name == "PFDEBUG" {
		return 0 // see wrong
	}
	for range 20 {
		v := &vector{rnd: rnd, args: strings.Split(i.Name, " ")}
		v.addAll(syntax)
		if i.Name == "MIGRATE" && slices.Contains(v.args, "KEYS") {
			v.args[3] = "" // one key or KEYS, not both
		}
		if isRefused(v.args) || isTooNew(c, v.args) {
			continue
		}
		if keys := compareKeys(t, s, v.args); len(keys) == 0 && v.keys > 0 && len(v.args) >= -i.Arity {
			t.Errorf("%q: no keys, of %d", v.args, v.keys)
		}
		vectors++
	}
	return vectors
}

// isTooNew tells vectors that an older server refuses for an argument that it does not know.
func isTooNew(c live.Command, args []string) bool {
	return c.Arity > 0 && len(args) > c.Arity || c.Legacy && c.Name == "XREADGROUP" && slices.Contains(args, "CLAIM")
}

// isRefused tells vectors on which a server's GETKEYS and the command itself disagree,
// so that Keys, which follows the command, does not follow GETKEYS: GEORADIUS with
// both STORE and STOREDIST, of which the last counts, and XREADGROUP with streams and
// IDs that do not pair, which is a syntax error. PFMERGE without a source,
// which is none, GETKEYS refuses.
func isRefused(args []string) bool {
	if slices.Contains(args, "STORE") && slices.Contains(args, "STOREDIST") || args[0] == "PFMERGE" && len(args) == 2 {
		return true
	}
	streams := slices.Index(args, "STREAMS")
	return streams >= 0 && (len(args)-streams-1)%2 != 0
}

func compareKeys(t *testing.T, s *live.Server, args []string) (got []string) {
	t.Helper()
	reply, err := s.Do(append([]string{"COMMAND", "GETKEYS"}, args...)...)
	if err != nil && !live.IsServerError(err) {
		t.Fatal(err)
	}
	var want []string
	if list, ok := reply.([]any); ok && err == nil {
		for _, key := range list {
			want = append(want, key.(string))
		}
	}
	raw := make([][]byte, len(args))
	for i, arg := range args {
		raw[i] = []byte(arg)
	}
	info, ok := Resolve(raw)
	if !ok {
		t.Errorf("%q: not in the table", args)
		return nil
	}
	idx, kerr := info.Keys(raw, nil)
	for _, i := range idx {
		got = append(got, args[i])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || (kerr == nil) != (len(want) > 0) {
		t.Errorf("%q: keys %q (%v), server says %q (%v)", args, got, kerr, want, err)
	}
	return got
}

// syntax is an argument as COMMAND DOCS describes it.
type syntax struct {
	name, kind, token string
	flags             []string
	parts             []syntax
}

// readSyntaxes adds what the server documents, in place of what is there.
func readSyntaxes(t *testing.T, s *live.Server, out map[string][]syntax) {
	t.Helper()
	docs, err := s.Do("COMMAND", "DOCS")
	if err != nil {
		t.Fatal(err)
	}
	var read func(any)
	read = func(docs any) {
		for name, doc := range pairs(docs) {
			d := pairs(doc)
			out[strings.ToUpper(strings.ReplaceAll(name, "|", " "))] = readSyntax(d["arguments"])
			read(d["subcommands"])
		}
	}
	read(docs)
}

func readSyntax(v any) (all []syntax) {
	list, _ := v.([]any)
	for _, arg := range list {
		d := pairs(arg)
		x := syntax{parts: readSyntax(d["arguments"])}
		x.name, _ = d["name"].(string)
		x.kind, _ = d["type"].(string)
		x.token, _ = d["token"].(string)
		flags, _ := d["flags"].([]any)
		for _, f := range flags {
			x.flags = append(x.flags, f.(string))
		}
		all = append(all, x)
	}
	return all
}

func pairs(v any) map[string]any {
	out := map[string]any{}
	list, _ := v.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		out[list[i].(string)] = list[i+1]
	}
	return out
}

// vector is a command being made up.
type vector struct {
	rnd   *rand.Rand
	args  []string
	keys  int // how many
	count int // where numkeys is, 0 if there is none to fill in
}

func (v *vector) addAll(all []syntax) {
	for _, x := range all {
		v.add(x)
	}
}

func (v *vector) add(x syntax) {
	if slices.Contains(x.flags, "optional") && v.rnd.IntN(2) == 0 {
		return
	}
	times := 1
	if slices.Contains(x.flags, "multiple") {
		times = 1 + v.rnd.IntN(3)
	}
	if x.token != "" && x.kind != "pure-token" && !slices.Contains(x.flags, "multiple_token") {
		v.args = append(v.args, x.token)
	}
	for range times {
		if slices.Contains(x.flags, "multiple_token") {
			v.args = append(v.args, x.token)
		}
		switch x.kind {
		case "pure-token":
			v.args = append(v.args, x.token)
		case "block":
			v.addAll(x.parts)
		case "oneof":
			v.add(x.parts[v.rnd.IntN(len(x.parts))])
		case "integer", "double", "unix-time":
			if x.name == "numkeys" {
				v.count = len(v.args)
			}
			v.args = append(v.args, strconv.Itoa(10+v.rnd.IntN(1000)))
		default:
			if x.kind == "key" {
				v.keys++
			}
			v.args = append(v.args, fmt.Sprintf("%s-%d", x.name, len(v.args)))
		}
	}
	if v.count > 0 && v.count < len(v.args)-1 && x.name != "numkeys" {
		v.args[v.count] = strconv.Itoa(times)
		v.count = 0
	}
}
