package sim

import (
	"io"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A source that is asked to stop does so, though the broker has gone away with its registry's record: the client keeps
// such a record until a broker answers.
func TestSourceStopsWithoutItsBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, io.Discard)
		defer w.close()
		w.from = newDeployment(w.net, "m", 1, false, 1)
		defer w.from.close()
		gone := make(chan struct{})
		goes := sync.OnceFunc(func() {
			w.net.each(to(broker), (*wire).loseAnswers)
			_ = w.net.listeners[broker].Close()
			close(gone)
		})
		w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, When: func(kmsg.Request) bool {
			goes()
			return false
		}})
		w.startSource(filepath.Join(w.dir, "data"), 1)
		<-gone
		time.Sleep(time.Second)
		w.source.cancel()
		select {
		case <-w.source.done:
		case <-time.After(time.Minute):
			t.Error("it still runs after a minute")
			w.source.host.die()
		}
	})
}
