package resp

import (
	"errors"
	"io"
)

// Command is one command of a stream.
type Command struct {
	Args [][]byte // at least one
	// Raw is the command as it lay in the stream, keep-alives before it excluded.
	Raw []byte
	// Inline says that it came as a line of words: see [Config.RefuseInline].
	Inline bool
}

// Reader reads the commands of a replication stream.
type Reader struct {
	buffer
	cfg   Config
	at    cursor
	spans []span // the arguments found so far of the command at buffer.from
	args  [][]byte
}

// span is an argument: positions, since the buffer moves while a command arrives.
type span struct{ from, to int }

// keepArgs is how many arguments a Reader keeps room for.
const keepArgs = 16 << 10

// NewReader returns a Reader at offset 0.
func NewReader(src io.Reader, cfg Config) *Reader {
	cfg = cfg.withDefaults()
	return &Reader{buffer: newBuffer(src, cfg.BufferBytes), cfg: cfg, at: start}
}

// ReadCommand returns the next command; it is valid until the next call.
//
// Between commands the end of the stream is io.EOF, within one it wraps
// io.ErrUnexpectedEOF. After an error of the source the call can be made again, and
// nothing is lost: so a read deadline may interrupt it. A [*ProtocolError] is final.
func (r *Reader) ReadCommand() (Command, error) {
	const verb = "read command"
	if r.failed != nil {
		return Command{}, r.failed
	}
	for {
		err := r.parse()
		switch {
		case err == nil:
			if cmd := r.takeCommand(); len(cmd.Args) > 0 {
				return cmd, nil
			}
		case errors.Is(err, ErrIncomplete):
			if err := r.fill(verb, r.at.want()); err != nil {
				return Command{}, err
			}
		default:
			return Command{}, r.fail(verb, err)
		}
	}
}

// parse goes on with the command at the front of what is unread.
func (r *Reader) parse() error {
	unread := r.unread()
	for {
		from, to, err := r.at.next(unread, &r.cfg)
		if err != nil {
			return err
		}
		if from < 0 {
			break
		}
		r.spans = append(r.spans, span{from, to})
	}
	if r.cfg.RefuseInline && len(r.spans) > 0 && unread[0] != '*' {
		return fault(0, "inline command")
	}
	return nil
}

// takeCommand consumes the command that parse has found the end of.
func (r *Reader) takeCommand() Command {
	if cap(r.args) > keepArgs {
		r.args = nil
	}
	r.args = r.args[:0]
	raw := r.unread()[:r.at.pos:r.at.pos]
	for _, s := range r.spans {
		r.args = append(r.args, raw[s.from:s.to:s.to])
	}
	if r.spans = r.spans[:0]; cap(r.spans) > keepArgs {
		r.spans = nil
	}
	r.take(r.at.pos)
	r.at = start
	return Command{Args: r.args, Raw: raw, Inline: raw[0] != '*'}
}
