package sink

import (
	"bytes"
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
)

// A collection of a snapshot that is too large to be held, and not too large for the target to load it at once, is brought
// there as a large unit is: its chunks are passed over, then read again, and go out as one RESTORE while they are read, in a
// transaction with the slot's checkpoint. A server that loads a collection knows how many elements it will have. One that is
// given them by commands does not: its tables grow, everything in them is moved each time, and each element is looked for
// before it is added: pieces take the target twice the CPU (docs/large.md). But a RESTORE is one pause.
//
// RESTORE begins with its length, and a value's is known only with its last chunk. So its first one decides, by what its
// elements are like and how many there will be. A value that turns out to be more than twice as long as allowed is built in
// pieces in the end, while nothing else of its partition goes on.

// loads tells whether the value that begins with this chunk is to be loaded at once. It depends on the chunk, the target and
// the configuration alone.
func (in *intake) loads(c *codec.Chunk, e *event.Event) bool {
	v, f := in.values, rdb.FormatOf(int(e.RDBVersion))
	if !v.asItIs(e.Type, f) {
		return false
	}
	size, known := rdb.EstimateOf(e.Type, e.Value, f)
	if c.Count > 0 {
		size.Bytes = int64(c.Count) * int64(len(c.Piece))
	}
	return known && size.Bytes > largeUnitFactor*int64(v.rebuildBytes) && max(size.Bytes, size.Parts*loadPartBytes) <= int64(v.restoreBytes)
}

// loadPartBytes is what a part of a value counts at least: it takes that long, 0.5 microseconds, however small it is.
const loadPartBytes = 64

// openLoad opens the value that begins with this chunk as one to be loaded at once.
func (in *intake) openLoad(r *kgo.Record, c *codec.Chunk, e *event.Event) {
	l := &largeUnit{
		event: *e, bytes: int64(len(e.Value)), slot: in.shape.slotOf(e.Slot),
		chunks: chunkSpan{first: r.Offset, shard: c.Shard, attempt: c.Attempt},
	}
	l.event.Key, l.event.Value, l.event.Slots = bytes.Clone(e.Key), nil, nil
	l.event.ExpireAtMs = held(e.ExpireAtMs, in.values.holdMs, math.MaxInt64)
	l.event.RDBVersion = uint16(rdb.MinVersion(e.Type, rdb.FormatOf(int(e.RDBVersion))))
	put(&in.larges, c.Shard, l)
}

func (l *largeUnit) isValue() bool { return l.event.Kind == event.Entry }

var errLonger = errors.New("value is longer than it was when it was read before")

// maxLoadLost connections are lost before a value is taken to be the cause: a server closes one that sends a longer argument
// than its proto-max-bulk-len allows, and what it says about that may be lost with it.
const maxLoadLost = 3

// bring sends a value while it is read.
func (p *playback) bring(ctx context.Context) error {
	if p.l.bytes > 2*int64(p.w.in.values.restoreBytes) || p.l.lost >= maxLoadLost {
		return p.build(ctx)
	}
	return p.load(ctx)
}

// build builds a value under its staging key. In the database of our own keys that is outside of the transaction, which only
// puts it in the key's place: nobody else is to notice the staging key, and the next attempt begins by removing it.
func (p *playback) build(ctx context.Context) error {
	e, home := &p.l.event, p.w.shape.atHome(p.target())
	put := p.queue
	if home {
		put = func(ctx context.Context, commands []byte, n int) error { return p.send(ctx, net.Buffers{commands}, n) }
	} else if err := p.enter(ctx); err != nil {
		return err
	}
	b := newBuilder(p.w.in.values, e.Key, p.stage(), e.Type, rdb.FormatOf(int(e.RDBVersion)))
	if err := p.fill(b, func(commands []byte, n int) error { return put(ctx, commands, n) }); err != nil {
		return err
	}
	if home {
		if err := p.enter(ctx); err != nil {
			return err
		}
	}
	commands, n := b.take()
	return p.queue(ctx, commands, n)
}

// fill has a builder make all of the value. What is left in it is the end.
func (p *playback) fill(b *builder, put func(commands []byte, n int) error) error {
	e, src := &p.l.event, &keptError{r: p.in.r}
	d := rdb.NewDecoder(rdb.DecoderConfig{PieceBytes: stringPieceBytes})
	d.Reset(e.Type, src, rdb.FormatOf(int(e.RDBVersion)))
	for {
		el, err := d.Next()
		if errors.Is(err, io.EOF) {
			b.finish(e.ExpireAtMs)
			return nil
		}
		if err == nil {
			err = b.add(el)
		}
		if errors.Is(err, errLeftOut) {
			b.discard()
			p.dead = b.v.takeDead()
			_, err := io.Copy(io.Discard, p.in.r)
			return err
		}
		if src.err != nil {
			return src.err
		}
		if err != nil {
			return p.fault(fmt.Errorf("build value: %w", err))
		}
		if b.full() {
			if err := put(b.take()); err != nil {
				return err
			}
		}
	}
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

func (p *playback) stage() []byte {
	return own.StagingKey(p.w.s.cfg.Name, uint64(p.l.event.Shard)+1, p.l.event.Slot)
}

// load sends one RESTORE. The staging key goes too: an earlier configuration may have begun to build there.
func (p *playback) load(ctx context.Context) error {
	e := &p.l.event
	if err := p.enter(ctx); err != nil {
		return err
	}
	if err := p.queue(ctx, resp.AppendCommandBytes(nil, []byte("UNLINK"), p.stage()), 1); err != nil {
		return err
	}
	head := append(appendRestoreHead(nil, e, int(p.l.bytes)), e.Type)
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
		p.sent++
		within = false
		return p.send(ctx, net.Buffers{appendRestoreTail(b, e)}, 1)
	})
	if err != nil && within {
		p.breakOff()
	}
	return err
}
