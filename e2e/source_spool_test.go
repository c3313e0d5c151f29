package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
)

const saysStalled = "the spool takes no more"

// Kafka is away, and the spool is full, or its disk cannot be used, or its folder is removed under it or between two runs:
// the source says so and goes on by itself, with nothing lost and without a snapshot.
//
// Fault (source): the spool is full, its disk is full or cannot be used, its folder is removed. The source says so and goes on
// by itself, with nothing lost.
func TestSourceSpoolFullUnusableAndRemoved(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source := sourceCluster(w, 1, 0)
	broker := newLeavingBroker(t)
	// 1 MiB of memory, 4 MiB of disk.
	c := carryUnderLoad(t, w, broker.Addr(), source, "spool.memory.bytes", "1MiB", "spool.disk.bytes", "4MiB", "unit.max.bytes", "2MiB")
	spool := filepath.Join(c.dir, "data", "spool", c.connector("from"), "shard-1")
	full := c.says(saysFull)
	write := func(t *testing.T, mb int) {
		t.Helper()
		for i := range 8 * mb {
			if err := source.Client().Set(t.Context(), fmt.Sprintf("filler:%d", i), string(make([]byte, 128<<10)), 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}

	remove := func(t *testing.T) { // files come to be meanwhile
		t.Helper()
		w.Eventually(30*time.Second, "the folder is removed", func() error { return os.RemoveAll(spool) })
	}

	t.Run("full", func(t *testing.T) {
		broker.leave()
		write(t, 8)
		c.hears(1, saysStalled)
		if c.says("are full") == 0 {
			t.Error("it does not say why")
		}
		broker.comeBack(t)
		c.arrives()
		if c.says("the spool takes bytes again") == 0 {
			t.Error("it does not say when that is over")
		}
	})
	t.Run("disk unusable", func(t *testing.T) {
		remove(t)
		// For a file of that name not even root can write there.
		if err := os.WriteFile(spool, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		broker.leave()
		write(t, 3)
		c.hears(1, "its disk cannot be used")
		if err := os.Remove(spool); err != nil {
			t.Fatal(err)
		}
		w.Eventually(30*time.Second, "the spool uses its disk", func() error {
			_, err := os.Stat(spool)
			return err
		})
		broker.comeBack(t)
		c.arrives()
	})
	t.Run("removed while it is used", func(t *testing.T) {
		broker.leave()
		write(t, 3)
		w.Eventually(30*time.Second, "the spool uses its disk", func() error {
			files, err := filepath.Glob(filepath.Join(spool, "*"))
			if err == nil && len(files) == 0 {
				err = fmt.Errorf("no files in %s", spool)
			}
			return err
		})
		remove(t)
		write(t, 2)
		broker.comeBack(t)
		c.arrives()
	})
	if n := c.says(saysFull) - full; n != 0 {
		t.Errorf("%d new generations, though the spool held all", n)
	}
	t.Run("removed between two runs", func(t *testing.T) {
		broker.leave()
		write(t, 3)
		c.from.Kill()
		remove(t)
		broker.comeBack(t)
		c.from = c.run(c.fromConfig)
		c.arrives()
		if n := c.says(saysFull); n != 0 {
			t.Errorf("%d new generations, though the master had what the spool held", n)
		}
	})
	t.Run("no space left on its disk", func(t *testing.T) {
		c.from.Stop()
		c.from = w.RedriverOnDisk(filepath.Join(c.dir, "data"), 2<<20, "run", "--config", c.fromConfig, "--no-progress")
		c.arrives()
		broker.leave()
		write(t, 8)
		c.hears(1, "no space left on device")
		broker.comeBack(t)
		c.arrives()
		if c.says("the spool takes bytes again") == 0 {
			t.Error("it does not say when that is over")
		}
		if n := c.says(saysFull); n != 0 {
			t.Errorf("%d new generations, though the master had what did not fit", n)
		}
	})
	c.settle()
}
