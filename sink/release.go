package sink

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/resp"
)

// releaseInterval is how often the source is asked for shards that are gone.
const (
	releaseInterval = 30 * time.Second
	releaseTimeout  = 5 * time.Second
)

// release gives up what a shard has left open in the log that is gone from the source: else reading would have to begin there
// for ever. The lane has ended before the registry says so, so what the log holds at that moment is all that comes of it.
func (w *worker) release(ctx context.Context) error {
	w.released = time.Now()
	if !w.in.anyOpen() {
		clear(w.leaving)
		return nil
	}
	offsetsCtx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	state, err := w.s.readOffsets(offsetsCtx, w.s.releaseInterval)
	if err != nil || state.Registry == nil {
		return nil // it is asked again
	}
	for _, k := range state.Registry.Shards {
		if !k.Gone || !w.in.holdsOpen(k.Shard) {
			delete(w.leaving, k.Shard)
			continue
		}
		end, ok := w.leaving[k.Shard]
		if !ok {
			if _, end, err = w.s.logBounds(offsetsCtx, w.partition); err != nil {
				return nil // likewise
			}
			w.leaving[k.Shard] = end
		}
		if w.next < end {
			continue
		}
		if err := w.abandon(ctx, k.Shard); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) abandon(ctx context.Context, shard event.Shard) error {
	w.log.Warn("what a shard left unfinished is given up: it is gone from the source", slog.Uint64("shard", uint64(shard)))
	if rb := w.in.rebuilds[shard]; rb != nil && !rb.ignored {
		r := &run{slot: rb.slot, bare: true, units: []*unit{{
			offset: w.next, slot: rb.slot, key: bytes.Clone(rb.stage), count: 1, blind: true,
			commands: resp.AppendCommandBytes(nil, []byte("UNLINK"), rb.stage), db: rb.db, last: rb.db,
		}}}
		if err := w.apply(ctx, []*run{r}, w.at); err != nil {
			return err
		}
	}
	w.in.abandon(shard, w.next)
	delete(w.leaving, shard)
	w.settle()
	return nil
}

// anyOpen tells whether a snapshot or a chunked event is unfinished.
func (in *intake) anyOpen() bool {
	return in.chunks != nil || slices.ContainsFunc(in.spans, func(s *span) bool { return s.end == endless })
}

// holdsOpen tells whether a shard has a snapshot or a chunked event open.
func (in *intake) holdsOpen(shard event.Shard) bool {
	return in.gens[shard] != nil || in.rebuilds[shard] != nil || in.larges[shard] != nil || in.joiner.Has(shard)
}

// abandon ends what a shard has open at an offset.
func (in *intake) abandon(shard event.Shard, at int64) {
	if g := in.gens[shard]; g != nil {
		g.span.end = at
		g.seen.close()
		delete(in.gens, shard)
	}
	if rb := in.rebuilds[shard]; rb != nil {
		rb.stop()
		delete(in.rebuilds, shard)
	}
	delete(in.larges, shard)
	in.joiner.Drop(shard)
	in.sequence.Drop(shard)
	in.closeChunks(at)
}
