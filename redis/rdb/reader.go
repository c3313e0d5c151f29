package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
)

const (
	// bufferBytes is what a Reader starts with: large enough for cheap reads, small enough for the second-level cache.
	bufferBytes = 256 << 10
	// keepBufferBytes is the largest buffer kept after an item that needed it.
	keepBufferBytes = 8 << 20
	// defaultMaxValueBytes is the largest string a server accepts by default (proto-max-bulk-len), as a payload of
	// RESTORE too.
	defaultMaxValueBytes = 512 << 20
	// maxEmptyReads is how often the source may return nothing, and no error, in a row.
	maxEmptyReads = 100
)

// Config bounds a Reader. The zero value is ready for use.
type Config struct {
	// MaxValueBytes is the largest value, key or other item; 0 means 512 MB. It bounds the Reader's memory: about
	// twice as much while the buffer grows.
	MaxValueBytes int64
	// PieceBytes, if not 0, cuts values larger than that: OnPiece is called from inside Next with each PieceBytes of them
	// but the last, which Next returns in the Entry. MaxValueBytes then bounds keys and other items alone, values may have
	// any size, and the Reader's memory does not depend on them.
	PieceBytes int
	// OnPiece takes a piece. The entry has everything but its Value; both are valid during the call. An error ends the
	// reading and is what Next returns.
	OnPiece func(e *Entry, piece []byte) error
}

// Reader reads one RDB stream. It reads ahead: what of its source belongs to the stream is told by Consumed.
type Reader struct {
	src   io.Reader
	max   int64
	piece int // 0: values are not cut
	hand  func(*Entry, []byte) error
	err   error // sticky

	// Invariant: 0 <= summed, start <= pos <= end <= len(buf). buf[start:end] is kept; the bytes before start are
	// free. Positions that must survive a fill are kept relative to start.
	buf    []byte
	start  int
	pos    int
	end    int
	summed int // crc covers the stream up to here
	crc    uint64
	base   int64 // stream offset of buf[0]

	version int
	valkey  bool
	itemAt  int64 // stream offset of the last item
	item    Item
	db      int

	// What the error of a too large item names. While the key itself is read, what is "key".
	what string
	mark int // where the bounded part begins, relative to start
	key  keyRef
	// cutting: what is read is a value, of which pieces are handed out.
	cutting bool

	keyBuf []byte // a key that does not stand in buf as it is
	auxBuf []byte
}

// keyRef is a string of the current item: in buf, relative to start, or decoded in a buffer of its own.
type keyRef struct {
	off, n  int
	decoded bool
}

// NewReader reads an RDB stream from r, which must stand at its magic. Nothing is read before the first Next.
func NewReader(r io.Reader, cfg Config) *Reader {
	if cfg.MaxValueBytes <= 0 {
		cfg.MaxValueBytes = defaultMaxValueBytes
	}
	return &Reader{src: r, max: cfg.MaxValueBytes, piece: max(cfg.PieceBytes, 0), hand: cfg.OnPiece}
}

// Version is the number in the magic; 0 before the first Next.
func (r *Reader) Version() int { return r.version }

// Valkey says whether the magic is VALKEY, which changes the meaning of some types.
func (r *Reader) Valkey() bool { return r.valkey }

// Consumed is the number of bytes of the stream behind us: where the next item begins; after io.EOF, the length of
// the RDB.
func (r *Reader) Consumed() int64 { return r.base + int64(r.pos) }

// ItemOffset is where the item last returned by Next begins, prefixes (expiry, idle time, frequency) included.
func (r *Reader) ItemOffset() int64 { return r.itemAt }

// Buffered is what was read from the source beyond Consumed. After io.EOF it is what follows the RDB; valid until the
// next call of Next.
func (r *Reader) Buffered() []byte { return r.buf[r.pos:r.end] }

// Next returns the next item. It returns io.EOF only after the end opcode and a checksum that is right, absent by
// version, or 0; a stream that stops earlier gives an error that wraps io.ErrUnexpectedEOF. Errors are final.
func (r *Reader) Next() (Item, error) {
	if r.err != nil {
		return Item{}, r.err
	}
	if r.err = r.next(); r.err != nil {
		return Item{}, r.err
	}
	return r.item, nil
}

// next reads an item into r.item. It is passed on in place: copying it from call to call would cost more than framing
// a short entry.
func (r *Reader) next() error {
	if r.version == 0 {
		if err := r.readMagic(); err != nil {
			return err
		}
	}
	r.start = r.pos
	if len(r.buf) > keepBufferBytes && r.end-r.pos <= bufferBytes {
		r.shrink()
	}
	r.itemAt = r.Consumed()
	r.what, r.mark, r.key = "item", 0, keyRef{}

	r.item = Item{}
	e := &r.item.Entry
	e.Idle, e.Freq = -1, -1
	prefixed := false
	for {
		op, err := r.readByte()
		if err != nil {
			return err
		}
		switch op {
		case opExpireMs:
			v, err := r.readUint64()
			if err != nil {
				return err
			}
			e.ExpireAtMs, prefixed = int64(v), true
			continue
		case opExpireSec:
			if err := r.need(4); err != nil {
				return err
			}
			// Signed, as the server reads it.
			e.ExpireAtMs = int64(int32(binary.LittleEndian.Uint32(r.buf[r.pos:]))) * 1000
			r.pos += 4
			prefixed = true
			continue
		case opIdle:
			v, err := r.readLen()
			if err != nil {
				return err
			}
			if v > math.MaxInt64 {
				return r.corrupt("idle time out of range")
			}
			e.Idle, prefixed = int64(v), true
			continue
		case opFreq:
			v, err := r.readByte()
			if err != nil {
				return err
			}
			e.Freq, prefixed = int(v), true
			continue
		}
		if op < op242 {
			return r.readEntry(op, e)
		}
		if prefixed {
			return r.corrupt("expiry, idle time or frequency without an entry")
		}
		*e = Entry{}
		return r.readOpcode(op)
	}
}

// readMagic reads REDIS and four digits, or VALKEY and three. A version above those we know is no error: types and
// opcodes are refused one by one, and a layout that changed under an old number would break the checksum.
func (r *Reader) readMagic() error {
	if err := r.need(9); err != nil {
		return err
	}
	magic := r.buf[r.pos : r.pos+9]
	digits := magic[5:]
	switch {
	case string(magic[:5]) == "REDIS":
	case string(magic[:6]) == "VALKEY":
		digits, r.valkey = magic[6:], true
	default:
		return r.corrupt("no REDIS or VALKEY magic")
	}
	version := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return r.corrupt("magic without version digits")
		}
		version = version*10 + int(c-'0')
	}
	if version == 0 {
		return r.corrupt("version 0")
	}
	r.pos += 9
	r.version = version
	return nil
}

// readOpcode reads the body of an opcode that is an item of its own, or ends the stream.
func (r *Reader) readOpcode(op byte) error {
	switch op {
	case opSelectDB:
		db, err := r.readLen()
		if err != nil {
			return err
		}
		if db > math.MaxInt32 {
			return r.corrupt("database number out of range")
		}
		r.db = int(db)
		r.item.Kind, r.item.DB = KindSelectDB, r.db
		return nil
	case opResizeDB:
		keys, err := r.readLen()
		if err != nil {
			return err
		}
		expires, err := r.readLen()
		if err != nil {
			return err
		}
		r.item.Kind, r.item.ResizeDB = KindResizeDB, ResizeDB{KeyCount: keys, ExpireCount: expires}
		return nil
	case opSlotInfo:
		return r.readSlotInfo()
	case opAux:
		return r.readAux()
	case OpFunction:
		r.what, r.mark = "function", r.pos-r.start
		if err := r.skipStrings(1); err != nil {
			return err
		}
		r.item.Kind, r.item.Function = KindFunction, r.marked()
		return r.checkSize()
	case opModuleAux:
		return r.readModuleAux()
	case opEOF:
		return r.readEnd()
	}
	return r.unsupportedOpcode(op)
}

func (r *Reader) unsupportedOpcode(op byte) error {
	name := "unknown"
	switch {
	case op == opFunctionPre:
		name = "function of a release candidate of 7.0"
	case op == op243 && r.valkey:
		name = "slot import"
	case op == op243:
		name = "key metadata of modules"
	case op == op242 && r.valkey:
		name = "commands within the snapshot"
	}
	return &UnsupportedError{What: fmt.Sprintf("opcode %d (%s)", op, name), Offset: r.Consumed() - 1}
}

func (r *Reader) readSlotInfo() error {
	var v [3]uint64
	for i := range v {
		n, err := r.readLen()
		if err != nil {
			return err
		}
		v[i] = n
	}
	if v[0] > 16383 {
		return r.corrupt("slot out of range")
	}
	r.item.Kind, r.item.SlotInfo = KindSlotInfo, SlotInfo{Slot: uint16(v[0]), KeyCount: v[1], ExpireCount: v[2]}
	return nil
}

func (r *Reader) readAux() error {
	r.what, r.mark = "aux field", r.pos-r.start
	key, err := r.readString(&r.keyBuf)
	if err != nil {
		return err
	}
	value, err := r.readString(&r.auxBuf)
	if err != nil {
		return err
	}
	r.item.Kind, r.item.Aux = KindAux, Aux{Key: r.bytes(key, r.keyBuf), Value: r.bytes(value, r.auxBuf)}
	return r.checkSize()
}

func (r *Reader) readModuleAux() error {
	r.what, r.mark = "module aux", r.pos-r.start
	id, err := r.readLen()
	if err != nil {
		return err
	}
	// "When" (before or after the keys) is written as a module's value, so the generic framing covers it.
	if err := r.skipModuleBody(); err != nil {
		return err
	}
	r.item.Kind, r.item.ModuleAux = KindModuleAux, ModuleAux{ModuleID: id, Data: r.marked()}
	return r.checkSize()
}

// readEntry reads key and value of an entry whose type byte has just been read.
func (r *Reader) readEntry(typ byte, e *Entry) error {
	typeAt := r.Consumed() - 1
	skim, known := r.skimmer(typ)
	if !known && !plausibleType(typ) {
		return &UnsupportedError{What: typeName(typ, r.valkey), Offset: typeAt}
	}
	r.what, r.mark = "key", r.pos-r.start
	key, err := r.readString(&r.keyBuf)
	if err != nil {
		return err
	}
	if err := r.checkSize(); err != nil {
		return err
	}
	r.key = key
	if !known {
		k := append([]byte{}, r.bytes(key, r.keyBuf)...)
		return &UnsupportedError{What: typeName(typ, r.valkey), Key: k, Offset: typeAt}
	}
	r.what, r.mark = "value", r.pos-r.start
	e.DB, e.Type = r.db, typ
	r.cutting = r.piece > 0
	err = r.skimValue(skim)
	if err == nil {
		err = r.bound()
	}
	r.cutting = false
	if err != nil {
		return err
	}
	r.item.Kind = KindEntry
	e.Key, e.Value = r.bytes(r.key, r.keyBuf), r.marked()
	return nil
}

// readEnd verifies the checksum. It always returns an error: io.EOF if all is well.
func (r *Reader) readEnd() error {
	if r.version < 5 {
		return io.EOF
	}
	r.sum()
	at, computed := r.Consumed(), r.crc
	stored, err := r.readUint64()
	if err != nil {
		return err
	}
	if stored != 0 && stored != computed {
		what := fmt.Sprintf("checksum mismatch (stored %016x, computed %016x)", stored, computed)
		return &FormatError{What: what, Offset: at, Err: ErrChecksum}
	}
	return io.EOF
}

// readString reads a string and decodes it where it does not stand in the buffer as it is.
func (r *Reader) readString(scratch *[]byte) (keyRef, error) {
	b, err := r.peekByte()
	if err != nil {
		return keyRef{}, err
	}
	if b>>6 != 3 {
		n, err := r.readLen()
		if err != nil {
			return keyRef{}, err
		}
		off := r.pos - r.start
		if err := r.skip(n); err != nil {
			return keyRef{}, err
		}
		return keyRef{off: off, n: int(n)}, nil
	}
	from := r.pos - r.start
	if err := r.skipStrings(1); err != nil {
		return keyRef{}, err
	}
	out, err := r.decodeString((*scratch)[:0], r.buf[r.start+from:r.pos])
	if err != nil {
		return keyRef{}, err
	}
	*scratch = out
	return keyRef{n: len(out), decoded: true}, nil
}

// decodeString appends what the specially encoded string raw stands for. raw is complete.
func (r *Reader) decodeString(dst, raw []byte) ([]byte, error) {
	switch raw[0] & 63 {
	case encInt8:
		return strconv.AppendInt(dst, int64(int8(raw[1])), 10), nil
	case encInt16:
		return strconv.AppendInt(dst, int64(int16(binary.LittleEndian.Uint16(raw[1:]))), 10), nil
	case encInt32:
		return strconv.AppendInt(dst, int64(int32(binary.LittleEndian.Uint32(raw[1:]))), 10), nil
	}
	_, n := decodeLen(raw[1:])
	raw = raw[1+n:]
	size, n := decodeLen(raw)
	if size > uint64(r.max) {
		return nil, r.tooLarge(size)
	}
	dst, err := appendLZF(dst, raw[n:], size)
	if err != nil {
		return nil, r.corrupt("corrupt LZF data")
	}
	return dst, nil
}

func (r *Reader) bytes(k keyRef, decoded []byte) []byte {
	if k.decoded {
		return decoded[:k.n:k.n]
	}
	off := r.start + k.off
	return r.buf[off : off+k.n : off+k.n]
}

// marked is the bounded part of the current item.
func (r *Reader) marked() []byte { return r.buf[r.start+r.mark : r.pos : r.pos] }

// checkSize catches what outgrew the limit by small steps within the buffer, so that the limit does not depend on how
// the bytes arrived.
func (r *Reader) checkSize() error {
	if size := r.pos - r.start - r.mark; int64(size) > r.max {
		return r.tooLarge(uint64(size))
	}
	return nil
}

func (r *Reader) tooLarge(size uint64) error {
	e := &TooLargeError{What: r.what, SizeBytes: size, LimitBytes: r.max, Offset: r.itemAt}
	if r.what == "value" {
		e.Key = append([]byte{}, r.bytes(r.key, r.keyBuf)...)
	}
	return e
}

func (r *Reader) corrupt(what string) error {
	return &FormatError{What: what, Offset: r.Consumed()}
}

// sum brings the checksum up to pos.
func (r *Reader) sum() {
	r.crc = CRC64(r.crc, r.buf[r.summed:r.pos])
	r.summed = r.pos
}

// need makes n bytes available at pos; n is small.
func (r *Reader) need(n int) error {
	for r.end-r.pos < n {
		if err := r.fill(); err != nil {
			return err
		}
	}
	return nil
}

// skip passes n bytes of the current item.
func (r *Reader) skip(n uint64) error {
	if n <= uint64(r.end-r.pos) {
		r.pos += int(n)
		return nil
	}
	have := uint64(r.pos - r.start - r.mark)
	if !r.cutting && (n > uint64(r.max) || have+n > uint64(r.max)) {
		if n < math.MaxUint64-have {
			n += have
		}
		return r.tooLarge(n)
	}
	for avail := uint64(r.end - r.pos); n > avail; avail = uint64(r.end - r.pos) {
		n -= avail
		r.pos = r.end
		if err := r.fill(); err != nil {
			return err
		}
	}
	r.pos += int(n)
	return nil
}

// fill reads at least one byte behind end, making room first.
func (r *Reader) fill() error {
	if err := r.bound(); err != nil {
		return err
	}
	// Here and not per item: the bytes are still in the cache and come in large pieces.
	r.sum()
	if r.start > 0 && (r.end == len(r.buf) || r.start == r.end) {
		r.move(r.buf)
	}
	if r.end == len(r.buf) {
		r.move(make([]byte, max(bufferBytes, 2*len(r.buf))))
	}
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			return fmt.Errorf("read rdb at offset %d: source returned an invalid count", r.Consumed())
		}
		r.end += n
		if n > 0 {
			return nil // an error that came along comes again
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("read rdb at offset %d: %w", r.base+int64(r.end), err)
		}
	}
	return fmt.Errorf("read rdb at offset %d: %w", r.base+int64(r.end), io.ErrNoProgress)
}

// move puts buf[start:end] at the front of dst, which becomes the buffer.
func (r *Reader) move(dst []byte) {
	n := copy(dst, r.buf[r.start:r.end])
	r.base += int64(r.start)
	r.pos -= r.start
	r.summed -= r.start
	r.start, r.end, r.buf = 0, n, dst
}

// shrink gives a buffer back that one large item needed.
func (r *Reader) shrink() {
	r.sum()
	r.move(make([]byte, bufferBytes))
}
