package sink

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// A collection of a snapshot that is too large to be held, and not too large for the target to load it at once, is passed over
// like a large unit of the stream: its chunks are read again when the last one is there, and go out as one RESTORE while they
// are read. That is blind, as that of a small value is: it is done again after a crash, unless a watermark vouches for it. A server
// that loads a collection knows how many elements it will have. One that is given them by commands does not: its tables grow,
// everything in them is moved each time, and each element is looked for before it is added. Pieces take the target twice the
// CPU (docs/large.md), but a RESTORE is one pause.
//
// RESTORE begins with its length, and a value's is known only with its last chunk. So its first one decides, by what its
// elements are like and how many there will be. A value that turns out to be more than twice as long as allowed, and one
// that the target does not take at once, is built in pieces in the end, while nothing else of its partition goes on.
//
// Chunks that are passed over count as done, and so do those that are built at once (rebuild.go). What was decided may be
// decided otherwise behind a restart, since the configuration or the target is another. So a value of which chunks are done
// already is asked for at the target:
//
//  1. chunks 0 to 7 are passed over, a watermark vouches for all before chunk 8, the sink ends
//  2. the next one may not load values of that size: it would build chunks 8 to 11, and take that for the whole
//
// If its staging key is there it goes on being built. If not, all of it is passed over, and read again.

// passesOver tells whether the value that begins with this chunk is passed over, and is to be built in pieces then.
func (in *intake) passesOver(r *kgo.Record, c *codec.Chunk, e *event.Event, to uint32) (over, pieces bool, err error) {
	if !in.shape.atHome(to) {
		return false, false, nil
	}
	loads := in.loads(c, e)
	if in.values.staged == nil || !in.isDone(in.shape.slotOf(e.Slot), r.Offset, giveUpPart) {
		return loads, false, nil
	}
	staged, err := in.values.staged(e.Slot, own.StagingKey(in.values.sink, uint64(e.Shard)+1, e.Slot))
	if err != nil {
		return false, false, &probeError{err}
	}
	return !staged, !loads, nil
}

// loads tells whether the target may load the value that begins with this chunk at once.
func (in *intake) loads(c *codec.Chunk, e *event.Event) bool {
	v, f := in.values, rdb.FormatOf(int(e.RDBVersion))
	if !v.asItIs(e.Type, f) {
		return false
	}
	size, known := rdb.EstimateOf(e.Type, e.Value, f)
	if c.Count > 0 {
		size.Bytes = max(size.Bytes, int64(c.Count)*int64(len(c.Piece)))
	}
	most := int64(v.restoreBytes)
	return known && size.Bytes > largeUnitFactor*int64(v.rebuildBytes) && size.Bytes <= most && size.Parts <= most/loadPartBytes
}

// loadPartBytes is what a part of a value counts at least: it takes that long, 0.5 microseconds, however small it is.
const loadPartBytes = 64

// openLoad opens the value that begins with this chunk as one that is passed over.
func (in *intake) openLoad(r *kgo.Record, c *codec.Chunk, e *event.Event, pieces bool) {
	l := &largeUnit{
		event: *e, bytes: int64(len(e.Value)), slot: in.shape.slotOf(e.Slot), pieces: pieces,
		chunks: chunkSpan{first: r.Offset, shard: c.Shard, attempt: c.Attempt},
	}
	l.event.Key, l.event.Value, l.event.Slots = bytes.Clone(e.Key), nil, nil
	l.event.ExpireAtMs = held(e.ExpireAtMs, in.values.holdMs, math.MaxInt64)
	put(&in.larges, c.Shard, l)
}

func (l *largeUnit) isValue() bool { return l.event.Kind == event.Entry }

// staged asks the owner of a slot whether a staging key is there.
func (w *worker) staged(s slot.Slot, stage []byte) (there bool, err error) {
	err = w.ask(s, func(r resp.Reply) error {
		there = r.Int == 1
		return nil
	}, []byte("EXISTS"), stage)
	return there, err
}

var errLonger = errors.New("value is longer than it was when it was read before")

// maxLoadLost connections are lost before a value is taken to be the cause: a server closes one that sends a longer argument
// than its proto-max-bulk-len allows, and what it says about that may be lost with it.
const maxLoadLost = 3

// loadStage is the number of the staging key that such a value is built under: none of a shard's, since what lies there is no
// part of a rebuild.
const loadStage = 1<<33 + 2

// fallsBack notes what a value has met, and tells whether it is to be brought again at once, in pieces.
func (l *largeUnit) fallsBack(err error) bool {
	if !l.isValue() || l.pieces {
		return false
	}
	if errors.Is(err, errLostConn) {
		l.lost++
		l.pieces = l.lost >= maxLoadLost // once there is a connection
		return false
	}
	_, l.pieces = errors.AsType[*RefusedError](err)
	return l.pieces
}

// bring sends a value while it is read.
func (p *playback) bring(ctx context.Context) error {
	if !p.l.pieces {
		return p.load(ctx)
	}
	if err := p.build(ctx); err != nil {
		return err
	}
	return p.finish(ctx)
}

// build builds a value under a staging key, outside of the transaction that puts it in the key's place: nobody else notices the
// staging key, and the next attempt begins by removing it.
func (p *playback) build(ctx context.Context) error {
	e := &p.l.event
	stage := own.StagingKey(p.w.s.cfg.Name, loadStage, e.Slot)
	f := rdb.FormatOf(int(e.RDBVersion))
	b := newBuilder(p.w.in.values, e.Key, stage, e.Type, f)
	src := &keptError{r: p.in.r}
	var unsent error
	err := b.fill(src, e, f, func(commands []byte, n int) error {
		unsent = p.send(ctx, net.Buffers{commands}, n)
		return unsent
	})
	if passing := cmp.Or(src.err, unsent); passing != nil {
		return passing
	}
	if err != nil {
		return p.fault(fmt.Errorf("build value: %w", err))
	}
	p.dead = b.dead
	if err := p.enter(ctx); err != nil {
		return err
	}
	commands, n := b.take()
	return p.queue(ctx, commands, n)
}

// keptError is a reader whose error is known to be its own.
type keptError struct {
	r   io.Reader
	err error
}

func (k *keptError) Read(b []byte) (int, error) {
	n, err := k.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		k.err = err
	}
	return n, err
}

// load sends one RESTORE.
func (p *playback) load(ctx context.Context) error {
	e := p.l.event
	e.RDBVersion = uint16(rdb.MinVersion(e.Type, rdb.FormatOf(int(e.RDBVersion))))
	head := append(appendRestoreHead(nil, &e, int(p.l.bytes)), e.Type)
	sum, within := rdb.CRC64(0, []byte{e.Type}), true
	err := p.eachPiece(p.l.bytes, func(at int64, piece []byte) error {
		sum = rdb.CRC64(sum, piece)
		b := make([]byte, 0, len(head)+len(piece)+restoreOverhead) // the connection still has the last one
		if at == 0 {
			b = append(b, head...)
		}
		if b = append(b, piece...); at+int64(len(piece)) < p.l.bytes {
			return p.give(ctx, net.Buffers{b})
		}
		switch _, err := p.in.r.Peek(1); {
		case err == nil:
			return p.fault(errLonger)
		case !errors.Is(err, io.EOF):
			return err
		}
		version := binary.LittleEndian.AppendUint16(nil, e.RDBVersion)
		b = binary.LittleEndian.AppendUint64(append(b, version...), rdb.CRC64(sum, version))
		within = false
		return p.send(ctx, net.Buffers{appendRestoreTail(b, &e)}, 1)
	})
	if err != nil && within {
		p.breakOff()
	}
	return err
}
