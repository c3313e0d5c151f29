package rdb

// bound keeps what is held of the current item within its limit: a value that is cut gives its pieces away, all else must
// not be larger.
func (r *Reader) bound() error {
	if !r.cutting {
		return r.checkSize()
	}
	for r.pos-r.start-r.mark > r.piece {
		if err := r.cut(); err != nil {
			return err
		}
	}
	return nil
}

// cut hands out one piece. What stands before it in the buffer goes too, but for the key, which is kept aside.
func (r *Reader) cut() error {
	e := &r.item.Entry
	if e.Handed == 0 && !r.key.decoded {
		r.keyBuf = append(r.keyBuf[:0], r.bytes(r.key, nil)...)
		r.key = keyRef{n: r.key.n, decoded: true}
	}
	e.Key = r.bytes(r.key, r.keyBuf)
	from := r.start + r.mark
	to := from + r.piece
	if err := r.hand(e, r.buf[from:to:to]); err != nil {
		return err
	}
	e.Handed += int64(r.piece)
	r.start, r.mark = to, 0
	return nil
}
