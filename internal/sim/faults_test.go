package sim

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// faultTime is how long faults and writes go on.
const faultTime = 6 * time.Second

// fault is something bad that is over when do returns, or with the faults.
type fault struct {
	name string
	do   func(w *world, r *rand.Rand)
}

// sourceFaults plays faults of the seed, one after the other, until faultTime is over.
func (w *world) sourceFaults(partitions int32) {
	r := w.rng(3)
	kinds := []fault{
		{"cut links", cutLinks},
		{"cut links", cutLinks},
		{"cut broker", cutBroker},
		{"cut broker", cutBroker},
		{"lose answers", loseAnswers},
		{"broker errors", brokerErrors},
		{"broker errors", brokerErrors},
		{"trouble with the master", troubleWithMaster},
		{"trouble with the broker", troubleWithBroker},
		{"fail over", failOver},
		{"fail over", failOver},
		{"forget backlog", forgetBacklog},
		{"restart master", restartMaster},
		{"refuse", refuseAll},
		{"flush", flushMaster},
		{"restart source", func(w *world, _ *rand.Rand) {
			w.stopSource()
			w.startSource(w.source.dir, partitions)
		}},
		{"crash source", func(w *world, r *rand.Rand) { w.restartCrashed(r, partitions) }},
		{"crash source", func(w *world, r *rand.Rand) { w.restartCrashed(r, partitions) }},
	}
	// A seed has few kinds of faults: too many hide each other.
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	w.play(kinds[:1+r.IntN(4)], r)
}

func (w *world) play(kinds []fault, r *rand.Rand) {
	began := time.Now()
	w.net.setPlan(stormy(w.rng(4)))
	for {
		time.Sleep(time.Duration(r.Int64N(int64(faultTime) / 4)))
		if time.Since(began) > faultTime {
			break
		}
		f := kinds[r.IntN(len(kinds))]
		w.log.Info("FAULT", slog.String("kind", f.name))
		f.do(w, r)
	}
	w.log.Info("FAULTS ARE OVER")
	w.net.setPlan(clearWeather)
	// What was broken in silence stays so until somebody has waited long enough; and what was only slow is so for good.
	w.net.cut(func(c *wire) bool { return c.up.slow() })
}

// stormy decides the weather of each connection: by what is dialled, and the how manieth such connection it is.
func stormy(r *rand.Rand) func(from, to string) weather {
	often := among(r, 0, 0, 10, 30) // percent of connections that meet trouble
	latency := among(r, 0, 100*time.Microsecond, time.Millisecond, 20*time.Millisecond)
	chopped := among(r, 0, 0, 0, 1, 7, 1000)
	salt := r.Uint64()
	count := map[string]uint64{}
	return func(from, to string) weather {
		count[from+to]++
		rc := rand.New(rand.NewPCG(salt, hash(from+to)+count[from+to]))
		w := weather{latency: latency, piece: chopped}
		if chopped > 0 && rc.IntN(4) == 0 {
			w.perByte = among(rc, 0, time.Microsecond, 10*time.Microsecond)
		}
		for _, t := range []*trouble{&w.up, &w.down} {
			if rc.IntN(100) < often {
				*t = trouble{kind: among(rc, cut, cut, silent, delayed), after: rc.IntN(among(rc, 100, 1000, 10_000, 100_000)), late: time.Duration(rc.IntN(30)) * time.Second}
			}
		}
		return w
	}
}

func hash(s string) (h uint64) {
	for _, b := range []byte(s) {
		h = h*1099511628211 + uint64(b)
	}
	return h
}

func cutLinks(w *world, r *rand.Rand) {
	master := among(r, w.from.masters()...)
	w.net.cut(to(master.addr))
}

// troubleAhead has every connection to an address meet trouble soon.
func troubleAhead(w *world, r *rand.Rand, address string) {
	up, kind := r.IntN(3) > 0, among(r, cut, silent, delayed, delayed)
	late := time.Duration(1+r.IntN(12)) * time.Second
	after := among(r, 10, 100, 1000, 10_000)
	w.net.each(to(address), func(wi *wire) { wi.ahead(up, trouble{kind: kind, after: r.IntN(after), late: late}) })
}

func troubleWithMaster(w *world, r *rand.Rand) {
	troubleAhead(w, r, among(r, w.from.masters()...).addr)
}

func troubleWithBroker(w *world, r *rand.Rand) { troubleAhead(w, r, broker) }

func cutBroker(w *world, _ *rand.Rand) { w.net.cut(to(broker)) }

// loseAnswers has the broker carry out a request of a kind, and nobody hears of it.
func loseAnswers(w *world, r *rand.Rand) {
	key := among(r, kmsg.EndTxn, kmsg.EndTxn, kmsg.EndTxn, kmsg.Produce, kmsg.InitProducerID)
	left := 1 + r.IntN(2)
	h := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Count: -1, Observe: true, When: func(kmsg.Request) bool {
		if left--; left >= 0 {
			w.net.each(to(broker), (*wire).loseAnswers)
		}
		return false
	}})
	time.Sleep(time.Second)
	h.Remove()
}

func brokerErrors(w *world, r *rand.Rand) {
	f := among(r,
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.KafkaStorageError},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidProducerEpoch},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed},
		kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.RequestTimedOut},
		kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.CoordinatorLoadInProgress},
		kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ConcurrentTransactions},
		kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.NotCoordinator},
		kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.TransactionAbortable},
		kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError},
		kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorNotAvailable},
		kfake.Fault{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Err: kerr.NotCoordinator},
		kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.NotLeaderForPartition},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.LeaderNotAvailable},
	)
	f.Count = among(r, 1, 3, -1)
	h := w.kafka.Fault(f)
	time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
	h.Remove()
}

func failOver(w *world, r *rand.Rand) {
	w.excused = true
	w.from.failOver(r.IntN(len(w.from.shards)), among(r, 0, 0, 1, 5, 40), time.Duration(among(r, 0, 0, 500, 2000))*time.Millisecond)
}

// forgetBacklog has the master write past its backlog while nobody is connected.
func forgetBacklog(w *world, r *rand.Rand) {
	w.excused = true
	for _, m := range w.from.masters() {
		w.net.cut(to(m.addr))
		m.forget()
	}
}

func restartMaster(w *world, r *rand.Rand) {
	w.excused = true
	w.from.restart(r.IntN(len(w.from.shards)), time.Duration(r.IntN(1500))*time.Millisecond)
}

func refuseAll(w *world, r *rand.Rand) {
	m := among(r, w.from.masters()...)
	m.mu.Lock()
	m.refuse = among(r, "LOADING Redis is loading the dataset in memory", "CLUSTERDOWN The cluster is down", "MASTERDOWN Link with MASTER is down")
	m.mu.Unlock()
	w.net.cut(to(m.addr))
	time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
	m.mu.Lock()
	m.refuse = ""
	m.mu.Unlock()
}

func flushMaster(w *world, r *rand.Rand) {
	if r.IntN(3) == 0 {
		among(r, w.from.masters()...).write(words("FLUSHALL"))
	}
}

// restartCrashed kills the source, and starts it again with its spool or without.
func (w *world) restartCrashed(r *rand.Rand, partitions int32) {
	w.crashes++
	left := w.crashSource(fmt.Sprintf("left%d", w.crashes))
	if r.IntN(3) == 0 {
		left = filepath.Join(w.dir, fmt.Sprintf("empty%d", w.crashes))
		if err := os.Mkdir(left, 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
	time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
	w.startSource(left, partitions)
}
