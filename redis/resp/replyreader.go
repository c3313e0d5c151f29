package resp

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// ReplyReader reads the answers of a server.
//
// A reply is first walked over until its end has arrived, remembering only how many
// elements are to come at each depth, and then built in one go. So the memory for
// its elements is bounded by bytes that are there.
type ReplyReader struct {
	buffer
	cfg   Config
	pos   int   // how far the reply at buffer.from is walked over
	need  int   // what it needs at least, in bytes
	open  []int // elements to come in the arrays around pos, outermost first
	count int   // replies seen, nested ones included
	nodes []Reply
}

// keepNodes is how many elements a ReplyReader keeps room for.
const keepNodes = 16 << 10

// NewReplyReader returns a ReplyReader at offset 0.
func NewReplyReader(src io.Reader, cfg Config) *ReplyReader {
	cfg = cfg.withDefaults()
	return &ReplyReader{buffer: newBuffer(src, cfg.BufferBytes), cfg: cfg}
}

// Read returns the next reply; it is valid until the next call. Empty lines before a
// reply are skipped: a master sends them while it makes a replica wait for the answer
// to PSYNC (masterTryPartialResynchronization and replicationCron in redis
// src/replication.c).
//
// An error reply is a Reply, not an error of Read. Errors are as in
// [Reader.ReadCommand].
func (r *ReplyReader) Read() (Reply, error) {
	const verb = "read reply"
	if r.failed != nil {
		return Reply{}, r.failed
	}
	for {
		r.skipEmptyLines()
		err := r.walk(r.unread())
		if errors.Is(err, ErrIncomplete) {
			if err := r.fill(verb, max(r.need, r.pos+1)); err != nil {
				return Reply{}, err
			}
			continue
		}
		if err != nil {
			return Reply{}, r.fail(verb, err)
		}
		reply, err := r.build(r.unread())
		if err != nil {
			return Reply{}, r.fail(verb, err)
		}
		r.take(r.pos)
		r.pos, r.need, r.count = 0, 0, 0
		return reply, nil
	}
}

// Accept takes the next reply if it is this one, byte for byte, and is there: the answer that is expected costs no more
// than a comparison.
func (r *ReplyReader) Accept(reply string) bool {
	b := r.unread()
	if r.pos > 0 || r.failed != nil || len(b) < len(reply) || string(b[:len(reply)]) != reply {
		return false
	}
	r.take(len(reply))
	return true
}

// ReadEach reads the next reply. Of an array it hands over the elements one by one, so that it may have any number of
// them, and returns one without elements. An error between two of them cannot be gone on from.
func (r *ReplyReader) ReadEach(fn func(i int, elem Reply)) (Reply, error) {
	const verb = "read reply"
	if r.failed != nil {
		return Reply{}, r.failed
	}
	for {
		r.skipEmptyLines()
		b := r.unread()
		if len(b) == 0 {
			if err := r.fill(verb, 1); err != nil {
				return Reply{}, err
			}
			continue
		}
		if b[0] != KindArray {
			return r.Read()
		}
		n, next, err := parseLength(b, 0)
		if errors.Is(err, ErrIncomplete) {
			if err := r.fill(verb, len(b)+1); err != nil {
				return Reply{}, err
			}
			continue
		}
		if err != nil {
			return Reply{}, r.fail(verb, err)
		}
		if n < 0 {
			return r.Read()
		}
		r.take(next)
		for i := range n {
			elem, err := r.Read()
			if err != nil {
				return Reply{}, err
			}
			fn(int(i), elem)
		}
		return Reply{Kind: KindArray, Elems: []Reply{}}, nil
	}
}

func (r *ReplyReader) skipEmptyLines() {
	if r.pos > 0 {
		return
	}
	for b := r.unread(); len(b) > 0; b = r.unread() {
		switch {
		case b[0] == '\n':
			r.take(1)
		case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
			r.take(2)
		default:
			return
		}
	}
}

// walk goes on until pos is at the end of the reply.
func (r *ReplyReader) walk(b []byte) error {
	for {
		elems, next, err := r.walkOne(b)
		if err != nil {
			return err
		}
		r.pos = next
		r.count++
		if elems > 0 {
			if len(r.open) >= r.cfg.MaxDepth {
				return aboveLimit(r.pos, "depth", int64(len(r.open)+1), r.cfg.MaxDepth)
			}
			r.open = append(r.open, elems)
			continue
		}
		for last := len(r.open) - 1; last >= 0; last-- {
			if r.open[last]--; r.open[last] > 0 {
				break
			}
			r.open = r.open[:last]
		}
		if len(r.open) == 0 {
			return nil
		}
	}
}

// walkOne steps over one reply, or over the head of an array with elements.
func (r *ReplyReader) walkOne(b []byte) (elems, next int, err error) {
	pos := r.pos
	if pos >= len(b) {
		return 0, 0, ErrIncomplete
	}
	switch b[pos] {
	case KindSimple, KindError, KindInt:
		_, next, err = parseLine(b, pos)
		return 0, next, err
	case KindBulk:
		n, next, err := parseLength(b, pos)
		if err != nil || n < 0 {
			return 0, next, err
		}
		if n > int64(r.cfg.MaxBulkBytes) {
			return 0, 0, aboveLimit(pos, "length of bulk", n, r.cfg.MaxBulkBytes)
		}
		end := next + int(n)
		if end+2 > len(b) {
			r.need = end + 2
			return 0, 0, ErrIncomplete
		}
		if b[end] != '\r' || b[end+1] != '\n' {
			return 0, 0, fault(end, "bulk is not ended by CRLF")
		}
		return 0, end + 2, nil
	case KindArray:
		n, next, err := parseLength(b, pos)
		if err != nil || n < 0 {
			return 0, next, err
		}
		if n > int64(r.cfg.MaxArgs-r.count) {
			return 0, 0, aboveLimit(pos, "number of elements", int64(r.count)+n, r.cfg.MaxArgs)
		}
		return int(n), next, nil
	case '\r':
		if pos == 0 && len(b) == 1 { // half an empty line
			return 0, 0, ErrIncomplete
		}
	case '_', ',', '#', '!', '=', '(', '%', '~', '>', '|':
		return 0, 0, fault(pos, "RESP3 type "+strconv.QuoteRune(rune(b[pos])))
	}
	return 0, 0, unexpected(pos, "a reply", b[pos])
}

// build makes the reply from its bytes, which walk has found complete. Its elements
// lie in r.nodes, which is never grown while it is filled.
func (r *ReplyReader) build(b []byte) (Reply, error) {
	if cap(r.nodes) < r.count || cap(r.nodes) > keepNodes && r.count < keepNodes {
		r.nodes = make([]Reply, 0, max(r.count, 16))
	}
	r.nodes = r.nodes[:0]
	var root Reply
	_, err := r.buildOne(b, 0, &root)
	return root, err
}

func (r *ReplyReader) buildOne(b []byte, pos int, out *Reply) (next int, err error) {
	*out = Reply{Kind: b[pos]}
	switch out.Kind {
	case KindSimple, KindError:
		out.Str, next, err = parseLine(b, pos)
		return next, err
	case KindInt:
		line, next, err := parseLine(b, pos)
		if err != nil {
			return 0, err
		}
		if out.Int, err = strconv.ParseInt(string(line), 10, 64); err != nil {
			return 0, fault(pos, "integer is not a number")
		}
		return next, nil
	case KindBulk:
		n, next, err := parseLength(b, pos)
		if err != nil || n < 0 {
			return next, err
		}
		end := next + int(n)
		out.Str = b[next:end:end]
		return end + 2, nil
	}
	n, next, err := parseLength(b, pos)
	if err != nil || n < 0 {
		return next, err
	}
	first := len(r.nodes)
	r.nodes = r.nodes[:first+int(n)]
	out.Elems = r.nodes[first : first+int(n) : first+int(n)]
	for i := range out.Elems {
		if next, err = r.buildOne(b, next, &out.Elems[i]); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// parseLine returns what lies between the type byte at b[pos] and CRLF.
func parseLine(b []byte, pos int) (line []byte, next int, err error) {
	end := bytes.IndexByte(b[pos:], '\n')
	if end < 0 {
		if len(b)-pos > maxLineBytes {
			return nil, 0, aboveLimit(pos, "bytes of line", int64(len(b)-pos), maxLineBytes)
		}
		return nil, 0, ErrIncomplete
	}
	end += pos - 1
	if b[end] != '\r' {
		return nil, 0, fault(pos, "line is not ended by CRLF")
	}
	return b[pos+1 : end : end], end + 2, nil
}
