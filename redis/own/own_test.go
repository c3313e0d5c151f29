package own_test

import (
	"strings"
	"testing"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
)

func TestEveryKeyIsKnownAndInItsSlot(t *testing.T) {
	for i := range 16384 {
		s := slot.Slot(i)
		for _, k := range [][]byte{
			own.Key(own.Checkpoint, "a", s), own.Key(own.Watermark, "A-b.c_9", s), own.Key(own.Fence, "x", s),
			own.StagingKey("a", 0, s), own.StagingKey("a", 1<<64-1, s),
		} {
			if !own.Is(k) {
				t.Fatalf("Is(%q) = false", k)
			}
			if got := slot.Of(k); got != s {
				t.Fatalf("slot of %q = %d, want %d", k, got, s)
			}
		}
	}
}

func TestKeysOfUsers(t *testing.T) {
	tag, other := "{"+slot.Tag(7)+"}", "{"+slot.Tag(8)+"}"
	for _, k := range []string{
		"", "redriver!", "redriver!c", "redriver!c!", "redriver!c!a", "redriver!c!a!", "redriver!c!a!{}",
		"redriver!c!!" + tag, "redriver!x!a!" + tag, "redriver!cc!a!" + tag, "redriver!c!a b!" + tag,
		"redriver!c!a!1!" + tag, "redriver!s!a!" + tag, "redriver!s!a!01!" + tag, "redriver!s!a!-1!" + tag,
		"redriver!s!a!99999999999999999999!" + tag, "redriver!c!a!" + tag + "x", "xredriver!c!a!" + tag,
		"redriver!c!a!" + tag + other, "redriver!c!a!{" + tag + "}", "redriver!c!a!{nobody}", "redriver!c!{a}!" + tag,
		"Redriver!c!a!" + tag, "redriver!c!a!" + strings.TrimSuffix(tag, "}"),
	} {
		if own.Is([]byte(k)) {
			t.Errorf("Is(%q) = true", k)
		}
	}
}
