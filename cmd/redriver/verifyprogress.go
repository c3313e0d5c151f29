package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/verify"
)

// verifyLines is how often progress is told where it cannot be drawn.
const verifyLines = 10 * time.Second

// verifyProgress shows how far a comparison is: a line that is drawn again and again on a terminal, else a line now and
// then.
type verifyProgress struct {
	w      io.Writer
	screen *screen // nil: no terminal
	quiet  bool

	mu    sync.Mutex
	shown time.Time
}

func (a *app) verifyProgress(quiet bool) *verifyProgress {
	p := &verifyProgress{w: a.stderr, quiet: quiet, shown: time.Now()}
	if f, ok := a.stderr.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		p.screen = newScreen(f)
		p.w = p.screen
	}
	return p
}

func (p *verifyProgress) progress(now verify.Progress) {
	if p.quiet {
		return
	}
	every := verifyLines
	if p.screen != nil {
		every = drawInterval
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.shown) < every {
		return
	}
	p.shown = time.Now()
	line := verifyLine(now)
	if p.screen != nil {
		p.screen.draw([]string{line})
	} else {
		say(p.w, "%s", line)
	}
}

func verifyLine(p verify.Progress) string {
	if p.Round > 1 {
		return fmt.Sprintf("round %d: %s differences", p.Round, count(p.Differences))
	}
	line := fmt.Sprintf("%s of about %s keys listed at both sides, %s compared, %s differences, %s moved",
		count(p.Scanned), count(p.Total), count(p.Compared), count(p.Differences), connectors.Size(p.Bytes))
	if p.Left > 0 {
		line += ", " + p.Left.Round(time.Second).String() + " left"
	}
	return line
}

func (p *verifyProgress) notice(text string) { say(p.w, "redriver: %s", text) }

func (p *verifyProgress) end() {
	if p.screen != nil {
		p.screen.clear()
	}
}
