package sink

import (
	"log/slog"
	"strings"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// UnsupportedPolicy says what happens with what the source has and the target cannot have.
type UnsupportedPolicy string

// The policies for what a target lacks.
const (
	// UnsupportedStop stops with an error that names the key. It is the default.
	UnsupportedStop UnsupportedPolicy = "stop"
	// UnsupportedSkip leaves out the value, or the command.
	UnsupportedSkip UnsupportedPolicy = "skip"
	// UnsupportedKeep keeps the value without what the target lacks: hash fields without their expiry, for instance.
	UnsupportedKeep UnsupportedPolicy = "keep"
	// UnsupportedDeadLetter is UnsupportedSkip, and the record goes into the topic <prefix>.dead: see deadletter.go.
	UnsupportedDeadLetter UnsupportedPolicy = "dead-letter"
)

// newValues is what this partition's values are made with for the nodes it has now.
func (w *worker) newValues() *values {
	return &values{
		sink: w.s.cfg.Name, holdMs: w.s.cfg.ExpiryHold.Milliseconds(), target: w.target, policy: w.s.cfg.Unsupported,
		rebuildBytes: w.s.cfg.RebuildBytes, restoreBytes: w.s.cfg.RestoreBytes, note: w.noteUnsupported, probe: w.probe, staged: w.staged,
	}
}

// noteUnsupported counts what is left out, and logs the first of each kind.
func (w *worker) noteUnsupported(what string, key []byte) {
	w.stat.unsupported.Add(1)
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.unsupported == nil {
		w.s.unsupported = map[string]bool{}
	}
	if w.s.unsupported[what] {
		return
	}
	w.s.unsupported[what] = true
	w.log.Warn("the target cannot hold all that the source has: it is left out and counted",
		slog.String("lacks", what), slog.String("target", w.target.String()), slog.String("policy", string(w.s.cfg.Unsupported)),
		slog.String("first_key", shownKey(key)))
}

// probeStage is the number of the staging key that a payload is tried under: none of a shard's.
const probeStage = 1 << 33

// probe asks the owner of a slot whether it loads a payload. Nothing else is under way: a batch is gathered when all answers
// of the one before are there.
func (w *worker) probe(s slot.Slot, payload []byte) (takes bool, err error) {
	key := own.StagingKey(w.s.cfg.Name, probeStage, s)
	err = w.ask(s, func(resp.Reply) error { return nil }, []byte("RESTORE"), key, []byte("0"), payload, []byte("REPLACE"))
	if err != nil {
		if strings.Contains(err.Error(), "Bad data format") {
			return false, nil
		}
		return false, err
	}
	return true, w.ask(s, func(resp.Reply) error { return nil }, []byte("UNLINK"), key)
}
