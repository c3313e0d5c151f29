package sink

import (
	"context"
	"io"
	"net"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

const (
	// setStage is the number of the staging key of a large string that a command writes: none of a shard's.
	setStage   = 1<<33 + 1
	stringType = 0 // in every RDB
)

// scriptRename puts a string that was built in the key's place, and keeps the expiry of what was there.
const scriptRename = `redis.replicate_commands()
local ttl = redis.call('PTTL', KEYS[1])
redis.call('UNLINK', KEYS[1])
redis.call('RENAME', KEYS[2], KEYS[1])
if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl) end`

// set takes SET with a value of that many bytes, and n arguments. The value goes under a staging key, which takes the key's
// place, since the options come behind it.
func (p *playback) set(ctx context.Context, key []byte, n int, size int64) error {
	stage := own.StagingKey(p.w.s.cfg.Name, setStage, slot.Of(key))
	if err := p.w.in.rememberKeys(&event.Event{Key: key, DB: p.placer.from}); err != nil {
		return p.fault(err)
	}
	put := func(int64, []byte) error { return nil }
	pieces, err := p.inPieces(size)
	switch {
	case err != nil:
		return err
	case p.l.done:
	case pieces:
		b := newBuilder(p.w.in.values, key, stage, stringType, p.w.target.format)
		put = func(at int64, piece []byte) error {
			b.addPiece(&rdb.Element{Kind: rdb.ElementPiece, Offset: at, TotalBytes: size, Value: piece})
			commands, k := b.take()
			return p.send(ctx, net.Buffers{commands}, k)
		}
	default:
		if err := p.enter(ctx); err != nil {
			return err
		}
		head := resp.AppendArrayHeader(nil, 3)
		head = resp.AppendBulkString(head, "SET")
		head = appendBulkHeader(resp.AppendBulk(head, stage), int(size))
		put = func(at int64, piece []byte) error {
			b := make([]byte, 0, len(head)+len(piece)+2) // the connection still has the last one
			if at == 0 {
				b = append(b, head...)
			}
			if b = append(b, piece...); at+int64(len(piece)) == size {
				p.sent++
				return p.send(ctx, net.Buffers{append(b, "\r\n"...)}, 1)
			}
			return p.give(ctx, net.Buffers{b})
		}
	}
	err = p.eachPiece(size, put)
	if err == nil {
		if _, err = p.in.r.Discard(len("\r\n")); err != nil {
			err = p.unread(unexpected(err))
		}
	}
	if err != nil {
		if !pieces && !p.l.done {
			p.breakOff()
		}
		return err
	}
	words, err := p.options(key, n)
	if err != nil {
		return err
	}
	if err := p.enter(ctx); err != nil {
		return err
	}
	commands, k := putString(words, stage, p.w.in.limits.holdMs)
	p.placer.n += k
	p.placed = p.placer.n
	return p.queue(ctx, commands, k)
}

// breakOff gives up a connection that stands within a command.
func (p *playback) breakOff() {
	p.conn.broken = true
	p.conn.nc.Close()
}

// enter begins the transaction, and selects the database at hand.
func (p *playback) enter(ctx context.Context) error {
	p.placer.selects(p.target())
	if p.l.done {
		return nil
	}
	out, n := p.placer.out, p.placer.n-p.placed
	p.placer.out, p.placed = p.placer.out[:0], p.placer.n
	if n > 0 {
		return p.queue(ctx, out, n)
	}
	return p.begin(ctx)
}

// replicaBytes is what a replica of the target may be behind for a minute before it is dropped: the soft limit of its
// output buffer.
const replicaBytes = 64 << 20

// inPieces tells whether a string is built outside of the transaction. As one SET it blocks the target least
// (builder.addPiece), but goes to the target's replicas, and to its file of commands, in one go too.
func (p *playback) inPieces(size int64) (bool, error) {
	if size <= p.w.s.replicaBytes || p.open || !p.w.shape.atHome(p.target()) || p.l.done {
		return false, nil
	}
	info, err := p.conn.info()
	alone := info["connected_slaves"] == "0" && info["aof_enabled"] == "0" // not where INFO is forbidden
	return !alone, err
}

// eachPiece reads so many bytes.
func (p *playback) eachPiece(size int64, fn func(at int64, piece []byte) error) error {
	piece := make([]byte, stringPieceBytes)
	for at := int64(0); at < size; at += int64(len(piece)) {
		piece = piece[:min(size-at, stringPieceBytes)]
		if _, err := io.ReadFull(p.in.r, piece); err != nil {
			return p.unread(unexpected(err))
		}
		if err := fn(at, piece); err != nil {
			return err
		}
	}
	return nil
}

// options are the words of a SET, of which the value was read.
func (p *playback) options(key []byte, n int) ([][]byte, error) {
	words := [][]byte{[]byte("SET"), key, nil}
	for len(words) < n {
		word, err := p.in.word()
		if err != nil {
			return nil, p.unread(err)
		}
		words = append(words, word)
	}
	return words, nil
}

// putString puts a string that was built into the key's place, as the words of the SET say, whose value is left out.
func putString(words [][]byte, stage []byte, holdMs int64) (out []byte, count int) {
	add := func(args ...string) {
		out = resp.AppendCommand(out, args...)
		count++
	}
	key := string(words[1])
	keep, expire, at := false, "", ""
	for i := 3; i < len(words); i++ {
		keep = keep || resp.IsWord(words[i], "KEEPTTL")
		for _, o := range expiryOptions {
			if i+1 < len(words) && resp.IsWord(words[i], o.word) {
				ms, _ := later(words[i+1], o.unit, holdMs)
				if expire, at = "PEXPIREAT", itoa(ms); o.held == "PX" {
					expire = "PEXPIRE"
				}
				i++
				break
			}
		}
	}
	if keep {
		add("EVAL", scriptRename, "2", key, string(stage))
	} else {
		add("UNLINK", key)
		add("RENAME", string(stage), key)
	}
	if expire != "" {
		add(expire, key, at)
	}
	return out, count
}
