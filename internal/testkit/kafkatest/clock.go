package kafkatest

import (
	"context"
	_ "embed" // for the clock
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// clockSource is loaded into the broker before the C library. It is no .c file, which would make this package one of cgo.
//
//go:embed clock.c.txt
var clockSource []byte

// SetClock is Config.Clock for the starts to come.
func (b *Broker) SetClock(ctx context.Context, wrong time.Duration) error {
	source, library := filepath.Join(b.cfg.Dir, "clock.c"), filepath.Join(b.cfg.Dir, "clock.so")
	if err := os.WriteFile(source, clockSource, 0o644); err != nil {
		return fmt.Errorf("make clock: %w", err)
	}
	if out, err := exec.CommandContext(ctx, "cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl").CombinedOutput(); err != nil {
		return fmt.Errorf("compile clock: %w\n%s", err, out)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = []string{"LD_PRELOAD=" + library, "REDRIVER_CLOCK_SECONDS=" + strconv.Itoa(int(wrong.Seconds()))}
	return nil
}
