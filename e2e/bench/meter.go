package main

import (
	"sync"
	"time"

	"github.com/redriver/redriver/internal/testkit/proc"
)

// usage is what a group of processes used in a span of time.
type usage struct {
	cpu       time.Duration
	peakBytes int64
}

// meter measures the processes of a system from begin to end. A process that starts meanwhile counts from its start.
type meter struct {
	sys   system
	began time.Time
	base  map[*proc.Process]proc.Usage

	stop    chan struct{}
	stopped sync.WaitGroup
	mu      sync.Mutex
	peaks   map[*proc.Process]int64
}

// sampleInterval is short because the kernel's own peak is that of a whole life: peaks of a span are sampled, unless they
// are the highest of the life so far.
const sampleInterval = 50 * time.Millisecond

func beginMeter(sys system) *meter {
	m := &meter{sys: sys, began: time.Now(), base: map[*proc.Process]proc.Usage{}, stop: make(chan struct{}), peaks: map[*proc.Process]int64{}}
	for _, g := range sys.groups() {
		for _, p := range g.procs {
			m.base[p] = p.Usage()
		}
	}
	m.stopped.Go(m.sample) // ends with end
	return m
}

func (m *meter) sample() {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		m.look()
		select {
		case <-m.stop:
			return
		case <-ticker.C:
		}
	}
}

func (m *meter) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.sys.groups() {
		for _, p := range g.procs {
			u := p.Usage()
			m.peaks[p] = max(m.peaks[p], u.RSSBytes)
			if u.PeakRSSBytes > m.base[p].PeakRSSBytes {
				m.peaks[p] = max(m.peaks[p], u.PeakRSSBytes)
			}
		}
	}
}

// end returns what each group has used, by name, and how long that was. It is to be called once.
func (m *meter) end() (map[string]usage, time.Duration) {
	took := time.Since(m.began)
	close(m.stop)
	m.stopped.Wait()
	m.look()
	all := map[string]usage{}
	for _, g := range m.sys.groups() {
		var sum usage
		for _, p := range g.procs {
			sum.cpu += p.Usage().CPU - m.base[p].CPU
			sum.peakBytes += m.peaks[p]
		}
		all[g.name] = sum
	}
	return all, took
}
