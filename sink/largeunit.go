package sink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// A unit of the stream that is larger than largeUnitFactor times Config.RebuildBytes is never held. Its chunks are passed over as they arrive, so that
// others go on, and read from the log again when the last one is there, between two batches. Then its commands go to the
// target as they come out of the log, in one MULTI ... EXEC with the slot's checkpoint: the target queues them and carries
// them out at once, so that nobody sees a part. Commands of many elements are split, and a large string is built under a
// staging key first (playback).
//
// It is always guarded, so an unknown outcome is settled by the checkpoint. (A value that is loaded is not, see load.go.)
//
// Reading it again takes a client of its own: a unit has to be large enough for that not to matter.
const largeUnitFactor = 8

// largeUnit is a unit, or a value (load.go), whose chunks are passed over.
type largeUnit struct {
	event  event.Event // without its commands, and its value; the key is its own
	chunks chunkSpan
	bytes  int64     // of the value
	pieces bool      // it is not to be loaded at once
	lost   int       // connections, while it was loaded
	slot   slot.Slot // whose checkpoint it writes
	// done: it is applied, and its keys are to be remembered only.
	done bool
}

// openLarge opens a unit that begins with this chunk, if it is large and its commands stay in one slot.
func (in *intake) openLarge(r *kgo.Record, c *codec.Chunk) error {
	if in.values == nil || uint64(c.Count)*uint64(len(c.Piece)) <= largeUnitFactor*uint64(in.values.rebuildBytes) {
		return nil
	}
	var e event.Event
	if err := codec.DecodeRaw(r.Key, c.Piece, &e); err != nil || e.Kind != event.Unit || e.Spread && !in.shape.single {
		return nil //nolint:nilerr // the whole event tells what is wrong with it, or that its key needed more than a chunk
	}
	if slot.Partition(e.Slot, in.partitions) != in.partition {
		return fmt.Errorf("slot %d belongs to partition %d of %d", e.Slot, slot.Partition(e.Slot, in.partitions), in.partitions)
	}
	l := &largeUnit{
		event: e, chunks: chunkSpan{first: r.Offset, shard: c.Shard, attempt: c.Attempt}, slot: in.shape.slotOf(e.Slot),
	}
	l.event.Key, l.event.Commands = bytes.Clone(e.Key), nil
	put(&in.larges, c.Shard, l)
	return nil
}

// passOver takes a chunk of a large unit. With the last one the batch ends, and the unit follows it.
func (in *intake) passOver(b *batch, l *largeUnit, c *codec.Chunk, offset int64) error {
	if err := in.sequence.Add(c); err != nil {
		return err
	}
	if !c.First() {
		l.bytes += int64(len(c.Piece))
	}
	if !c.Last() {
		return nil
	}
	delete(in.larges, c.Shard)
	in.closeChunks(offset + 1)
	l.chunks.last = offset
	if err := in.follow(&l.event); err != nil {
		return err
	}
	if l.isValue() {
		l.pieces = l.pieces || l.bytes > 2*int64(in.values.restoreBytes)
		if err := in.see(&l.event); err != nil {
			return err
		}
	}
	if in.isDone(l.event.Slot, offset, 0) {
		in.skipped++
		if slices.Contains(in.plan.refused, offset) {
			return errRefusedBefore
		}
		if l.done = true; !in.remembers(l) {
			return nil
		}
	} else if err := in.overdue(&l.event, offset); err != nil {
		return err
	}
	b.then, b.over = &control{kind: event.Unit, offset: offset, shard: c.Shard, large: l}, true
	return nil
}

// remembers tells whether a large unit that is applied has to be read for its keys.
func (in *intake) remembers(l *largeUnit) bool { return len(in.gens) > 0 && !l.isValue() }

// large applies a large unit. It is called again after an error that passes.
func (w *worker) large(ctx context.Context, c *control) error {
	l := c.large
	if !l.done {
		if err := w.ask(l.slot, func(r resp.Reply) error {
			if r.IsNull() {
				return nil
			}
			point, err := parseCheckpoint(string(r.Str))
			l.done = err == nil && point.done() >= c.offset
			return err
		}, []byte("GET"), own.Key(own.Checkpoint, w.s.cfg.Name, l.slot)); err != nil {
			return err
		}
		if l.done && !w.in.remembers(l) {
			return nil
		}
	}
	for {
		p := newPlayback(w, c)
		err := w.play(ctx, p)
		if untried, ok := errors.AsType[*untriedError](err); ok {
			if err := w.tryDatabases(p.conn, &run{units: []*unit{{db: untried.db, last: untried.db}}}); err != nil {
				return err
			}
			continue
		}
		if l.fallsBack(err) {
			continue
		}
		if err == nil && !l.done {
			w.stat.units.Add(1)
			w.stat.bytes.Add(p.bytes)
		}
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			w.recordRefused([]*RefusedError{refused}, c.offset+1)
		}
		return err
	}
}

// play reads the unit from the log and plays it.
func (w *worker) play(ctx context.Context, p *playback) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	var g errgroup.Group
	g.Go(func() error { // ends with the chunks, or with the reader
		err := w.s.eachChunk(ctx, w.partition, p.l.chunks, func(r *kgo.Record, c *codec.Chunk) error {
			piece := c.Piece
			if c.First() {
				var e event.Event
				if err := codec.DecodeRaw(r.Key, piece, &e); err != nil {
					return err
				}
				if piece = e.Commands; p.l.isValue() {
					piece = e.Value
				}
			}
			_, err := pw.Write(piece)
			return err
		})
		return pw.CloseWithError(err)
	})
	p.in = commandReader{r: bufio.NewReaderSize(pr, playBufferBytes), max: w.s.cfg.MaxEventBytes}
	err := p.run(ctx)
	if err != nil {
		err = errors.Join(err, p.giveUp())
	}
	cancel()
	err = errors.Join(err, pr.CloseWithError(io.ErrClosedPipe), g.Wait())
	return err
}

const playBufferBytes = 256 << 10

// commandReader reads commands argument by argument.
type commandReader struct {
	r   *bufio.Reader
	max int // of what is held
}

// command reads how many arguments the next command has; io.EOF behind the last one.
func (c *commandReader) command() (n int, err error) {
	if _, err := c.r.Peek(1); err != nil {
		return 0, err
	}
	size, err := c.header('*')
	return int(size), err
}

func (c *commandReader) header(kind byte) (n int64, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, unexpected(err)
	}
	if len(line) < 4 || line[0] != kind || len(line) > 16 {
		return 0, fmt.Errorf("parse command of unit: %w: %.20q", errArguments, line)
	}
	for _, d := range line[1 : len(line)-2] {
		if d < '0' || d > '9' {
			return 0, fmt.Errorf("parse command of unit: %w: %.20q", errArguments, line)
		}
		n = n*10 + int64(d-'0')
	}
	return n, nil
}

var errCommandSize = errors.New("a command that cannot be split is too large")

// unexpected: a unit does not end within a command.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// append reads an argument of n bytes and what ends it, as it stands in the log.
func (c *commandReader) append(dst []byte, n int64) ([]byte, error) {
	if int64(len(dst))+n > int64(c.max) {
		return dst, fmt.Errorf("%w: more than event.max.bytes (%d)", errCommandSize, c.max)
	}
	dst = appendBulkHeader(dst, int(n))
	at := len(dst)
	dst = grow(dst, int(n)+2)
	_, err := io.ReadFull(c.r, dst[at:])
	return dst, unexpected(err)
}

// word reads an argument.
func (c *commandReader) word() ([]byte, error) {
	n, err := c.header('$')
	if err != nil {
		return nil, err
	}
	raw, err := c.append(nil, n)
	if err != nil {
		return nil, err
	}
	return raw[len(raw)-int(n)-2 : len(raw)-2], nil
}

// grow makes a slice longer by n bytes.
func grow(b []byte, n int) []byte {
	if len(b)+n > cap(b) {
		b = append(make([]byte, 0, max(len(b)+n, 2*len(b))), b...)
	}
	return b[:len(b)+n]
}
