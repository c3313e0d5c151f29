package sink

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit/costs"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// What the way from a record of Kafka to an acknowledged write costs, for each record, with what the other end of the socket needs to
// find out what to answer. A bound is about a quarter above what it is now: who passes it has made the hot path dearer.
func TestCostOfBlindWrites(t *testing.T) {
	t.Parallel()
	costs.Guard(t, costs.Cost{Allocs: 0.02, Bytes: 20, Instructions: 6500}, func() func(int) {
		return applying(func(dst, key []byte, _ int) []byte {
			return resp.AppendCommandBytes(dst, []byte("SET"), key, bytes.Repeat([]byte("v"), 100))
		})
	})
}

func TestCostOfGuardedWrites(t *testing.T) {
	t.Parallel()
	costs.Guard(t, costs.Cost{Allocs: 0.02, Bytes: 20, Instructions: 12_500}, func() func(int) {
		return applying(func(dst, key []byte, _ int) []byte { return resp.AppendCommandBytes(dst, []byte("INCR"), key) })
	})
}

func TestCostOfMixedWrites(t *testing.T) {
	t.Parallel()
	costs.Guard(t, costs.Cost{Allocs: 0.02, Bytes: 50, Instructions: 10_000}, func() func(int) {
		return applying(func(dst, key []byte, i int) []byte {
			number := strconv.AppendInt(nil, int64(i), 10)
			switch i % 5 {
			case 0:
				return resp.AppendCommandBytes(dst, []byte("HSET"), key, number, number)
			case 1:
				return resp.AppendCommandBytes(dst, []byte("LPUSH"), key, number)
			case 2:
				return resp.AppendCommandBytes(dst, []byte("ZADD"), key, number, number)
			case 3:
				return resp.AppendCommandBytes(dst, []byte("PEXPIREAT"), key, []byte("1999999999999"))
			}
			return resp.AppendCommandBytes(dst, []byte("SET"), key, number, []byte("PXAT"), []byte("1999999999999"))
		})
	})
}

// applying is the worker of a partition between a queue of recorded records and a target that takes everything.
func applying(command func(dst, key []byte, i int) []byte) (run func(n int)) {
	const partitions, addr = 32, "127.0.0.1:1"
	s, err := New(Config{
		Name: "costs", Prefix: "costs", Kafka: kafka.Config{Brokers: []string{addr}}, Dialer: &topology.Dialer{}, Seeds: []string{addr},
		ExpiryHold: MinExpiryHold,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	s.topic, s.stats = kafka.Topic{Name: "costs.changes", Partitions: partitions}, []*partitionStat{{}}
	s.feed = newFeed(nil, s.topic.Name, 1<<30, 1<<20, nil)
	s.group = &group{s: s, lease: newLease(time.Hour)}
	s.group.lease.renew(time.Now())

	w := newWorker(s, 0)
	ctx := context.Background()
	w.soft, w.hard = ctx, ctx
	owner := make([]string, w.slots.Len())
	plan := startPlan{done: make([]int64, w.slots.Len()), generations: map[event.Shard]event.Generation{1: 1}}
	for i := range owner {
		owner[i], plan.done[i] = addr, noneDone
	}
	w.ownedBy(owner)
	w.written, w.present = map[slot.Slot]watermark{}, map[slot.Slot]bool{}
	nc := &agreeable{}
	nc.more.L = &nc.mu
	w.target.dialect = dialect{version: 700} // most are older than the newest, so each command is looked at
	c := &conn{addr: addr, nc: nc, out: make(chan net.Buffers, 1), written: make(chan struct{}), silence: time.Hour, rd: resp.NewReplyReader(&patientReader{nc, time.Hour}, resp.Config{})}
	go c.write() // ends with the process
	w.conns[addr] = c
	w.adopt(plan, nil)

	records := recordedWrites(w.slots, command)
	return func(n int) {
		w.queue.push(records[:n], 1<<30)
		records = records[n:]
		for {
			b, err := w.gather()
			if err == nil && b != nil {
				err = w.applyBatch(ctx, b)
			}
			if err != nil {
				panic(err)
			}
			if b == nil {
				return
			}
			b.reset(w.at, false)
		}
	}
}

// recordedWrites are those of one lane in a partition, each of one command, over all of its slots.
func recordedWrites(slots slot.Range, command func(dst, key []byte, i int) []byte) (records []*kgo.Record) {
	e := event.Event{Kind: event.Unit, Shard: 1, Generation: 1, CapturedMs: time.Now().UnixMilli(), Count: 1}
	for i := range costs.TotalN {
		e.Slot = slots.First + slot.Slot(i*7%slots.Len())
		e.Key = fmt.Appendf(nil, "{%s}:%d", slot.Tag(e.Slot), i)
		e.Commands = command(nil, e.Key, i)
		e.Prev, e.Begin = e.End, e.End
		e.End += event.Offset(len(e.Commands))
		records = append(records, &kgo.Record{Offset: int64(i), Key: codec.RecordKey(&e), Value: codec.AppendRaw(nil, &e)})
	}
	return records
}

// agreeable is the connection to a target that takes everything.
type agreeable struct {
	net.Conn

	mu      sync.Mutex
	more    sync.Cond
	answers []byte
	// Of the transaction that is open: what EXEC answers.
	open    bool
	queued  int
	effects []byte
}

func (a *agreeable) SetReadDeadline(time.Time) error  { return nil }
func (a *agreeable) SetWriteDeadline(time.Time) error { return nil }

func (a *agreeable) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.answers) == 0 {
		a.more.Wait()
	}
	n := copy(p, a.answers)
	a.answers = a.answers[:copy(a.answers, a.answers[n:])]
	return n, nil
}

// Write is given whole commands.
func (a *agreeable) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for rest := p; len(rest) > 0; {
		var name []byte
		name, rest = cutCommand(rest)
		a.answer(name)
	}
	a.more.Signal()
	return len(p), nil
}

func (a *agreeable) answer(name []byte) {
	effect := ":1\r\n"
	if name[0] == 'S' && len(name) == len("SET") {
		effect = answerOK
	}
	switch {
	case string(name) == "MULTI":
		a.answers = append(a.answers, answerOK...)
		a.open, a.queued, a.effects = true, 0, a.effects[:0]
	case string(name) == "EXEC":
		a.answers = append(strconv.AppendInt(append(a.answers, '*'), int64(a.queued), 10), "\r\n"...)
		a.answers = append(a.answers, a.effects...)
		a.open = false
	case a.open:
		a.queued++
		a.answers, a.effects = append(a.answers, answerQueued...), append(a.effects, effect...)
	default:
		a.answers = append(a.answers, effect...)
	}
}

// cutCommand returns the name of the first command, and what is behind it.
func cutCommand(b []byte) (name, rest []byte) {
	n, b := cutNumber(b)
	for i := range n {
		var size int
		size, b = cutNumber(b)
		if i == 0 {
			name = b[:size]
		}
		b = b[size+len("\r\n"):]
	}
	return name, b
}

// cutNumber reads "*3\r\n" or "$12\r\n".
func cutNumber(b []byte) (n int, rest []byte) {
	i := 1
	for ; b[i] != '\r'; i++ {
		n = 10*n + int(b[i]-'0')
	}
	return n, b[i+len("\r\n"):]
}
