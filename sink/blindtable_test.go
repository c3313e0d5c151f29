package sink

import (
	"testing"

	"github.com/redriver/redriver/redis/command"
)

// The table of commands and the allow-list tell the same: by command alone, and for the shortest form of those that are
// blind in some forms only.
func TestTheTableKnowsTheAllowList(t *testing.T) {
	forms := map[string][]string{
		"SET": {"SET", "k", "v"}, "ZADD": {"ZADD", "k", "1", "m"}, "RESTORE": {"RESTORE", "k", "0", "payload", "REPLACE"},
	}
	seen := 0
	for info := range command.All {
		args := make([][]byte, 0, 5)
		words := forms[info.Name]
		if words == nil {
			words = []string{info.Name, "k", "v", "w"}
		}
		for _, w := range words {
			args = append(args, []byte(w))
		}
		want := info.Blind != command.BlindNever
		if isBlind(args) != want {
			t.Errorf("%s: the table says %v, the allow-list %v", info.Name, want, !want)
		}
		if (info.Blind == command.BlindForms) != (forms[info.Name] != nil) {
			t.Errorf("%s: blind in some forms: %v in the table", info.Name, info.Blind == command.BlindForms)
		}
		if want {
			seen++
		}
	}
	if seen < 10 {
		t.Errorf("%d blind commands seen", seen)
	}
}
