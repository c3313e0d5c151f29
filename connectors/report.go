package connectors

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/source"
)

const (
	reportPoll = 500 * time.Millisecond
	// statusInterval is how often a snapshot that is under way is told of.
	statusInterval = 30 * time.Second
)

// report logs what changes: the stage of each shard, the state of each sink. While a snapshot is under way it logs how
// far each is, now and then; otherwise nothing.
func (r *Runner) report(stop <-chan struct{}) {
	tick := time.NewTicker(reportPoll)
	defer tick.Stop()
	stages := map[string]string{}
	last := time.Now()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		underWay := false
		all := r.Status()
		for i := range all {
			s := &all[i]
			log := r.log.With(slog.String("connector", s.Name))
			for _, sh := range s.Shards {
				underWay = underWay || sh.Stage == source.StageReceiving || sh.Stage == source.StageWaiting
				key := fmt.Sprintf("%s/%d", s.Name, sh.Shard)
				if stage := string(sh.Stage); stages[key] != stage {
					stages[key] = stage
					reportShard(log, sh)
				}
			}
			if s.Kind == KindSink && s.State == StateRunning {
				if state := SinkState(s.Sink); state != stages[s.Name] && state != "" {
					stages[s.Name] = state
					log.Info("sink is "+state, slog.Int64("lag", s.Sink.Lag)) //nolint:sloglint // one of a few words
				}
			}
		}
		if underWay && time.Since(last) > statusInterval {
			last = time.Now()
			for i := range all {
				r.log.Info("status", slog.String("connector", all[i].Name), slog.String("is", all[i].Line()))
			}
		}
	}
}

// reportShard logs one of the three phases that an operator waits for.
func reportShard(log *slog.Logger, sh source.Snapshot) {
	log = log.With(slog.Uint64("shard", uint64(sh.Shard)), slog.String("master", sh.Master))
	switch sh.Stage {
	case source.StageParked: // says so itself
	case source.StageWaiting:
		log.Info("waiting for the snapshot", slog.Uint64("generation", uint64(sh.Generation)+1))
	case source.StageReceiving:
		log.Info("snapshot begins", slog.Int64("bytes", sh.SnapshotSize))
	case source.StageStreaming:
		log.Info("streaming", slog.Uint64("entries", sh.Entries), slog.Int64("behind_bytes", sh.SpoolBytes))
	case source.StageStarting, source.StageConnecting:
		log.Debug("shard is "+string(sh.Stage), slog.String("err", sh.LastError)) //nolint:sloglint // one of two words
	}
}

// The states of a sink as a whole.
const (
	sinkStarting = "starting"
	sinkApplying = "applying"
	sinkUpToDate = "up to date"
	sinkSweeping = "sweeping"
	sinkWaiting  = "waiting"
)

// SinkState is what a sink as a whole is doing, "" before it has partitions.
func SinkState(s sink.Status) string {
	if len(s.Partitions) == 0 {
		return ""
	}
	state := sinkUpToDate
	for _, p := range s.Partitions {
		switch p.State {
		case sink.StateWaiting, sink.StateFailed:
			return sinkWaiting
		case sink.StateSweeping:
			state = sinkSweeping
		case sink.StateStarting:
			if state != sinkSweeping {
				state = sinkStarting
			}
		case sink.StateRunning:
			if p.Lag > 0 && state == sinkUpToDate {
				state = sinkApplying
			}
		case sink.StateIdle, sink.StateStopped:
		}
	}
	return state
}

// Percent of the snapshot that has arrived; false where there is none, or the master does not tell its size.
func Percent(sh source.Snapshot) (float64, bool) {
	if sh.Stage != source.StageReceiving || sh.SnapshotSize <= 0 {
		return 0, false
	}
	return 100 * float64(sh.SnapshotBytes) / float64(sh.SnapshotSize), true
}

// Line is the status in one line.
func (s *Status) Line() string {
	if s.Kind == KindSink {
		lag, running, all := lagOf(s.Sink)
		line := fmt.Sprintf("%s, %d of %d partitions, lag %d records, %d units applied", SinkState(s.Sink), running, all, lag, s.Sink.Units)
		if n := s.Sink.SkippedFunctions; n > 0 {
			line += fmt.Sprintf(", %d function commands skipped", n)
		}
		if n := s.Sink.Unsupported; n > 0 {
			line += fmt.Sprintf(", %d times the target lacked something", n)
		}
		if n := s.Sink.DeadLetters; n > 0 {
			line += fmt.Sprintf(", %d dead letters", n)
		}
		return line
	}
	shards := make([]string, len(s.Shards))
	for i, sh := range s.Shards {
		shards[i] = fmt.Sprintf("shard %d %s", sh.Shard, StageText(sh)) + NotCarriedText(sh)
	}
	return strings.Join(shards, "; ")
}

// NotCarriedText tells what of a shard is not in the log, "" if nothing is missing.
func NotCarriedText(sh source.Snapshot) (text string) {
	if sh.NotCarried > 0 {
		text += fmt.Sprintf(", %d messages and scripts not carried", sh.NotCarried)
	}
	if sh.SkippedAux > 0 {
		text += fmt.Sprintf(", %d pieces of modules' data skipped", sh.SkippedAux)
	}
	return text
}

// StageText is the stage of a shard with how far it is.
func StageText(sh source.Snapshot) string {
	if p, ok := Percent(sh); ok {
		return fmt.Sprintf("%s %.0f %%", sh.Stage, p)
	}
	if sh.Stage == source.StageReceiving {
		return fmt.Sprintf("%s %s", sh.Stage, Size(sh.SnapshotBytes))
	}
	return string(sh.Stage)
}

// Size in the unit that people read.
func Size(bytes int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	n, i := float64(bytes), 0
	for ; n >= 1024 && i < len(units)-1; i++ {
		n /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}
