package source

import (
	"strings"
	"testing"
)

const script, scriptSum = "return 1", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"

func TestEvalshaTravelsAsEval(t *testing.T) {
	args := func(words ...string) (out [][]byte) {
		for _, w := range words {
			out = append(out, []byte(w))
		}
		return out
	}
	evalsha := args("evalsha", strings.ToUpper(scriptSum), "1", "k", "a")
	for name, learn := range map[string]func(s *scripts){
		"snapshot":    func(s *scripts) { s.begin(); s.learn([]byte(script)) },
		"SCRIPT LOAD": func(s *scripts) { s.script(args("script", "load", script)) },
		"EVAL":        func(s *scripts) { _, _, _ = s.resolve(args("EVAL", script, "0")) },
	} {
		var s scripts
		learn(&s)
		got, changed, err := s.resolve(evalsha)
		if err != nil || !changed || len(got) != 5 || string(got[0]) != "EVAL" || string(got[1]) != script || string(got[4]) != "a" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		s.script(args("SCRIPT", "FLUSH", "ASYNC"))
		if _, _, err := s.resolve(evalsha); err == nil {
			t.Errorf("%s: a script is known that was flushed", name)
		}
	}
	var s scripts
	if _, _, err := s.resolve(evalsha); ClassOf(err) != Resync {
		t.Errorf("unknown to a process that began in the middle of the stream: %v", err)
	}
	s.begin()
	if _, _, err := s.resolve(evalsha); ClassOf(err) != Stop || !strings.Contains(err.Error(), "lua-replicate-commands") {
		t.Errorf("unknown behind a snapshot: %v", err)
	}
}
