package proc

import "time"

// Usage is what a process has used so far. After its end CPU is exact; peak memory is that of the last sample before
// it, at most 250 ms old. (The kernel's own figure for a child that has ended counts the memory of its parent too,
// from before the exec.)
type Usage struct {
	CPU          time.Duration // user and system time
	RSSBytes     int64         // resident memory now, 0 after the end
	PeakRSSBytes int64         // largest resident memory so far
	Threads      int           // of the last sample
}

// Usage returns what the process has used so far, in total if it has ended. Its children are not counted.
func (p *Process) Usage() Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Running() {
		if now, err := readUsage(p.PID()); err == nil {
			now.PeakRSSBytes = max(now.PeakRSSBytes, p.last.PeakRSSBytes)
			now.CPU = max(now.CPU, p.last.CPU)
			p.last = now
		}
	}
	return p.last
}

// OpenFiles returns how many file descriptors the process has now, 0 after its end and where nobody tells.
func (p *Process) OpenFiles() int {
	if !p.Running() {
		return 0
	}
	return countFiles(p.PID())
}
