package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
)

// playback brings the commands of a large unit to the target while they are read, a group at a time: the next one is sent
// when the target has queued the one before.
type playback struct {
	w    *worker
	c    *control
	l    *largeUnit
	conn *conn
	in   commandReader

	group   []byte // commands of the log
	count   int
	scratch scratch
	// placer follows the databases; placed is how many of its commands are sent.
	placer placer
	placed int
	dead   *lack

	open  bool // MULTI is sent
	sent  int  // commands behind it
	bytes int64
}

// untriedError asks for a database to be tried outside of the transaction, which begins again behind that.
type untriedError struct{ db uint32 }

func (e *untriedError) Error() string {
	return fmt.Sprintf("database %d of the target is not tried", e.db)
}

// busyError is what a target answers that takes no write now: the same connection is good for another attempt.
type busyError struct{ line string }

func (e *busyError) Error() string { return "the target takes no write now: " + e.line }

const (
	playGroupBytes    = 256 << 10
	playGroupCommands = 1000
)

func newPlayback(w *worker, c *control) *playback {
	l := c.large
	p := &playback{w: w, c: c, l: l, conn: w.conns[w.ownerOf(l.slot)]}
	p.placer = placer{sh: &w.in.shape, u: &unit{}, from: l.event.DB}
	return p
}

func (p *playback) fault(err error) error { return p.w.in.fault(p.c.offset, err) }

// unread judges an error of reading: what the log says, or that it could not be read.
func (p *playback) unread(err error) error {
	if errors.Is(err, errArguments) || errors.Is(err, errCommandSize) || errors.Is(err, io.ErrUnexpectedEOF) {
		return p.fault(err)
	}
	return err
}

func (p *playback) run(ctx context.Context) error {
	if p.conn == nil {
		return errTopology
	}
	if p.l.isValue() {
		return p.bring(ctx)
	}
	if err := p.w.in.rememberKeys(&p.l.event); err != nil {
		return p.fault(err)
	}
	for {
		n, err := p.in.command()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return p.unread(err)
		}
		if err := p.command(ctx, n); err != nil {
			return err
		}
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	return p.finish(ctx)
}

// command takes the next command, of n arguments, into the group. One that is large is looked at when that is known.
func (p *playback) command(ctx context.Context, n int) (err error) {
	from := len(p.group)
	p.group = resp.AppendArrayHeader(p.group, n)
	for i := range n {
		size, err := p.in.header('$')
		if err != nil {
			return p.unread(err)
		}
		if len(p.group)-from+int(size) > splitAboveBytes {
			head := bytes.Clone(p.group[from:])
			p.group = p.group[:from]
			return p.large(ctx, head, i, n, size)
		}
		if p.group, err = p.in.append(p.group, size); err != nil {
			return p.unread(err)
		}
	}
	return p.added(ctx)
}

func (p *playback) added(ctx context.Context) error {
	p.count++
	if len(p.group) >= playGroupBytes || p.count >= playGroupCommands {
		return p.flush(ctx)
	}
	return nil
}

// large takes a command of n arguments whose first i are the head, and whose next one has so many bytes.
func (p *playback) large(ctx context.Context, head []byte, i, n int, size int64) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	_, args, err := resp.ParseCommand(append(resp.AppendArrayHeader(nil, i), head[bytes.IndexByte(head, '\n')+1:]...), nil)
	if err != nil {
		return p.fault(err)
	}
	if i == 2 && resp.IsWord(args[0], "SET") && p.goes() && !own.Is(args[1]) {
		return p.set(ctx, args[1], n, size)
	}
	if i > 0 {
		if front, each, ok := splittable(args, n); ok && front <= i && (n-front)%each == 0 {
			return p.split(ctx, args, front, each, n, size)
		}
	}
	p.group = append(p.group, head...)
	for ; i < n; i++ {
		if p.group, err = p.in.append(p.group, size); err == nil && i+1 < n {
			size, err = p.in.header('$')
		}
		if err != nil {
			return p.unread(err)
		}
	}
	p.count++
	return p.flush(ctx)
}

// goes tells whether what acts on the database at hand goes anywhere.
func (p *playback) goes() bool {
	_, ok := p.w.in.shape.goes(p.placer.from)
	return ok
}

// target is the database of the target that the next command acts on.
func (p *playback) target() uint32 {
	to, _ := p.w.in.shape.goes(p.placer.from)
	return to
}

// split writes a command of many elements as several.
func (p *playback) split(ctx context.Context, args [][]byte, front, each, n int, size int64) error {
	ours := len(args) > 1 && own.Is(args[1])
	var piece []byte
	elements := 0
	take := func() error {
		if elements == 0 || ours {
			return nil
		}
		p.group = resp.AppendArrayHeader(p.group, front+elements)
		for _, a := range args[:front] {
			p.group = resp.AppendBulk(p.group, a)
		}
		p.group = append(p.group, piece...)
		piece, elements = piece[:0], 0
		if cap(piece) > splitAboveBytes {
			piece = nil
		}
		return p.added(ctx)
	}
	for i := front; i < n; i++ {
		switch {
		case i < len(args):
			piece = resp.AppendBulk(piece, args[i])
		default:
			var err error
			if i > len(args) {
				size, err = p.in.header('$')
			}
			if err == nil {
				piece, err = p.in.append(piece, size)
			}
			if err != nil {
				return p.unread(err)
			}
		}
		elements++
		if elements%each == 0 && (elements >= splitElements*each || len(piece) >= splitBytes) {
			if err := take(); err != nil {
				return err
			}
		}
		if ours {
			piece, elements = piece[:0], 0
		}
	}
	return take()
}

// flush sends the group as the target understands it.
func (p *playback) flush(ctx context.Context) error {
	if p.count == 0 {
		return nil
	}
	u := &unit{offset: p.c.offset, slot: p.l.slot, key: p.l.event.Key, commands: p.group, blind: true}
	e := &event.Event{Key: p.l.event.Key, DB: p.placer.from, Commands: p.group}
	if err := p.w.in.rememberKeys(e); err != nil {
		return p.fault(err)
	}
	err := u.inspect(p.count, p.w.in.limits.holdMs, p.w.in.values, &p.scratch)
	if d := p.w.in.values.takeDead(); p.dead == nil {
		p.dead = d
	}
	if err != nil {
		return p.fault(err)
	}
	p.w.in.ownKeys += int64(u.passedOver)
	for rest := u.commands; len(rest) > 0; {
		n, args, err := resp.ParseCommand(rest, p.scratch.args[:0])
		if err == nil {
			err = p.placer.command(args, rest[:n])
		}
		if err != nil {
			return p.fault(err)
		}
		p.scratch.args, rest = args, rest[n:]
	}
	if p.group, p.count = p.group[:0], 0; cap(p.group) > 4*splitAboveBytes {
		p.group = nil
	}
	out, n := p.placer.out, p.placer.n-p.placed
	if p.placer.out, p.placed = p.placer.out[:0], p.placer.n; cap(p.placer.out) > 4*splitAboveBytes {
		p.placer.out = nil
	}
	return p.queue(ctx, out, n)
}

// queue sends commands within the transaction, and begins it with the first of them.
func (p *playback) queue(ctx context.Context, commands []byte, n int) error {
	if n == 0 || p.l.done {
		return nil
	}
	if err := p.begin(ctx); err != nil {
		return err
	}
	p.sent += n
	return p.send(ctx, net.Buffers{commands}, n)
}

// begin opens the transaction, in the database of its first command.
func (p *playback) begin(ctx context.Context) error {
	u, home := p.placer.u, p.w.shape.dbs.home()
	if p.w.shape.single {
		for _, db := range append([]uint32{u.db, p.placer.cur}, u.more...) {
			if db != home && !p.conn.tried[db] {
				return &untriedError{db}
			}
		}
		u.more = nil
	}
	if p.open {
		return nil
	}
	p.open = true
	begin, n := append([]byte(nil), wireMulti...), 1
	if p.w.shape.single && u.db != home {
		begin, n = resp.AppendCommand(begin, "SELECT", itoa(int64(u.db))), 2
		p.sent++
	}
	return p.send(ctx, net.Buffers{begin}, n)
}

// send sends n commands and reads their answers.
func (p *playback) send(ctx context.Context, commands net.Buffers, n int) error {
	first := commands[0]
	if err := p.give(ctx, commands); err != nil {
		return err
	}
	var fault error
	for i := range n {
		r, err := p.conn.read()
		if err != nil {
			return err
		}
		if r.Kind == resp.KindError && fault == nil {
			fault = p.trouble(string(r.Str), first, i)
		}
	}
	return fault
}

// give hands bytes to the connection, as long as we may write.
func (p *playback) give(ctx context.Context, b net.Buffers) error {
	if err := p.w.s.group.lease.wait(ctx); err != nil {
		return err
	}
	for _, part := range b {
		p.bytes += int64(len(part))
	}
	p.conn.sendMore(b)
	return nil
}

// trouble judges an answer before anything has taken effect.
func (p *playback) trouble(line string, commands []byte, i int) error {
	u := &unit{offset: p.c.offset, key: p.l.event.Key, commands: commands}
	v := judge(line)
	if v == refused || v == passable {
		return p.w.refusal(line, u, i, false)
	}
	if v == busy {
		return &busyError{line}
	}
	return fmt.Errorf("%w: %s", errTopology, line)
}

// giveUp ends the transaction, of which nothing has taken effect.
func (p *playback) giveUp() error {
	if !p.open || p.conn.broken {
		return nil
	}
	p.open = false
	var q request
	q.add("DISCARD")
	return p.conn.do(&q, func(int, resp.Reply) error { return nil }) // it may be discarded already
}

// finish writes the checkpoint and has the target carry everything out.
func (p *playback) finish(ctx context.Context) error {
	if p.l.done {
		return nil
	}
	if p.dead != nil {
		r := &kgo.Record{Partition: p.w.partition, Offset: p.c.offset}
		if err := p.w.bury(ctx, []deadLetter{{lack: *p.dead, record: r, chunks: p.l.chunks, chunked: true}}); err != nil {
			return err
		}
	}
	var end []byte
	n, begun := 1, p.open
	if !begun {
		end = append(end, wireMulti...)
		n, p.open = 2, true
	}
	if home := p.w.shape.dbs.home(); p.w.shape.single && begun && p.placer.cur != home {
		end = resp.AppendCommand(end, "SELECT", itoa(int64(home)))
		n++
	}
	c := checkpoint{topicID: p.w.s.topic.ID, partition: p.w.partition, offset: p.c.offset}
	end = resp.AppendCommandBytes(end, []byte("SET"), own.Key(own.Checkpoint, p.w.s.cfg.Name, p.l.slot), c.text())
	if err := p.send(ctx, net.Buffers{end}, n); err != nil {
		return err
	}
	if err := p.w.s.group.lease.wait(ctx); err != nil {
		return err
	}
	p.open = false
	p.conn.send(net.Buffers{wireExec})
	var failed error
	r, err := p.conn.readEach(func(i int, r resp.Reply) {
		if r.Kind == resp.KindError && failed == nil {
			failed = &RefusedError{
				Partition: p.w.partition, Offset: p.c.offset, Command: fmt.Sprintf("command %d of %d", i+1, p.sent), Key: p.l.event.Key,
				Reply: string(r.Str), Exec: true,
			}
		}
	})
	switch {
	case err != nil:
		return err
	case r.Kind == resp.KindError:
		return p.trouble(string(r.Str), wireExec, 0)
	case r.Kind != resp.KindArray || r.IsNull():
		return fmt.Errorf("%w: answer to EXEC makes no sense", errLostConn)
	}
	return failed
}
