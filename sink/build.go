package sink

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
)

// What one command of a builder holds, and one part: the target executes a part in one go.
const (
	commandBytes    = 64 << 10
	commandElements = 500
	timedElements   = 200 // each of them may need a command for its time
	partBytes       = 256 << 10
	partCommands    = 400
	// piece of a string that one command writes.
	stringPieceBytes = 256 << 10
)

// builder makes the commands that build a value under a staging key out of its elements.
//
// Every part of what it makes is whole commands. It is a machine without I/O, and what it makes depends on the elements and
// on where take was called, on nothing else: after a crash the same parts are made again.
type builder struct {
	v          *values
	key, stage []byte
	kind       string
	timed      bool // some of its fields may expire

	out   []byte // commands that are whole
	count int
	room  int // what the part before took: the next one is as large, most often
	// The open command: its name, its arguments behind the staging key, and times to be set behind it.
	name  string
	args  []byte
	argc  int
	elems int
	times []fieldTime

	any    bool  // something was built
	dead   *lack // it is to be a dead letter
	stream streamBuilder
	lacks  map[string]bool
}

type fieldTime struct {
	atMs  int64
	field []byte
}

func newBuilder(v *values, key, stage []byte, typ byte, f rdb.Format) *builder {
	kind, _ := rdb.KindOf(typ, f)
	b := &builder{v: v, key: key, stage: stage, kind: kind.String(), timed: rdb.HasTimedFields(typ, f)}
	b.command("UNLINK", stage)
	if b.sentinel() {
		b.command("HSET", stage, stage, nil)
	}
	return b
}

// sentinel tells whether the hash has a field of our own while it is built: one whose exact times have passed loses its
// fields as they are written, and the key with the last of them. The field is called as the staging key is.
func (b *builder) sentinel() bool {
	return b.timed && b.v.holdMs == 0 && b.v.target.format.HasFieldExpiry()
}

// command adds a whole command.
func (b *builder) command(name string, args ...[]byte) {
	b.close()
	b.makeRoom()
	b.out = resp.AppendArrayHeader(b.out, 1+len(args))
	b.out = resp.AppendBulkString(b.out, name)
	for _, a := range args {
		b.out = resp.AppendBulk(b.out, a)
	}
	b.count++
}

func (b *builder) makeRoom() {
	if b.out == nil {
		b.out = make([]byte, 0, b.room+b.room/8)
	}
}

// open begins a command on the staging key, or goes on with it if it may take more.
func (b *builder) open(name string, limit int) {
	if b.name != name || b.elems >= limit || len(b.args) >= commandBytes {
		b.close()
	}
	b.name = name
	b.elems++
	b.any = true
}

func (b *builder) arg(a []byte) {
	b.args = resp.AppendBulk(b.args, a)
	b.argc++
}

// close ends the open command.
func (b *builder) close() {
	if b.name == "" {
		return
	}
	b.makeRoom()
	b.out = resp.AppendArrayHeader(b.out, 2+b.argc)
	b.out = resp.AppendBulkString(b.out, b.name)
	b.out = resp.AppendBulk(b.out, b.stage)
	b.out = append(b.out, b.args...)
	b.count++
	b.name, b.argc, b.elems = "", 0, 0
	if b.args = b.args[:0]; cap(b.args) > 4*commandBytes {
		b.args = nil
	}
	b.closeTimes()
}

// closeTimes sets the times of fields that were just written, those with the same time together.
func (b *builder) closeTimes() {
	times := b.times
	b.times = nil
	slices.SortStableFunc(times, func(x, y fieldTime) int { return cmp.Compare(x.atMs, y.atMs) })
	for len(times) > 0 {
		n := 1
		for n < len(times) && times[n].atMs == times[0].atMs {
			n++
		}
		args := [][]byte{b.stage, strconv.AppendInt(nil, times[0].atMs, 10), []byte("FIELDS"), strconv.AppendInt(nil, int64(n), 10)}
		for _, t := range times[:n] {
			args = append(args, t.field)
		}
		b.command("HPEXPIREAT", args...)
		times = times[n:]
	}
}

// full tells that a part is large enough.
func (b *builder) full() bool {
	return len(b.out)+len(b.args) >= partBytes || b.count+len(b.times) >= partCommands
}

// take ends a part and returns it; nothing if there is none.
func (b *builder) take() (commands []byte, count int) {
	b.close()
	b.closeClaim()
	commands, count = b.out, b.count
	b.out, b.count, b.room = nil, 0, len(commands)
	return commands, count
}

// fill makes all of the value of an entry, which src gives, and puts out every part but the last, which is left to be taken.
func (b *builder) fill(src io.Reader, e *event.Event, f rdb.Format, put func(commands []byte, count int) error) error {
	d := rdb.NewDecoder(rdb.DecoderConfig{PieceBytes: stringPieceBytes})
	d.Reset(e.Type, src, f)
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
			b.dead = b.v.takeDead() // before others of the partition go on
			_, err := io.Copy(io.Discard, src)
			return err
		}
		if err != nil {
			return err
		}
		if b.full() {
			if err := put(b.take()); err != nil {
				return err
			}
		}
	}
}

// add takes the next element. errLeftOut says that the value is not to be built after all.
func (b *builder) add(el *rdb.Element) error {
	if what := b.v.lacksRebuilt(el); what != "" && !b.lacks[what] {
		if err := b.v.without(lack{what, b.kind, b.key}, true); err != nil {
			return err
		}
		if b.lacks == nil {
			b.lacks = map[string]bool{}
		}
		b.lacks[what] = true
	}
	switch el.Kind {
	case rdb.ElementPiece:
		b.addPiece(el)
	case rdb.ElementItem:
		b.open("RPUSH", commandElements)
		b.arg(el.Value)
	case rdb.ElementMember:
		b.open("SADD", commandElements)
		b.arg(el.Value)
	case rdb.ElementScored:
		b.open("ZADD", commandElements)
		b.arg(appendScore(nil, el.Score))
		b.arg(el.Value)
	case rdb.ElementField:
		b.addField(el)
	case rdb.ElementModule:
		return fmt.Errorf("rebuild a module's value: %w", errRecord)
	default:
		b.addStream(el)
	}
	return nil
}

// addPiece writes a piece of a string, which has its full length from the first piece on: the target fills that much memory
// in one go. That is one pause, of the length that the system takes to hand over fresh pages, and it is the least that can be
// had. With a connection that pings each millisecond, 511 MiB, on Redis 7.0 / Redis 8.6 / Valkey 9.1:
//
//	                                longest pause        pauses above 30 ms   memory of the target
//	full length first               298 / 315 / 178 ms    1 /  1 /  1         0.5 / 0.5 / 0.5 GB
//	APPEND of 256 KiB               670 / 994 / 379 ms   11 / 14 / 18         0.5 / 2.0 / 3.2 GB
//	growing by 8 MiB at a time      258 / 892 / 228 ms   11 / 17 / 16         0.5 / 2.9 / 2.9 GB
//	one SET, sent piece by piece     10 /  12 /   8 ms    0 /  0 /  0         0.5 / 0.5 / 0.5 GB
//
// A string that grows is moved as a whole each time its allocation is used up. One SET blocks nobody, since the server reads
// into the memory that becomes the value, but it counts twice against maxmemory while it is read (1 GB here: a target near
// its limit evicts), and goes to the replicas in one piece, which is beyond their output buffer (256 MiB): all of them
// lost the link and resynchronised, where pieces went through. RENAME takes 0.2 ms whatever the length.
func (b *builder) addPiece(el *rdb.Element) {
	b.any = true
	if el.Offset == 0 {
		if el.TotalBytes == int64(len(el.Value)) {
			b.command("SET", b.stage, el.Value)
			return
		}
		b.command("SETRANGE", b.stage, strconv.AppendInt(nil, el.TotalBytes-1, 10), []byte{0})
	}
	b.command("SETRANGE", b.stage, strconv.AppendInt(nil, el.Offset, 10), el.Value)
}

func (b *builder) addField(el *rdb.Element) {
	limit := commandElements
	if b.timed {
		limit = timedElements
	}
	b.open("HSET", limit)
	b.arg(el.Field)
	b.arg(el.Value)
	if at := b.v.fieldExpiry(el.ExpireAtMs); at > 0 {
		b.times = append(b.times, fieldTime{at, bytes.Clone(el.Field)})
	}
}

// appendScore writes a score so that every server reads the same bits.
func appendScore(dst []byte, score float64) []byte {
	switch {
	case math.IsInf(score, 1):
		return append(dst, "inf"...)
	case math.IsInf(score, -1):
		return append(dst, "-inf"...)
	}
	return strconv.AppendFloat(dst, score, 'g', -1, 64)
}

// finish puts what was built in the key's place, at once: the key is never seen in part. UNLINK goes first because RENAME
// deletes what it replaces in one go. The expiry comes last: a staging key must not expire.
func (b *builder) finish(expireAtMs int64) {
	b.close()
	b.closeClaim()
	if !b.any {
		b.discard()
		return
	}
	b.command("UNLINK", b.key)
	b.command("RENAME", b.stage, b.key)
	if b.sentinel() {
		b.command("HDEL", b.key, b.stage)
	}
	if expireAtMs > 0 {
		b.command("PEXPIREAT", b.key, strconv.AppendInt(nil, expireAtMs, 10))
	}
}

// discard ends a value that is left out: neither it nor what was there before it stays.
func (b *builder) discard() {
	b.name, b.args, b.argc, b.elems, b.times, b.stream = "", nil, 0, 0, nil, streamBuilder{}
	b.command("UNLINK", b.stage)
	b.command("UNLINK", b.key)
}

// lacksRebuilt is lacks for a value that is built with commands, which have no words for some things.
func (v *values) lacksRebuilt(el *rdb.Element) string {
	if el.Kind == rdb.ElementMessage && v.target.format.HasProducers() {
		return "command for the " + whatProducers
	}
	return v.lacks(el)
}
