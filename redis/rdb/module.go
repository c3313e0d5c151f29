package rdb

// nextModule reads a module's value, which is opaque: id, then what the module wrote, up to its end mark. The value is
// given whole, with the id in front.
func (d *Decoder) nextModule() error {
	d.in.mark = d.in.pos
	id, err := d.in.readLen()
	if err != nil {
		return err
	}
	for more := true; more; {
		if more, err = d.passModuleField(); err != nil {
			return err
		}
		if size := uint64(d.in.pos - d.in.mark); size > d.in.limit {
			return d.in.tooLarge("module value", size)
		}
	}
	d.step = (*Decoder).finish
	d.el.ModuleID, d.el.Value = id, d.in.buf[d.in.mark:d.in.pos:d.in.pos]
	return nil
}

// passModuleField passes one value that a module wrote, behind a code of its kind.
func (d *Decoder) passModuleField() (more bool, err error) {
	code, err := d.in.readLen()
	if err != nil {
		return false, err
	}
	switch code {
	case 0:
		return false, nil
	case 1, 2: // signed, unsigned
		_, err = d.in.readLen()
	case 3: // float
		err = d.in.take(4)
	case 4: // double
		err = d.in.take(8)
	case 5:
		err = d.passText()
	default:
		err = d.in.corrupt("unknown code in a module's value")
	}
	return true, err
}

// passText passes a string without unpacking it.
func (d *Decoder) passText() error {
	if err := d.in.need(1); err != nil {
		return err
	}
	b := d.in.buf[d.in.pos]
	if b>>6 != 3 {
		n, err := d.in.readLen()
		if err != nil {
			return err
		}
		return d.in.take(n)
	}
	switch enc := b & 63; enc {
	case encInt8, encInt16, encInt32:
		return d.in.take(1 + 1<<enc)
	case encLZF:
		d.in.pos++
		var packed, size uint64
		if err := d.in.readLens(&packed, &size); err != nil {
			return err
		}
		return d.in.take(packed)
	}
	return d.in.corrupt("unknown string encoding")
}
