package source

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// tellAfter is how long a lane waits for something before it says so, and how often it then does.
const tellAfter = 30 * time.Second

// waits tells of what a lane's session waits for, when it does not come.
type waits struct {
	log    *slog.Logger
	status *ShardStatus

	mu    sync.Mutex
	what  string // empty: for nothing
	since time.Time
	timer *time.Timer
}

// begin: from now on the session waits for what, and for nothing else.
func (w *waits) begin(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.what, w.since = what, time.Now()
	if w.timer == nil {
		w.timer = time.AfterFunc(tellAfter, w.tell) // ends with end
		return
	}
	w.timer.Reset(tellAfter)
}

// end: it has come, or is given up.
func (w *waits) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.what = ""
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *waits) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	since := time.Since(w.since).Round(time.Second)
	if w.what == "" || since < tellAfter {
		return // begun or ended since the timer went off
	}
	w.log.Warn("publishing stands still", slog.String("waits_for", w.what), slog.Duration("since", since))
	w.status.laneFailed(fmt.Errorf("publishing stands still, waiting for %s", w.what))
	w.timer.Reset(tellAfter)
}
