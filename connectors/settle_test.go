package connectors

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A pipeline that stands still is found, in whatever order it is told what is behind; one that moves is waited for.
func TestPollKnowsWhatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n := 0
		err := poll(t.Context(), time.Minute, func() ([]string, error) {
			n++
			behind := []string{"master a: 1 of 2", "master b: 1 of 2", "master c: 1 of 2", "master d: 1 of 2"}
			if n%2 == 0 {
				behind[0], behind[3] = behind[3], behind[0]
			}
			return behind, nil
		})
		if err == nil || !strings.Contains(err.Error(), "nothing has moved for 1m0s") || !strings.Contains(err.Error(), "master a: 1 of 2") ||
			!strings.Contains(err.Error(), "1 more") {
			t.Errorf("it stands still: %v", err)
		}
		if d := time.Since(began); d > 62*time.Second {
			t.Errorf("found after %s", d)
		}
		left := 1000
		err = poll(t.Context(), time.Second, func() ([]string, error) {
			if left--; left == 0 {
				return nil, nil
			}
			return []string{fmt.Sprint("master a: ", left)}, nil
		})
		if err != nil {
			t.Errorf("it moves: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := poll(ctx, time.Second, func() ([]string, error) { return []string{"x"}, nil }); err == nil {
			t.Error("it goes on when it should end")
		}
	})
}

// Half a pipeline cannot be waited for.
func TestSettleNeedsBothEnds(t *testing.T) {
	err := Settle(t.Context(), time.Second, &Config{})
	if err == nil || !strings.Contains(err.Error(), "no connector of type source") {
		t.Error(err)
	}
}
