package source

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit/costs"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/source/spool"
)

// What the way from the bytes of the stream to a record for Kafka costs, for each command. A bound is about a quarter above what it
// is now: who passes it has made the hot path dearer.
func TestCostOfSets(t *testing.T) {
	t.Parallel()
	costs.Guard(t, costs.Cost{Allocs: 0.1, Bytes: 20, Instructions: 4000}, func() func(int) { return publishing(setCommand) })
}

func TestCostOfMixedCommands(t *testing.T) {
	t.Parallel()
	costs.Guard(t, costs.Cost{Allocs: 0.1, Bytes: 20, Instructions: 4800}, func() func(int) { return publishing(mixedCommand) })
}

var hundredBytes = bytes.Repeat([]byte("0123456789"), 10)

func setCommand(dst []byte, i int) []byte {
	return resp.AppendCommandBytes(dst, []byte("SET"), fmt.Appendf(nil, "key:%d", i), hundredBytes)
}

func mixedCommand(dst []byte, i int) []byte {
	key, n := fmt.Appendf(nil, "key:%d", i), strconv.AppendInt(nil, int64(i), 10)
	switch i % 5 {
	case 0:
		return resp.AppendCommandBytes(dst, []byte("HSET"), key, n, hundredBytes)
	case 1:
		return resp.AppendCommandBytes(dst, []byte("INCR"), key)
	case 2:
		return resp.AppendCommandBytes(dst, []byte("ZADD"), key, n, n)
	case 3:
		return resp.AppendCommandBytes(dst, []byte("PEXPIREAT"), key, []byte("1999999999999"))
	}
	dst = resp.AppendCommand(dst, "MULTI")
	dst = resp.AppendCommandBytes(dst, []byte("LPUSH"), key, n)
	dst = resp.AppendCommandBytes(dst, []byte("SADD"), key, n)
	return resp.AppendCommand(dst, "EXEC")
}

// publishing is a lane without link, spool and Kafka: the recorded stream is in memory, and the records go nowhere, at once.
func publishing(command func([]byte, int) []byte) (run func(n int)) {
	const partitions = 32
	stream := &recorded{}
	for i := range costs.TotalN {
		stream.bytes = command(stream.bytes, i)
	}
	reader := newUnitReader(stream, 0, defaultMaxUnitBytes)
	in := interpreter{scripts: &scripts{}}
	made := 0
	em := emitter{
		topic: "costs.changes", partitions: partitions, maxValue: 1 << 20, marks: make([]event.Mark, partitions),
		arena:   arena{pieces: &sync.Pool{}, bytes: 1 << 20, settle: func(*kgo.Record, error) { made++ }},
		produce: func(r *kgo.Record, settle promise, _ []byte, _ bool) { settle(r, nil) },
	}
	em.begin(1, 1, event.ReplID{})
	em.tick()
	return func(n int) {
		for before := made; made < before+n; {
			u, err := reader.next()
			if err != nil {
				panic(err)
			}
			m, err := in.interpret(u)
			if err != nil {
				panic(err)
			}
			em.unit(u, m.parts)
		}
	}
}

// recorded is a stream in memory, which arrives in pieces.
type recorded struct {
	bytes []byte
	empty bool
}

const pieceOfStream = 16 << 10

func (r *recorded) Read(p []byte) (int, error) {
	if r.empty = !r.empty; !r.empty || len(r.bytes) == 0 {
		return 0, spool.ErrEmpty
	}
	n := copy(p, r.bytes[:min(len(r.bytes), pieceOfStream)])
	r.bytes = r.bytes[n:]
	return n, nil
}

func (r *recorded) Stamp() spool.Stamp { return spool.Stamp{CapturedMs: 1, SourceMs: 1} }

func (r *recorded) Place() spool.Place { return spool.Place{} }
