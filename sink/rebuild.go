package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// rebuild brings a value to the target that is too large to be held: it is decoded as its chunks come, and built in parts
// under a staging key of its slot, which takes the key's place with the last of them.
//
// Each part is a guarded unit with the offset of the chunk that yielded it. Guarded units of a slot are applied in one
// transaction with the slot's checkpoint, so after a crash the checkpoint says exactly which parts the staging key has:
// reading begins again at the event's first chunk (its span), decoding is repeated, parts that were applied are skipped, and
// the staging key goes on growing where it was. Invariant: the parts are a function of the chunks, of the target's format
// and of the configuration.
//
//  1. chunks 0 to 7 are applied, the sink crashes
//  2. the next owner reads from chunk 0 on and decodes; the parts of chunks 0 to 7 are at or below the checkpoint
//  3. chunk 8 is applied to the staging key as it was left
//  4. its lane sends the event once more, cut otherwise: chunk 0 of another attempt. Its first part removes the staging key
//
// The decoder pulls and chunks are pushed, so it runs in a coroutine, which stops where the chunk ends. It lasts as long as
// the intake it belongs to, and runs only while somebody waits for it: nothing in here is concurrent.
type rebuild struct {
	event  event.Event // without its value; the key is its own
	offset int64       // of the chunk at hand
	record *kgo.Record // the chunk at hand
	stage  []byte
	// slot is whose checkpoint its parts write, db the database of the target they go into.
	slot slot.Slot
	db   uint32
	// ignored: nothing of it is for us.
	ignored bool

	piece []byte // what the decoder has not read of the chunk at hand
	last  bool   // no chunk follows
	parts int    // of the chunk at hand, so far

	dead *lack // it is to be a dead letter

	yield func(step) bool
	next  func() (step, bool)
	stop  func()
}

// step is what the coroutine has got to, with the commands made since the step before.
type step struct {
	kind     stepKind
	commands []byte
	count    int
	err      error
}

type stepKind int

const (
	stepPart   stepKind = iota // more of the chunk follows
	stepHungry                 // the chunk at hand has ended
	stepDone                   // the value has ended
)

// newRebuild begins with the front of a value, as its first chunk has it.
func newRebuild(v *values, e *event.Event) *rebuild {
	r := &rebuild{event: *e, piece: e.Value, stage: own.StagingKey(v.sink, uint64(e.Shard)+1, e.Slot)}
	r.event.Key, r.event.Value, r.event.Slots = bytes.Clone(e.Key), nil, nil
	r.event.ExpireAtMs = held(e.ExpireAtMs, v.holdMs, math.MaxInt64)
	r.next, r.stop = iter.Pull(func(yield func(step) bool) {
		r.yield = yield
		if s, ok := r.build(v); ok {
			yield(s)
		}
	})
	return r
}

// errStoppedBuild tells the decoder that nobody waits for it any more.
var errStoppedBuild = errors.New("rebuild is given up")

// build decodes the whole value and yields all parts but the last, which it returns.
func (r *rebuild) build(v *values) (step, bool) {
	f := rdb.FormatOf(int(r.event.RDBVersion))
	b := newBuilder(v, r.event.Key, r.stage, r.event.Type, f)
	err := b.fill(&chunkReader{r: r, b: b}, &r.event, f, func(commands []byte, n int) error {
		if !r.yield(step{commands: commands, count: n}) {
			return errStoppedBuild
		}
		return nil
	})
	if errors.Is(err, errStoppedBuild) {
		return step{}, false
	}
	if err != nil {
		return step{err: fmt.Errorf("rebuild value: %w", err)}, true
	}
	r.dead = b.dead
	commands, n := b.take()
	return step{kind: stepDone, commands: commands, count: n}, true
}

// chunkReader gives the decoder the bytes of the chunks. Where they end for now, what was made of them goes out as a part.
type chunkReader struct {
	r *rebuild
	b *builder
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.r.piece) == 0 {
		if c.r.last {
			return 0, io.EOF
		}
		commands, n := c.b.take()
		if !c.r.yield(step{kind: stepHungry, commands: commands, count: n}) {
			return 0, errStoppedBuild
		}
	}
	n := copy(p, c.r.piece)
	c.r.piece = c.r.piece[n:]
	return n, nil
}

// unlinkStages removes what values left behind whose other pieces will not be met: the partition starts behind them.
func (w *worker) unlinkStages(ctx context.Context, p startPlan) error {
	var runs []*run
	for i := range w.slots.Len() {
		s := w.slots.First + slot.Slot(i)
		args := [][]byte{[]byte("UNLINK"), own.StagingKey(w.s.cfg.Name, loadStage, s), own.StagingKey(w.s.cfg.Name, setStage, s)}
		for shard := range p.begins {
			args = append(args, own.StagingKey(w.s.cfg.Name, uint64(shard)+1, s))
		}
		runs = append(runs, &run{slot: s, units: []*unit{{
			offset: noneDone, slot: s, key: args[1], commands: resp.AppendCommandBytes(nil, args...), count: 1, blind: true,
		}}})
	}
	return w.apply(ctx, runs, p.offset)
}
