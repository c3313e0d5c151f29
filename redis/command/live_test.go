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

func startServer(t *testing.T) *live.Server {
	t.Helper()
	s, err := live.Dial(t.Context(), "tcp", testkit.New(t).Server("").Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func serverCommands(t *testing.T, s *live.Server) []live.Command {
	t.Helper()
	all, err := s.Commands()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(c live.Command) bool { return strings.HasSuffix(c.Name, ":") || c.Name == "POST" })
}

// TestTableAgainstServer: the table has every command of the server, with the same
// write flag and the same keys.
func TestTableAgainstServer(t *testing.T) {
	writes := 0
	var check func(all []live.Command)
	check = func(all []live.Command) {
		for _, c := range all {
			info, ok := Lookup([]byte(c.Name))
			if !ok {
				t.Errorf("%s: not in the table", c.Name)
				continue
			}
			isWrite := slices.Contains(c.Flags, "write")
			if isWrite {
				writes++
			}
			check(c.Subcommands)
			if c.Legacy && len(info.Subcommands) > 0 {
				continue // the old server has the command in one piece
			}
			if info.Write != isWrite {
				t.Errorf("%s: write is %v, server says %v", c.Name, info.Write, isWrite)
			}
			notKey := len(c.Specs) > 0 && slices.Contains(c.Specs[0].Flags, "not_key") // a shard channel
			if info.Keyless() && c.First != 0 && !notKey {
				t.Errorf("%s: keyless, server says first key %d", c.Name, c.First)
			}
			if c.Legacy {
				continue
			}
			if got, want := specText(info.KeySpecs), liveSpecText(c.Specs); got != want {
				t.Errorf("%s:\n  table  %s\n  server %s", c.Name, got, want)
			}
			if info.First != c.First || info.Last != c.Last || info.Step != c.Step {
				t.Errorf("%s: first, last, step %d %d %d, server says %d %d %d", c.Name,
					info.First, info.Last, info.Step, c.First, c.Last, c.Step)
			}
		}
	}
	check(serverCommands(t, startServer(t)))
	if writes < 80 {
		t.Errorf("server has %d write commands only", writes)
	}
	t.Logf("%d write commands", writes)
}

func specText(specs []KeySpec) string {
	var out []string
	for _, s := range specs {
		out = append(out, fmt.Sprint(s.Flags&(KeyNotKey|KeyIncomplete) != 0, s.Begin, s.Index, s.Keyword, s.From,
			s.Find, s.Last, s.Limit, s.NumAt, s.FirstAt, s.Step))
	}
	return strings.Join(out, "; ")
}

func liveSpecText(specs []live.Spec) string {
	var out []string
	for _, s := range specs {
		odd := slices.Contains(s.Flags, "not_key") || slices.Contains(s.Flags, "incomplete")
		begin := slices.Index([]string{"index", "keyword", "unknown"}, s.Begin)
		find := slices.Index([]string{"range", "keynum", "unknown"}, s.Find)
		out = append(out, fmt.Sprint(odd, Begin(begin), s.Index, strings.ToUpper(s.Keyword), s.From,
			Find(find), s.Last, s.Limit, s.NumAt, s.FirstAt, s.Step))
	}
	return strings.Join(out, "; ")
}

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
	"VADD k VALUES 1 1 e", "VREM k e", "VSETATTR k e a",
}

// wrongBefore7 are vectors of handVectors that GETKEYS got wrong in old servers.
var wrongBefore7 = []string{"TOUCH a b", "PFDEBUG GETREG k", "MEMORY USAGE k", "XGROUP CREATE k"}

// TestKeysAgainstServer compares Keys with COMMAND GETKEYS, on the vectors above and
// on some made from the syntax of each write command as COMMAND DOCS has it.
func TestKeysAgainstServer(t *testing.T) {
	s := startServer(t)
	known := map[string]bool{}
	var writes []live.Command
	var visit func([]live.Command)
	visit = func(all []live.Command) {
		for _, c := range all {
			known[c.Name] = true
			if slices.Contains(c.Flags, "write") {
				writes = append(writes, c)
			}
			visit(c.Subcommands)
		}
	}
	visit(serverCommands(t, s))
	vectors := 0
	for _, line := range handVectors {
		args := strings.Split(line, " ")
		if !known[strings.ToUpper(args[0])] || writes[0].Legacy && slices.Contains(wrongBefore7, line) {
			continue
		}
		compareKeys(t, s, args)
		vectors++
	}
	if writes[0].Legacy {
		t.Logf("%d vectors; the server documents no syntax", vectors)
		return
	}
	rnd := rand.New(rand.NewPCG(7, 11))
	docs := syntaxes(t, s)
	for _, c := range writes {
		for range 20 {
			v := &vector{rnd: rnd, args: strings.Split(c.Name, " ")}
			v.addAll(docs[c.Name])
			if c.Name == "MIGRATE" && slices.Contains(v.args, "KEYS") {
				v.args[3] = "" // one key or KEYS, not both
			}
			if !isRefused(v.args) {
				if keys := compareKeys(t, s, v.args); len(keys) == 0 && v.keys > 0 && len(v.args) >= -c.Arity {
					t.Errorf("%q: no keys, of %d", v.args, v.keys)
				}
				vectors++
			}
		}
	}
	t.Logf("%d vectors of %d write commands", vectors, len(writes))
	if vectors < 1000 {
		t.Errorf("%d vectors only", vectors)
	}
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

func syntaxes(t *testing.T, s *live.Server) map[string][]syntax {
	t.Helper()
	docs, err := s.Do("COMMAND", "DOCS")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]syntax{}
	var read func(any)
	read = func(docs any) {
		for name, doc := range pairs(docs) {
			d := pairs(doc)
			out[strings.ToUpper(strings.ReplaceAll(name, "|", " "))] = readSyntax(d["arguments"])
			read(d["subcommands"])
		}
	}
	read(docs)
	return out
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
