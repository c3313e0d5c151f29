package source

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestALaneSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		status := &ShardStatus{}
		w := &waits{log: slog.New(slog.NewTextHandler(&out, nil)), status: status}
		after := func(d time.Duration, want int, what string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := strings.Count(out.String(), what); got != want {
				t.Errorf("%q is told %d times, want %d:\n%s", what, got, want, &out)
			}
		}
		w.begin("one")
		after(tellAfter-time.Second, 0, "waits_for")
		w.begin("two")
		after(tellAfter-time.Second, 0, "waits_for")
		after(time.Second, 1, "waits_for=two since=30s")
		after(tellAfter, 1, "waits_for=two since=1m0s")
		if got := status.read().LastError; !strings.Contains(got, "two") {
			t.Errorf("status: %q", got)
		}
		w.end()
		after(2*tellAfter, 2, "waits_for")
		w.begin("three")
		after(tellAfter, 1, "waits_for=three since=30s")
		w.end()
	})
}
