package connectors

import (
	"strings"
	"testing"

	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/source"
)

func TestTheStatusTellsWhatIsNotCarried(t *testing.T) {
	s := Status{Kind: KindSource, Shards: []source.Snapshot{{Shard: 1, Stage: source.StageStreaming, NotCarried: 3, SkippedAux: 1}, {Shard: 2, Stage: source.StageStreaming}}}
	line := s.Line()
	for _, want := range []string{"shard 1 streaming, 3 messages", "1 pieces of modules", "; shard 2 streaming"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q does not tell %q", line, want)
		}
	}
	if strings.HasSuffix(line, "carried") {
		t.Errorf("%q: nothing is missing of shard 2", line)
	}
	to := Status{Kind: KindSink, Sink: sink.Status{SkippedFunctions: 2, Unsupported: 3, DeadLetters: 1}}
	if line := to.Line(); !strings.Contains(line, "2 function commands skipped, 3 times the target lacked something, 1 dead letters") {
		t.Error(line)
	}
}
