package rdb

import "errors"

// blobKind is the grammar of a blob: a string in which a server packs a small collection.
type blobKind uint8

const (
	blobListpack blobKind = iota + 1
	blobZiplist
	blobIntset
	blobZipmap
)

// What is wrong with a blob. Where it is wrong is told by the FormatError that carries one of these.
var (
	errBlobHeader  = errors.New("size in the header differs")
	errBlobOverrun = errors.New("entry overruns")
	errBlobEntry   = errors.New("no valid entry")
	errBlobEnd     = errors.New("bytes behind the end mark")
	errBlobTuple   = errors.New("ends within a tuple")
	errBlobNumber  = errors.New("entry is no number")
	errBlobTime    = errors.New("expiry time out of range")
)

// String names the grammar in errors.
func (k blobKind) String() string {
	switch k {
	case blobListpack:
		return "listpack"
	case blobZiplist:
		return "ziplist"
	case blobIntset:
		return "intset"
	case blobZipmap:
		return "zipmap"
	}
	return "none"
}

// blob is a blob being read. Its bytes stand in the value or, if they were compressed, in a buffer; either way they
// stay where they are until the next blob is opened.
type blob struct {
	kind  blobKind
	open  bool
	odd   bool // zipmap: a value comes next
	width int  // intset: bytes of a number
	p     []byte
	pos   int
	at    int64 // offset of p in the value, or of the string that was unpacked to p
	moved bool  // p was unpacked
}

// cell is one entry of a blob: bytes, or a number.
type cell struct {
	b     []byte
	n     int64
	isNum bool
}

// start checks the header and goes to the first entry.
func (b *blob) start() (err error) {
	switch b.kind {
	case blobListpack:
		b.pos, err = listpackStart(b.p)
	case blobZiplist:
		b.pos, err = ziplistStart(b.p)
	case blobIntset:
		b.pos, b.width, err = intsetStart(b.p)
	case blobZipmap:
		b.pos, err = zipmapStart(b.p)
	}
	return err
}

// next reads an entry into c; ok is false at the end, which must be the end of the bytes too.
func (b *blob) next(c *cell) (ok bool, err error) {
	switch b.kind {
	case blobListpack:
		if b.pos < len(b.p) && b.p[b.pos] == listpackEnd {
			return false, b.checkEnd()
		}
		b.pos, err = listpackEntry(b.p, b.pos, c)
	case blobZiplist:
		if b.pos < len(b.p) && b.p[b.pos] == ziplistEnd {
			return false, b.checkEnd()
		}
		b.pos, err = ziplistEntry(b.p, b.pos, c)
	case blobIntset:
		if b.pos == len(b.p) {
			return false, nil
		}
		c.n, c.isNum = leInt(b.p[b.pos:b.pos+b.width]), true
		b.pos += b.width
	case blobZipmap:
		if b.pos < len(b.p) && b.p[b.pos] == zipmapEnd && !b.odd {
			return false, b.checkEnd()
		}
		b.pos, err = zipmapEntry(b.p, b.pos, b.odd, c)
		b.odd = !b.odd
	}
	return true, err
}

func (b *blob) checkEnd() error {
	if b.pos != len(b.p)-1 {
		return errBlobEnd
	}
	return nil
}

// openBlob reads a string of the value as a blob.
func (d *Decoder) openBlob(kind blobKind) error {
	d.in.mark = d.in.pos
	at := d.in.offset()
	d.blobBuf = d.blobBuf[:0]
	t, err := d.in.readText(&d.blobBuf)
	if err != nil {
		return err
	}
	d.blob = blob{kind: kind, open: true, p: d.in.bytes(t), at: at, moved: t.n < 0}
	if t.n >= 0 {
		d.blob.at = d.in.base + int64(d.in.mark+t.off)
	}
	if err := d.blob.start(); err != nil {
		return d.blobError(err)
	}
	return nil
}

// blobError says where in the value a blob is wrong; in what was unpacked, where the packed bytes begin.
func (d *Decoder) blobError(err error) error {
	b := &d.blob
	e := &FormatError{What: b.kind.String() + ": " + err.Error(), Offset: b.at + int64(b.pos)}
	if b.moved {
		e.Offset = b.at
	}
	return e
}

// cell reads the next entry of the open blob into c; ok is false at its end.
func (d *Decoder) cell(c *cell) (ok bool, err error) {
	if ok, err = d.blob.next(c); err != nil {
		return false, d.blobError(err)
	}
	if !ok {
		d.blob.open = false
	}
	return ok, nil
}

// moreCell reads the next entry of a tuple that has begun into c.
func (d *Decoder) moreCell(c *cell) error {
	ok, err := d.cell(c)
	if err == nil && !ok {
		err = d.blobError(errBlobTuple)
	}
	return err
}

// number reads the next entry of a tuple, which is to be a number.
func (d *Decoder) number() (int64, error) {
	var c cell
	err := d.moreCell(&c)
	if err == nil && !c.isNum {
		err = d.blobError(errBlobNumber)
	}
	return c.n, err
}

// text is the entry as Redis shows it.
func (d *Decoder) text(c *cell) []byte {
	if !c.isNum {
		return c.b
	}
	from := len(d.scratch)
	d.scratch = appendInt(d.scratch, c.n)
	return d.scratch[from:len(d.scratch):len(d.scratch)]
}

// beginNodes begins a value that is one blob, or a list of several.
func (d *Decoder) beginNodes() error {
	d.left = 1
	d.el.ExpireAtMs = 0
	switch d.typ {
	case typeListQuick, typeListQuick2:
		if err := d.count(); err != nil {
			return err
		}
	case typeHashListpackEX:
		// the earliest expiry time, for the server's own use
		if _, err := d.in.readUint64(); err != nil {
			return err
		}
	}
	d.step = (*Decoder).nextOfNodes
	return d.nextOfNodes()
}

func (d *Decoder) nextOfNodes() error {
	var c cell
	for {
		if !d.blob.open {
			if err := d.tuple(); err != nil {
				return err
			}
			if plain, err := d.openNode(); plain || err != nil {
				return err
			}
		}
		ok, err := d.cell(&c)
		if err != nil {
			return err
		}
		if ok {
			return d.emitCells(&c)
		}
	}
}

// openNode opens the next blob. In a quicklist of Redis 7 a large item stands in a node of its own as it is: that is
// then the element.
func (d *Decoder) openNode() (plain bool, err error) {
	if d.typ != typeListQuick2 {
		return false, d.openBlob(blobKindOf(d.typ))
	}
	container, err := d.in.readLen()
	if err != nil {
		return false, err
	}
	switch container {
	case 1:
		d.in.mark = d.in.pos
		t, err := d.in.readText(&d.scratch)
		if err != nil {
			return false, err
		}
		d.el.Value = d.in.bytes(t)
		return true, nil
	case 2:
		return false, d.openBlob(blobListpack)
	}
	return false, d.in.corrupt("unknown container of a list's node")
}

func blobKindOf(typ byte) blobKind {
	switch typ {
	case typeHashZipmap:
		return blobZipmap
	case typeSetIntset:
		return blobIntset
	case typeListZiplist, typeListQuick, typeZsetZiplist, typeHashZiplist:
		return blobZiplist
	}
	return blobListpack
}

// emitCells makes an element of a tuple of which c is the first entry.
func (d *Decoder) emitCells(c *cell) error {
	switch d.kind {
	case ValueZset:
		d.el.Value = d.text(c)
		if err := d.moreCell(c); err != nil {
			return err
		}
		if c.isNum {
			d.el.Score = float64(c.n)
			return nil
		}
		score, ok := parseScore(c.b)
		if !ok {
			return d.blobError(errBlobNumber)
		}
		d.el.Score = score
		return nil
	case ValueHash:
		d.el.Field = d.text(c)
		if err := d.moreCell(c); err != nil {
			return err
		}
		d.el.Value = d.text(c)
		if d.typ != typeHashListpackEX && d.typ != typeHashLPEXPre {
			return nil
		}
		at, err := d.number()
		if err != nil {
			return err
		}
		if at < 0 || at > maxFieldTime {
			return d.blobError(errBlobTime)
		}
		d.el.ExpireAtMs = at
		return nil
	default:
		d.el.Value = d.text(c)
		return nil
	}
}
