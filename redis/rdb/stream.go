package rdb

import "encoding/binary"

// Flags of an entry in a stream's listpack (src/stream.h).
const (
	entryDeleted    = 1
	entrySameFields = 2
)

// pendingBytes is what an entry of a pending table takes.
const pendingBytes = 40

// streamState is where we are in a stream:
//
//	nodes: first id (string of 16 bytes), listpack string
//	length, last id; from type 19 on first id, largest deleted id, entries added
//	groups: name, last id, entries read (from type 19 on); pending: raw id, delivery time, count;
//	  consumers: name, seen time, active time (from type 21 on), pending: raw id
//	producers (from type 26 on): seconds, messages; producers: name, messages: id, entry's id; two totals
//
// The listpack of a node begins with its master entry: count, deleted, number of fields, fields, 0. Each entry follows as
// flags, id as two differences, then number of fields and fields and values, or only values if it has the master's
// fields, and how many entries of the listpack it takes.
type streamState struct {
	version int // of the layout, 1 to 4

	master       StreamID
	masterFields int64
	masterPos    int // in the blob, of the first master field

	fields [][]byte

	groups, consumers, pendingLeft uint64
	group, consumer                []byte
	// pending is the group's pending entries, ascending by id, and hint where the next one looked for may be.
	pending []pendingEntry
	hint    int
	owned   int

	producers, messages uint64
	producer            []byte
}

type pendingEntry struct {
	id            StreamID
	deliveredAtMs int64
	count         uint64
	owned         bool
}

func (d *Decoder) beginStream() error {
	s := &d.stream
	switch d.typ {
	case typeStream2:
		s.version = 2
	case typeStream3:
		s.version = 3
	case typeStream4:
		s.version = 4
	default:
		s.version = 1
	}
	if cap(s.pending)*pendingBytes > keepBufferBytes {
		s.pending = nil
	}
	if cap(s.fields)*24 > keepBufferBytes {
		s.fields = nil
	}
	if err := d.count(); err != nil {
		return err
	}
	d.step = (*Decoder).nextEntry
	return d.nextEntry()
}

// emit begins an element of a stream, of which no field but those of its kind may hold anything.
func (d *Decoder) emit(kind ElementKind) *Element {
	d.el = Element{Kind: kind}
	return &d.el
}

func (d *Decoder) nextEntry() error {
	var c cell
	for {
		if !d.blob.open {
			if d.left == 0 {
				d.step = (*Decoder).nextGroup
				return d.streamMeta()
			}
			d.left--
			if err := d.openStreamNode(); err != nil {
				return err
			}
		}
		ok, err := d.cell(&c)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if !c.isNum {
			return d.blobError(errBlobNumber)
		}
		if deleted, err := d.readEntry(c.n); err != nil || !deleted {
			return err
		}
	}
}

// openStreamNode reads the id of a node and opens its listpack behind the master entry.
func (d *Decoder) openStreamNode() error {
	s := &d.stream
	d.in.mark = d.in.pos
	d.scratch = d.scratch[:0]
	t, err := d.in.readText(&d.scratch)
	if err != nil {
		return err
	}
	id := d.in.bytes(t)
	if len(id) != 16 {
		return d.in.corrupt("id of a stream's node has not 16 bytes")
	}
	s.master = StreamID{Ms: binary.BigEndian.Uint64(id), Seq: binary.BigEndian.Uint64(id[8:])}
	if err := d.openBlob(blobListpack); err != nil {
		return err
	}
	for range 2 { // count, deleted
		if _, err := d.number(); err != nil {
			return err
		}
	}
	if s.masterFields, err = d.fieldCount(); err != nil {
		return err
	}
	s.masterPos = d.blob.pos
	var c cell
	for range s.masterFields {
		if err := d.moreCell(&c); err != nil {
			return err
		}
	}
	return d.moreCell(&c) // the master entry's end
}

// fieldCount reads how many fields follow. A field takes two bytes at least.
func (d *Decoder) fieldCount() (int64, error) {
	n, err := d.number()
	if err == nil && (n < 0 || n > int64(len(d.blob.p)/2)) {
		err = d.blobError(errBlobOverrun)
	}
	return n, err
}

// readEntry reads an entry whose flags have just been read.
func (d *Decoder) readEntry(flags int64) (deleted bool, err error) {
	s := &d.stream
	ms, err := d.number()
	if err != nil {
		return false, err
	}
	seq, err := d.number()
	if err != nil {
		return false, err
	}
	n, same := s.masterFields, flags&entrySameFields != 0
	if !same {
		if n, err = d.fieldCount(); err != nil {
			return false, err
		}
	}
	deleted = flags&entryDeleted != 0
	fields := s.fields[:0]
	fieldPos := s.masterPos
	var field, value cell
	for range n {
		if same {
			// The master's fields were read once: they are well formed.
			if fieldPos, err = listpackEntry(d.blob.p, fieldPos, &field); err != nil {
				return false, d.blobError(err)
			}
		} else if err := d.moreCell(&field); err != nil {
			return false, err
		}
		if err := d.moreCell(&value); err != nil {
			return false, err
		}
		if !deleted {
			fields = append(fields, d.text(&field), d.text(&value))
		}
	}
	s.fields = fields
	if _, err = d.number(); err != nil { // how many entries of the listpack it takes
		return false, err
	}
	if !deleted {
		e := d.emit(ElementEntry)
		// Differences may be negative: an id smaller in its second part, under a larger first one.
		e.ID = StreamID{Ms: s.master.Ms + uint64(ms), Seq: s.master.Seq + uint64(seq)}
		e.Fields = fields
	}
	return deleted, nil
}

func (d *Decoder) streamMeta() error {
	d.in.mark = d.in.pos
	m := &d.emit(ElementMeta).Meta
	if err := d.in.readLens(&m.Length, &m.LastID.Ms, &m.LastID.Seq); err != nil {
		return err
	}
	if d.stream.version >= 2 {
		m.Known = true
		if err := d.in.readLens(&m.FirstID.Ms, &m.FirstID.Seq, &m.MaxDeletedID.Ms, &m.MaxDeletedID.Seq,
			&m.EntriesAdded); err != nil {
			return err
		}
	}
	return d.in.readLens(&d.stream.groups)
}
