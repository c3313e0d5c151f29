package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/redriver/redriver/connectors"
)

const (
	drawInterval = 500 * time.Millisecond
	defaultWidth = 100
)

// screen keeps some lines at the bottom of a terminal and lets the log pass above them.
type screen struct {
	mu    sync.Mutex
	w     io.Writer
	lines []string // as drawn
}

func newScreen(w io.Writer) *screen { return &screen{w: w} }

// Write is for the log.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	n, err := s.w.Write(p)
	s.paint()
	return n, err
}

func (s *screen) draw(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.lines = lines
	s.paint()
}

func (s *screen) clear() { s.draw(nil) }

func (s *screen) erase() {
	if len(s.lines) > 0 {
		_, _ = fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", len(s.lines))
	}
}

func (s *screen) paint() {
	width := defaultWidth
	if f, ok := s.w.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 1 {
			width = w
		}
	}
	for _, l := range s.lines {
		// A line that wraps would make erase miss one.
		say(s.w, "%s", l[:min(len(l), width-1)])
	}
}

// show draws until ctx ends.
func (s *screen) show(ctx context.Context, status func() []connectors.Status) {
	m := newMeter()
	tick := time.NewTicker(drawInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.draw(m.lines(now, status()))
		}
	}
}

// meter turns counters into rates.
type meter struct {
	at   time.Time
	last map[string]float64
	rate map[string]float64
}

func newMeter() *meter { return &meter{last: map[string]float64{}, rate: map[string]float64{}} }

// lines is one for each shard and one for each sink. What matters most stands within 80 columns.
func (m *meter) lines(now time.Time, all []connectors.Status) []string {
	elapsed := now.Sub(m.at)
	m.at = now
	var out []string
	for i := range all {
		s := &all[i]
		note := ""
		if s.State != connectors.StateRunning {
			note = "  " + string(s.State)
		}
		for _, sh := range s.Shards {
			name := fmt.Sprintf("%s/%d", s.Name, sh.Shard)
			line := fmt.Sprintf("%-18s %-14s %9s commands/s  spool %-9s", name, connectors.StageText(sh),
				m.perSecond(name+" commands", sh.Units, elapsed), connectors.Size(sh.SpoolBytes))
			if entries := m.perSecond(name+" entries", sh.Entries, elapsed); entries != "0" {
				line += "  " + entries + " entries/s"
			}
			line += connectors.NotCarriedText(sh)
			if sh.LastError != "" {
				line += "  " + oneLine(sh.LastError)
			}
			out = append(out, line+note)
		}
		if s.Kind == connectors.KindSource && len(s.Shards) == 0 {
			out = append(out, fmt.Sprintf("%-18s %s", s.Name, s.State))
		}
		if s.Kind == connectors.KindSink {
			rate := m.perSecond(s.Name, uint64(max(s.Sink.Units, 0)), elapsed)
			out = append(out, fmt.Sprintf("%-18s %-14s %9s applied/s   lag %s", s.Name, connectors.SinkState(s.Sink), rate, count(s.Sink.Lag))+note)
		}
	}
	return out
}

// smoothing of a rate: so much of the newest measurement.
const smoothing = 0.4

func (m *meter) perSecond(key string, counter uint64, elapsed time.Duration) string {
	n := float64(counter)
	last, known := m.last[key]
	m.last[key] = n
	if !known || elapsed <= 0 || n < last {
		return "0"
	}
	m.rate[key] += smoothing * ((n-last)/elapsed.Seconds() - m.rate[key])
	return count(int64(m.rate[key] + 0.5))
}

// count writes a number with its thousands apart.
func count[N int | int64 | uint64](n N) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
