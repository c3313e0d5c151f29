package command

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/redis/command/internal/live"
)

// TestEveryWriteHasFacts: and nothing else has.
func TestEveryWriteHasFacts(t *testing.T) {
	rest := maps.Clone(facts)
	All(func(i *Info) bool {
		_, ok := facts[i.Name]
		delete(rest, i.Name)
		replicated := i.Flags.Has(FlagMayReplicate) && !i.Keyless()
		if want := i.Write || replicated; ok != want {
			t.Errorf("%s: it has facts: %v", i.Name, ok)
		}
		if many := maxKeys(i) != 1 && !i.Keyless(); ok && many != (i.Split != SplitNone) {
			t.Errorf("%s: split %d, it can have several keys: %v", i.Name, i.Split, many)
		}
		return true
	})
	for name := range rest {
		t.Errorf("%s: facts of an unknown command", name)
	}
}

// maxKeys tells whether a command can have more than one key: 1 or more than 1.
func maxKeys(i *Info) int {
	if i.rule != nil {
		return 2
	}
	n := 0
	for _, s := range i.KeySpecs {
		switch {
		case s.Flags&KeyNotKey != 0:
		case s.Find == FindRange && s.Last == 0:
			n++
		default:
			n += 2
		}
	}
	return n
}

// TestPerKey: of each command that splits per key, key by key is as good as the whole.
func TestPerKey(t *testing.T) {
	splits := map[string]bool{}
	All(func(i *Info) bool {
		if i.Split == SplitPerKey {
			splits[i.Name] = false
		}
		return true
	})
	s := dial(t, testkit.New(t).Server("redis-8.6").Addr())
	for _, line := range []string{
		"DEL s d n", "UNLINK s d n", "MSET s 1 n 2 d 3", "MSETEX 3 s 1 n 2 d 3 PXAT 4102444800000", "MSETEX 2 s 1 n 2 KEEPTTL", "MSETEX 2 s 1 n 2",
	} {
		args := split(line)
		info, _ := Resolve(args)
		splits[info.Name] = true
		whole := digestAfter(t, s, []string{line})
		if parts := digestAfter(t, s, perKey(t, info, args)); parts != whole {
			t.Errorf("%s: %s as a whole, %s key by key", line, whole, parts)
		}
	}
	for name, tried := range splits {
		if !tried {
			t.Errorf("%s is not tried", name)
		}
	}
}

// perKey makes a command of each key: with the arguments up to the next key, and what follows the last one's.
func perKey(t *testing.T, info *Info, args [][]byte) (lines []string) {
	t.Helper()
	idx, err := info.Keys(args, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec := info.KeySpecs[0]
	options := idx[len(idx)-1] + spec.Step
	for _, at := range idx {
		words := []string{info.Name}
		if spec.Find == FindKeyNum {
			words = append(words, "1")
		}
		for _, arg := range slices.Concat(args[at:at+spec.Step], args[options:]) {
			words = append(words, string(arg))
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

func digestAfter(t *testing.T, s *live.Server, lines []string) string {
	t.Helper()
	all := [][]string{{"FLUSHALL"}, {"SET", "s", "0", "PXAT", "4102444900000"}, {"SET", "d", "0", "PXAT", "4102444900000"}}
	for _, line := range lines {
		all = append(all, strings.Fields(line))
	}
	for _, key := range []string{"s", "d", "n"} {
		all = append(all, []string{"GET", key}, []string{"PEXPIRETIME", key})
	}
	answers, err := s.DoAll(all...)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(answers[len(answers)-6:])
}

// TestMigrate: what moves a key leaves DEL at one server and RESTORE at the other, with a time to live only before 7.0.
func TestMigrate(t *testing.T) {
	for version, relative := range map[string]bool{"redis-6.2": true, "redis-8.6": false, "valkey-9.1": false} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := testkit.New(t)
			from, to := w.Server(version), w.Server(version)
			a, b := newEffects(t, version, from.Addr()), newEffects(t, version, to.Addr())
			if _, err := b.s.Do("DEL", "s"); err != nil {
				t.Fatal(err)
			}
			a.mark(t)
			b.mark(t)
			if _, err := a.s.Do("MIGRATE", "127.0.0.1", strconv.Itoa(to.Port()), "s", "0", "5000"); err != nil {
				t.Fatal(err)
			}
			a.checkStream(t, "MIGRATE s", a.mark(t), []string{"s"})
			b.checkStream(t, "MIGRATE s", b.mark(t), []string{"s"})
			if b.relative > 0 != relative {
				t.Errorf("%d of %d commands were relative", b.relative, b.streamed)
			}
			ttl, err := b.s.Do("PTTL", "s")
			if ms, _ := ttl.(int64); err != nil || ms < 50*365*dayMs {
				t.Errorf("expires in %v ms, %v", ttl, err)
			}
		})
	}
}
