package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/command/internal/live"
)

func dial(t *testing.T, addr string) *live.Server {
	t.Helper()
	s, err := live.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// eachServer runs a test against a server of every version, and returns when all have ended.
func eachServer(t *testing.T, test func(t *testing.T, version, addr string)) {
	t.Run("servers", func(t *testing.T) {
		for _, version := range redistest.Versions() {
			t.Run(version, func(t *testing.T) {
				t.Parallel()
				test(t, version, testkit.New(t).Server(version).Addr())
			})
		}
	})
}

// serverCommands is the server's table, flat, subcommands behind their command.
func serverCommands(t *testing.T, s *live.Server) []live.Command {
	t.Helper()
	all, err := s.Commands()
	if err != nil {
		t.Fatal(err)
	}
	var flat []live.Command
	for _, c := range all {
		if strings.HasSuffix(c.Name, ":") || c.Name == "POST" {
			continue // traps for HTTP requests, in old servers
		}
		flat = append(append(flat, c), c.Subcommands...)
	}
	return flat
}

// arities are the differences in number of arguments that do not matter: older servers take fewer arguments than newer
// ones, which the table follows. What is more, they take XTRIM key, which does nothing, and more words behind PFDEBUG
// and CLIENT subcommands.
var arities = map[string][]int{
	"AUTH": {2}, "CLUSTER REPLICATE": {-3}, "COMMAND": {0}, "COMMAND GETKEYS": {-4}, "COMMAND GETKEYSANDFLAGS": {-4},
	"EXPIRE": {3}, "EXPIREAT": {3}, "HELLO": {-2}, "LPOP": {2}, "PEXPIRE": {3}, "PEXPIREAT": {3}, "PFDEBUG": {-3}, "PSYNC": {3},
	"RPOP": {2}, "SCRIPT DEBUG": {-3}, "XSETID": {3}, "XTRIM": {-2}, "ZRANK": {3}, "ZREVRANK": {3},
}

// TestTableAgainstServers: the table has every command of every server, with the same write flag, the same number of
// arguments and the same keys.
func TestTableAgainstServers(t *testing.T) {
	eachServer(t, func(t *testing.T, version, addr string) {
		writes, s := 0, dial(t, addr)
		listed := map[string]bool{}
		for _, c := range serverCommands(t, s) {
			listed[c.Name] = true
			if slices.Contains(c.Flags, "write") {
				writes++
			}
			compareCommand(t, version, c)
		}
		if want := 80; writes < want {
			t.Errorf("server has %d write commands, want at least %d", writes, want)
		}
		t.Logf("%d write commands", writes)
		names, err := s.Do("COMMAND", "LIST")
		if err != nil {
			return // before 7.0
		}
		for _, name := range names.([]any) {
			delete(listed, strings.ToUpper(strings.ReplaceAll(name.(string), "|", " ")))
		}
		if !strings.Contains(fmt.Sprint(names), "|") {
			maps.DeleteFunc(listed, func(name string, _ bool) bool { return strings.Contains(name, " ") })
		}
		if len(listed) > 0 {
			t.Errorf("COMMAND LIST lacks %v", slices.Sorted(maps.Keys(listed)))
		}
	})
}

func compareCommand(t *testing.T, version string, c live.Command) {
	t.Helper()
	info, ok := Lookup([]byte(c.Name))
	if !ok {
		t.Errorf("%s: not in the table", c.Name)
		return
	}
	if slices.Contains(c.Flags, "may_replicate") && !info.Flags.Has(FlagMayReplicate) {
		t.Errorf("%s: the server may replicate it", c.Name)
	}
	preliminary := slices.Contains(c.Flags, "module") && version == "redis-8.0" // its vector commands take any number
	if info.Arity != c.Arity && !slices.Contains(arities[c.Name], c.Arity) && !preliminary {
		t.Errorf("%s: arity %d, server says %d", c.Name, info.Arity, c.Arity)
	}
	if c.Legacy && len(info.Subcommands) > 0 {
		return // the old server has the command in one piece
	}
	if isWrite := slices.Contains(c.Flags, "write"); info.Write != isWrite {
		t.Errorf("%s: write is %v, server says %v", c.Name, info.Write, isWrite)
	}
	notKey := len(c.Specs) > 0 && slices.Contains(c.Specs[0].Flags, "not_key") // a shard channel
	if info.Keyless() && c.First != 0 && !notKey {
		t.Errorf("%s: keyless, server says first key %d", c.Name, c.First)
	}
	if c.Legacy {
		return
	}
	if got, want := specText(info.KeySpecs), liveSpecText(c.Specs); got != want {
		t.Errorf("%s:\n  table  %s\n  server %s", c.Name, got, want)
	}
	if info.First != c.First || info.Last != c.Last || info.Step != c.Step {
		t.Errorf("%s: first, last, step %d %d %d, server says %d %d %d", c.Name,
			info.First, info.Last, info.Step, c.First, c.Last, c.Step)
	}
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
