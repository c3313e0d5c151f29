package rdb

// lzfReach is how far back a copy can reach: 13 bits of distance.
const lzfReach = 1 << 13

// lzfState is where we are in a compressed string that comes in pieces.
//
// Invariant: Decoder.blobBuf holds what was unpacked and is still needed: up to from what was given already and can be
// copied from, behind it what is not given yet.
type lzfState struct {
	packed uint64 // bytes still to be read
	made   uint64 // bytes unpacked so far
	from   int
}

// beginPackedString begins a compressed string that is read: it is not unpacked as a whole, whatever its size.
func (d *Decoder) beginPackedString() error {
	d.in.pos++
	s := &d.str
	if err := d.in.readLens(&s.lzf.packed, &s.total); err != nil {
		return err
	}
	if s.total > maxStringBytes {
		return d.in.corrupt("string length out of range")
	}
	d.blobBuf = d.blobBuf[:0]
	d.step = (*Decoder).nextPackedPiece
	return d.emitPackedPiece()
}

func (d *Decoder) nextPackedPiece() error {
	if d.str.sent == d.str.total {
		return d.finish()
	}
	return d.emitPackedPiece()
}

func (d *Decoder) emitPackedPiece() error {
	s, l := &d.str, &d.str.lzf
	if drop := l.from - lzfReach; drop > 0 {
		d.blobBuf = d.blobBuf[:copy(d.blobBuf, d.blobBuf[drop:])]
		l.from = lzfReach
	}
	for len(d.blobBuf)-l.from < d.piece && l.packed > 0 {
		before := len(d.blobBuf)
		if err := d.unpackOne(); err != nil {
			return err
		}
		if l.made += uint64(len(d.blobBuf) - before); l.made > s.total {
			return d.in.corrupt("corrupt LZF data")
		}
	}
	if l.packed == 0 && l.made != s.total {
		return d.in.corrupt("corrupt LZF data")
	}
	n := min(d.piece, len(d.blobBuf)-l.from)
	d.el.Offset, d.el.TotalBytes = int64(s.sent), int64(s.total)
	d.el.Value = d.blobBuf[l.from : l.from+n : l.from+n]
	l.from += n
	s.sent += uint64(n)
	return nil
}

// unpackOne appends what the next control byte stands for, see appendLZF.
func (d *Decoder) unpackOne() error {
	l := &d.str.lzf
	d.in.mark = d.in.pos
	if err := d.takePacked(1); err != nil {
		return err
	}
	c := int(d.in.buf[d.in.pos-1])
	if c < 32 {
		if err := d.takePacked(c + 1); err != nil {
			return err
		}
		d.blobBuf = append(d.blobBuf, d.in.buf[d.in.pos-c-1:d.in.pos]...)
		return nil
	}
	length, distance := c>>5, c&31<<8
	if length == 7 {
		if err := d.takePacked(1); err != nil {
			return err
		}
		length += int(d.in.buf[d.in.pos-1])
	}
	if err := d.takePacked(1); err != nil {
		return err
	}
	distance += int(d.in.buf[d.in.pos-1]) + 1
	from := len(d.blobBuf) - distance
	if from < 0 || uint64(distance) > l.made {
		return d.in.corrupt("corrupt LZF data")
	}
	for length += 2; length > 0; {
		k := min(length, len(d.blobBuf)-from)
		d.blobBuf = append(d.blobBuf, d.blobBuf[from:from+k]...)
		length -= k
	}
	return nil
}

// takePacked passes n bytes of the compressed string.
func (d *Decoder) takePacked(n int) error {
	l := &d.str.lzf
	if uint64(n) > l.packed {
		return d.in.corrupt("corrupt LZF data")
	}
	if err := d.in.need(n); err != nil {
		return err
	}
	d.in.pos += n
	l.packed -= uint64(n)
	return nil
}
