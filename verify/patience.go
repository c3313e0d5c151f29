package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// patiently repeats fn while a side cannot answer for a moment.
func (c *comparison) patiently(ctx context.Context, fn func() error) error {
	var since time.Time
	pause := 100 * time.Millisecond
	for {
		err := fn()
		if err == nil || !passing(err) || ctx.Err() != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		if since.IsZero() {
			since = time.Now()
			c.notice(fmt.Sprintf("waiting: %v", err))
		}
		if time.Since(since) > c.opt.Patience {
			return fmt.Errorf("%w (given up after %s; the comparison can be started again)", err, c.opt.Patience)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, 2*time.Second)
		if err := c.lookAgain(ctx); err != nil && !passing(err) {
			return err
		}
	}
}

// notice tells a person something, the same thing not more often than in noticeInterval.
func (c *comparison) notice(text string) {
	const noticeInterval = 10 * time.Second
	c.noticeMu.Lock()
	defer c.noticeMu.Unlock()
	if at, ok := c.noticed[text]; ok && time.Since(at) < noticeInterval {
		return
	}
	maps.DeleteFunc(c.noticed, func(_ string, at time.Time) bool { return time.Since(at) > noticeInterval })
	c.noticed[text] = time.Now()
	c.opt.Notice(text)
}

// lookAgain finds the masters anew, not more often than each quarter of a second.
func (c *comparison) lookAgain(ctx context.Context) error {
	c.lookMu.Lock()
	defer c.lookMu.Unlock()
	if time.Since(c.lookedAt) < 250*time.Millisecond {
		return nil
	}
	defer func() { c.lookedAt = time.Now() }()
	return errors.Join(c.from.look(ctx), c.to.look(ctx))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
