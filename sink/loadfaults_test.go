package sink

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/rdb"
)

// giantList is a plain list of so many MB, which do not compress.
func giantList(name string, mb int) sampleValue {
	rng, element := rand.NewChaCha8([32]byte{}), make([]byte, 1000)
	value := lengthOf(nil, mb*1000)
	for range mb * 1000 {
		_, _ = rng.Read(element) // never fails
		value = rdb.AppendText(value, element)
	}
	return sampleValue{name: name, payload: string(rdb.AppendPayload(nil, 1, value, 9)), typ: 1, format: rdb.FormatOf(9)}
}

// middle is where the reader of a large value waits, each time it comes there: it says so, and waits to be let go, until done.
type middle struct{ reached, goOn, done chan struct{} }

func (m *middle) wait() {
	for _, c := range []chan struct{}{m.reached, m.goOn} {
		select {
		case c <- struct{}{}:
		case <-m.done:
		}
	}
}

// giantRig has a log of one value of many MB with a small one behind it in its slot, and a sink that loads such values at once.
// It reads the value again at a broker that waits in the middle of it.
func giantRig(t *testing.T, mb int) (r *rig, cfg Config, all []sampleValue, at *middle) {
	w := testkit.New(t)
	fake := w.FakeKafka()
	at = &middle{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	fake.ControlKey(kmsg.Fetch.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		fetch := request.(*kmsg.FetchRequest)
		if fetch.SessionEpoch != -1 || len(fetch.Topics) == 0 {
			return nil, nil, false // of the sink's consumer
		}
		if offset := fetch.Topics[0].Partitions[0].FetchOffset; offset > int64(mb)/2 && offset <= int64(mb)*3/4 {
			fake.SleepControl(at.wait)
		}
		return nil, nil, false
	})
	r = &rig{
		TB: t, w: w, kafka: kafka.Config{Brokers: []string{fake.Addr()}}, prefix: "p", name: "t", partitions: 2,
		target: w.ClusterWith(redistest.Config{Version: "redis-7.0", Masters: 1}),
	}
	l := r.laneAlone()
	small := sampleValue{name: "{big}small", payload: string(rdb.AppendPayload(nil, 0, rdb.AppendText(nil, []byte("x")), 9)), format: rdb.FormatOf(9)}
	all = []sampleValue{giantList("big", mb), small}
	l.commit(l.begin)
	for _, v := range all {
		p, e := l.entry(v.name, v.payload)
		chunks := l.divide(e, 900_000)
		l.commit(func() { chunks(p, -1) })
	}
	l.commit(l.end)
	cfg = r.config()
	cfg.ExpiryHold, cfg.RebuildBytes, cfg.RestoreBytes = 0, 1000, 1<<30
	return r, cfg, all, at
}

// allow changes what the sink may do at the target.
func (r *rig) allow(rules ...any) {
	r.Helper()
	if err := r.target.Client().Do(r.Context(), append([]any{"ACL", "SETUSER", "default"}, rules...)...).Err(); err != nil {
		r.Fatal(err)
	}
}

// TestLargeValueMeetsATargetInTrouble: a value that is brought while it is read meets a target that is full, stands still or
// closes the connection amid it. It is there in the end, once, by the way that it was to come.
//
// Fault (sink): the target is full, stands still or closes its connections amid a value that is brought piece by piece. It is brought again.
func TestLargeValueMeetsATargetInTrouble(t *testing.T) {
	// amid waits until the target has a part of the value, and the sink has come to the middle.
	amid := func(r *rig, at *middle) {
		select {
		case <-at.reached:
		case <-time.After(30 * time.Second):
			r.Fatal("the sink does not read the value again")
		}
		m := r.target.Masters()[0].NewClient()
		defer m.Close()
		r.w.Eventually(30*time.Second, "a part of the value is at the target", func() error {
			if len(r.staged()) > 0 {
				return nil
			}
			list := m.ClientList(r.Context()).Val()
			for line := range strings.Lines(list) {
				_, text, _ := strings.Cut(line, " qbuf=")
				text, _, _ = strings.Cut(text, " ")
				if n, _ := strconv.Atoi(text); n > 1e6 {
					return nil
				}
			}
			return errors.New(list)
		})
	}
	for name, trouble := range map[string]func(r *rig, s *running, at *middle){
		"full": func(r *rig, s *running, at *middle) {
			close(at.done)
			r.troubled(s, "OOM")
			r.w.Eventually(30*time.Second, "it is tried again", func() error {
				if n := r.answered(r.target.Masters()[0], "OOM"); n < 3 {
					return fmt.Errorf("refused %d times", n)
				}
				return nil
			})
			r.set(r.target.Masters()[0], "maxmemory", "0")
		},
		"still": func(r *rig, s *running, at *middle) {
			amid(r, at)
			m := r.target.Masters()[0]
			if err := m.Pause(); err != nil {
				r.Fatal(err)
			}
			close(at.done)
			r.troubled(s, "i/o timeout")
			if err := m.Continue(); err != nil {
				r.Fatal(err)
			}
		},
		"closes connections": func(r *rig, _ *running, at *middle) {
			for range 2 {
				amid(r, at)
				r.target.Client().ClientKillByFilter(r.Context(), "TYPE", "normal", "SKIPME", "yes")
				<-at.goOn
			}
			close(at.done)
		},
	} {
		for way, atOnce := range map[string]bool{"at once": true, "in pieces": false} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				r, cfg, all, at := giantRig(t, 20)
				if !atOnce {
					r.allow("-restore")
				}
				switch name {
				case "full": // of that value, and of nothing else
					r.set(r.target.Masters()[0], "maxmemory", "12mb")
				case "still":
					cfg.ReplyTimeout = 2 * time.Second
				}
				s := r.start(cfg)
				trouble(r, s, at)
				r.waitApplied(s)
				r.checkBuilt(all, 0)
				r.noneStaged()
				if n := r.calls("rename"); n > 0 == atOnce {
					t.Errorf("%d values were built in pieces", n)
				}
				s.stop()
			})
		}
	}
}

// TestLargeValueThatIsRefusedIsNotPassedOver: a value that is brought while it is read, and that the target takes neither at
// once nor in pieces, stops the sink, also the next one, and stands in the watermark until it is there.
func TestLargeValueThatIsRefusedIsNotPassedOver(t *testing.T) {
	t.Parallel()
	r, cfg, all, at := giantRig(t, 5)
	close(at.done)
	refused := func() (all []int64) {
		for _, p := range []int32{0, 1} {
			r.changeWatermarks(p, func(m *watermark) { all = append(all, m.refused...) })
		}
		return all
	}
	r.allow("-restore", "-rpush")
	for range 2 {
		err := r.start(cfg).await()
		e := (*RefusedError)(nil)
		if !errors.As(err, &e) || e.Command != "RPUSH" || string(e.Key) != "big" || e.Exec {
			t.Fatalf("got %v", err)
		}
		if noted := refused(); len(noted) != 1 || noted[0] != e.Offset {
			t.Errorf("offset %d is refused, the watermarks say %d", e.Offset, noted)
		}
		if n := r.target.Client().Exists(t.Context(), "big", "{big}small").Val(); n != 0 {
			t.Errorf("%d keys are there", n)
		}
	}
	r.allow("+restore", "+rpush")
	s := r.start(cfg)
	r.waitApplied(s)
	r.checkBuilt(all, 0)
	r.noneStaged()
	s.stop()
	if noted := refused(); len(noted) != 0 {
		t.Errorf("it is there, and the watermarks still say %d", noted)
	}
}

// TestLargeValueWithoutRoomIsADeadLetter: a value that is not taken at once, and that no command can make, is a dead letter, once.
func TestLargeValueWithoutRoomIsADeadLetter(t *testing.T) {
	t.Parallel()
	r := newVersionRig(t, "redis-8.6")
	from := r.target.Client()
	for i := range 50 {
		if err := from.Do(t.Context(), "XADD", "made", "IDMP", "producer", fmt.Sprint("message", i), "*", "f", "v").Err(); err != nil {
			t.Fatal(err)
		}
	}
	payload := from.Dump(t.Context(), "made").Val()
	from.Del(t.Context(), "made")
	r.allow("-restore")
	l := r.laneAlone()
	l.commit(func() {
		l.begin()
		for _, name := range []string{"one", "two"} {
			p, e := l.entry(name, payload)
			l.send(p, e, func() int { return 300 }, -1)
		}
		l.end()
	})
	cfg := r.config()
	cfg.RebuildBytes, cfg.Unsupported = 1, UnsupportedDeadLetter
	s := r.start(cfg)
	r.waitApplied(s)
	if n := s.Status().DeadLetters; n != 2 {
		t.Errorf("%d dead letters, want 2", n)
	}
	if n := from.Exists(t.Context(), "one", "two").Val(); n != 0 {
		t.Errorf("%d of them are at the target", n)
	}
	r.noneStaged()
	s.stop()
	s = r.start(cfg)
	r.waitApplied(s)
	if n := s.Status().DeadLetters; n != 0 {
		t.Errorf("%d dead letters again", n)
	}
}
