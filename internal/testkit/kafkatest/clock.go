package kafkatest

import (
	"context"
	_ "embed" // for the clock
	"errors"
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

// ErrNoCompiler says that a broker's clock cannot be wrong here: that needs a C compiler.
var ErrNoCompiler = errors.New("no C compiler here")

// SetClock makes the broker's clock go wrong by so much, in whole seconds, from the next Restart on.
func (b *Broker) SetClock(ctx context.Context, wrong time.Duration) error {
	if _, err := exec.LookPath("cc"); err != nil {
		return ErrNoCompiler
	}
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
