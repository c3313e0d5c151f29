package redistest_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

func TestVersionsAreThoseOfTheScript(t *testing.T) {
	t.Parallel()
	root, err := testkit.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.CommandContext(t.Context(), "bash", filepath.Join(root, "internal", "tools", "redis-install"), "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	if want, got := strings.Fields(string(text)), redistest.Versions(); !slices.Equal(got, want) {
		t.Errorf("versions are %q, the script has %q", got, want)
	}
}

// TestClusterOfEveryVersion: on every version a cluster forms, takes writes in each slot range, replicates and moves slots.
func TestClusterOfEveryVersion(t *testing.T) {
	t.Parallel()
	for _, version := range redistest.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			c := start(t, redistest.Config{Version: version, Masters: 2, ReplicasPerMaster: 1})
			keys := []string{"{bar}k", "{foo}k"} // slots 5061 and 12182
			for i, m := range c.Masters() {
				want := fmt.Sprint("value", i)
				if err := m.Client().Set(ctx, keys[i], want, 0).Err(); err != nil {
					t.Fatal(err)
				}
				if n, err := m.Client().Wait(ctx, 1, 5*time.Second).Result(); err != nil || n != 1 {
					t.Fatalf("%d replicas have the write, %v", n, err)
				}
				if got, err := c.Client().Get(ctx, keys[i]).Result(); err != nil || got != want {
					t.Errorf("%s is %q, %v", keys[i], got, err)
				}
			}
			from, to := c.Masters()[0], c.Masters()[1]
			if err := c.MoveSlots(ctx, from, to, 5061); err != nil {
				t.Fatal(err)
			}
			if got, err := to.Client().Get(ctx, keys[0]).Result(); err != nil || got != "value0" {
				t.Errorf("%s is %q at its new owner, %v", keys[0], got, err)
			}
		})
	}
}
