package command

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func split(line string) [][]byte { return bytes.Split([]byte(line), []byte(" ")) }

func TestLookup(t *testing.T) {
	for _, name := range []string{
		"get", "GET", "gEt", "XGROUP CREATE", "xgroup create", "function load", "Script Load",
		"restore-asking", "HPEXPIREAT", "DELIFEQ", "MSETEX", "VADD",
	} {
		info, ok := Lookup([]byte(name))
		if !ok || info.Name != strings.ToUpper(name) {
			t.Errorf("Lookup(%q) = %v, %v", name, info, ok)
		}
	}
	for _, name := range []string{"", "GETT", "GE", "XGROUP  CREATE", "xgroup|create", strings.Repeat("x", 1000), "GET\x00", "\xff"} {
		if info, ok := Lookup([]byte(name)); ok {
			t.Errorf("Lookup(%q) = %s", name, info.Name)
		}
	}
	for line, want := range map[string]string{
		"xgroup create k": "XGROUP CREATE", "XGROUP nothing": "XGROUP", "xgroup": "XGROUP", "set a b": "SET", "function load": "FUNCTION LOAD",
		"xgroup " + strings.Repeat("x", 1000): "XGROUP",
	} {
		if info, ok := Resolve(split(line)); !ok || info.Name != want {
			t.Errorf("Resolve(%q) = %v, %v", line, info, ok)
		}
	}
	if _, ok := Resolve(nil); ok {
		t.Error("Resolve of nothing finds something")
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	All(func(i *Info) bool {
		if seen[i.Name] || len(i.Name) > maxNameLen || i.Name != strings.ToUpper(i.Name) || i.Arity == 0 {
			t.Errorf("bad entry %q, arity %d", i.Name, i.Arity)
		}
		seen[i.Name] = true
		if i.Write != i.Flags.Has(FlagWrite) {
			t.Errorf("%s: Write is %v", i.Name, i.Write)
		}
		for _, s := range i.KeySpecs {
			if s.Find != FindUnknown && s.Step < 1 || s.Begin == BeginIndex && s.Index < 1 {
				t.Errorf("%s: key spec %+v", i.Name, s)
			}
		}
		return true
	})
	for name := range rules {
		if !seen[name] {
			t.Errorf("rule for unknown command %s", name)
		}
	}
}

// TestNothingUnknown: no command of the table itself needs COMMAND GETKEYS.
func TestNothingUnknown(t *testing.T) {
	allowed := []string{"STRALGO"} // gone since 7.0, and it only reads
	All(func(i *Info) bool {
		for _, s := range i.KeySpecs {
			open := s.Flags&KeyIncomplete != 0 || s.Begin == BeginUnknown || s.Find == FindUnknown
			if open && s.Flags&KeyNotKey == 0 && i.rule == nil && !slices.Contains(allowed, i.Name) {
				t.Errorf("%s: keys are unknown", i.Name)
			}
		}
		return true
	})
}

func TestKeys(t *testing.T) {
	for line, want := range map[string]string{
		"SET k v":                                 "[1]",
		"mset a 1 b 2":                            "[1 3]",
		"msetex 2 a 1 b 2 EX 5":                   "[2 4]",
		"ZUNIONSTORE d 2 a b WEIGHTS 1 2":         "[1 3 4]",
		"XREADGROUP GROUP STREAMS c STREAMS k >":  "[5]", // a server's GETKEYS takes the group for the keyword
		"PFMERGE d":                               "[1]",
		"XREAD NEWOPTION STREAMS k 0":             ErrUnknownKeys.Error(),
		"XREAD STREAMS a b 0":                     ErrArgs.Error(),
		"GEORADIUS k 1 2 3 m STORE a STOREDIST b": "[1 9]", // one of the two is stored
		"SORT k STORE a STORE b":                  "[1 5]",
		"MIGRATE h 1 k 0 9 AUTH KEYS":             "[3]",
		"PING":                                    ErrNoKeys.Error(),
		"EVAL s 0":                                ErrNoKeys.Error(),
		"EVAL s 99999999999999999999 a":           ErrArgs.Error(),
		"EVAL s +1 a":                             ErrArgs.Error(),
		"SPUBLISH c m":                            ErrNoKeys.Error(),
		"XGROUP NOTHING k":                        ErrUnknownKeys.Error(),
		"XGROUP CREATE k g 0":                     "[2]",
		"STRALGO LCS KEYS a b":                    ErrUnknownKeys.Error(),
		"SET k":                                   ErrArgs.Error(),
		"COMMAND":                                 ErrNoKeys.Error(),
	} {
		args := split(line)
		info, ok := Lookup(args[0])
		if !ok {
			t.Fatal(line)
		}
		idx, err := info.Keys(args, []int{77})
		if idx[0] != 77 || err != nil && len(idx) != 1 {
			t.Errorf("%q: dst comes back as %v", line, idx)
		}
		got := fmt.Sprint(idx[1:])
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

func TestKeyless(t *testing.T) {
	for name, want := range map[string]bool{
		"PING": true, "FLUSHALL": true, "PUBLISH": true, "SPUBLISH": true, "FUNCTION": true, "SCRIPT LOAD": true,
		"SET": false, "EVAL": false, "XGROUP": false, "XGROUP CREATE": false, "SORT": false, "MIGRATE": false, "XREAD": false,
	} {
		if info, ok := Lookup([]byte(name)); !ok || info.Keyless() != want {
			t.Errorf("%s: keyless is %v", name, !want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	dst := make([]int, 0, 8)
	for _, line := range []string{
		"set k v", "xgroup create k g 0", "zunionstore d 2 a b", "sort k store d", "xread streams a 0",
		"georadius k 1 2 3 m", "migrate h 1 k 0 9", "eval s 0",
	} {
		args := split(line)
		if n := testing.AllocsPerRun(100, func() {
			info, _ := Resolve(args)
			_, _ = info.Keys(args, dst)
		}); n != 0 {
			t.Errorf("%q allocates %v times", line, n)
		}
	}
}

// FuzzKeys: whatever the arguments, positions are within them.
func FuzzKeys(f *testing.F) {
	for _, line := range handVectors {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		args := bytes.Split(line, []byte(" "))
		info, ok := Resolve(args)
		if !ok {
			return
		}
		idx, err := info.Keys(args, nil)
		if (err == nil) != (len(idx) > 0) {
			t.Fatalf("%q: %v, %v", line, idx, err)
		}
		if err != nil && !errors.Is(err, ErrNoKeys) && !errors.Is(err, ErrArgs) && !errors.Is(err, ErrUnknownKeys) {
			t.Fatalf("%q: %v", line, err)
		}
		for _, i := range idx {
			if i < 1 || i >= len(args) {
				t.Fatalf("%q: key at %d", line, i)
			}
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	name := []byte("pexpireat")
	b.ReportAllocs()
	for b.Loop() {
		Lookup(name)
	}
}

func BenchmarkKeys(b *testing.B) {
	for _, line := range []string{"SET k v", "XGROUP CREATE k g 0", "ZUNIONSTORE d 2 a b", "MSET a 1 b 2 c 3 d 4"} {
		b.Run(strings.Fields(line)[0], func(b *testing.B) {
			args, dst := split(line), make([]int, 0, 8)
			b.ReportAllocs()
			for b.Loop() {
				info, _ := Resolve(args)
				dst, _ = info.Keys(args, dst[:0])
			}
		})
	}
}

// What the first arguments say of the keys holds however many follow.
func TestKeysWithin(t *testing.T) {
	args := make([][]byte, 300)
	for i := range args {
		args[i] = []byte("1")
	}
	const head = 64
	within := map[string]bool{}
	for info := range All {
		name := strings.Fields(info.Name)
		for i, word := range name {
			args[i] = []byte(word)
		}
		if !info.KeysWithin(head) {
			continue
		}
		within[info.Name] = true
		all, err := info.Keys(args, nil)
		first, errFirst := info.Keys(args[:head], nil)
		if !errors.Is(err, errFirst) || !slices.Equal(all, first) {
			t.Errorf("%s: keys at %v (%v), and at %v (%v) by its head", info.Name, all, err, first, errFirst)
		}
		if _, changed := info.Absolute(args, 1); changed {
			t.Errorf("%s: has times to live", info.Name)
		}
		for i := range name {
			args[i] = []byte("1")
		}
	}
	for name, want := range map[string]bool{
		"SADD": true, "RPUSH": true, "HSET": true, "ZADD": true, "XADD": true, "APPEND": true,
		"DEL": false, "MSET": false, "SET": false, "EVAL": false, "HPEXPIRE": false, "ZUNIONSTORE": false, "XGROUP": false,
	} {
		if within[name] != want {
			t.Errorf("%s: %v, want %v", name, within[name], want)
		}
	}
}
