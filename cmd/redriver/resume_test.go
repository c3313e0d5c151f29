package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/verify"
)

// A sync that is killed while writes go on goes on in its folder: every increment is at the target once.
func TestSyncGoesOnAfterAKill(t *testing.T) {
	w := testkit.New(t)
	from, to := w.Cluster(3, 0), w.Cluster(2, 0)
	increment := func() {
		t.Helper()
		pipe := from.Client().Pipeline()
		for i := range 200 {
			pipe.Incr(t.Context(), fmt.Sprintf("count:%d", i))
			pipe.RPush(t.Context(), fmt.Sprintf("list:%d", i), "x")
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	increment()
	args := []string{"sync", "--from", "redis://" + from.Addrs()[0], "--to", "redis://" + to.Addrs()[0], "--data-dir", w.Path("sync")}
	for range 3 {
		r := w.Redriver(args...)
		w.Eventually(30*time.Second, "the sink is up to date", func() error {
			increment()
			if !strings.Contains(r.Log(), "sink is up to date") && !strings.Contains(r.Log(), "sink is applying") {
				return errors.New("not yet")
			}
			return nil
		})
		for range 20 {
			increment()
		}
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	increment()
	if code, output := binary(t, append(args, "--until-synced")...); code != connectors.CodeOK {
		t.Fatalf("code %d\n%s", code, output)
	}
	result, err := verify.Compare(t.Context(), verify.At(from.Addrs()...), verify.At(to.Addrs()...), verify.Options{ExpiryHold: connectors.DefaultExpiryHold})
	if err != nil || !result.Identical() || result.Keys != 400 {
		t.Errorf("%v, %v", err, result)
	}
}
