package rdb

import (
	"io"
)

// defaultPieceBytes is the longest piece of a string if the configuration does not say.
const defaultPieceBytes = 1 << 20

// Format tells which grammar the bytes of a value have: the two families of servers number some types differently.
// Everything else about a layout follows from the type byte.
type Format struct {
	Version int // of the RDB: the number in its magic, or in the footer of a payload
	Valkey  bool
}

// FormatOf gives the format of a DUMP payload, whose footer says no more than a version. Valkey's own versions begin at
// 80; below 12 both families write the same.
func FormatOf(version int) Format { return Format{Version: version, Valkey: version >= 80} }

// Format is the format of the values in the stream; the zero Format before the first Next.
func (r *Reader) Format() Format { return Format{Version: r.version, Valkey: r.valkey} }

// DecoderConfig bounds a Decoder. The zero value is ready for use.
type DecoderConfig struct {
	// MaxBlobBytes bounds what a Decoder holds in memory at once of one value; 0 means 512 MB. It applies to each
	// compressed string (a listpack or ziplist is a string), unpacked, but for that of ValueString when reading; to what one group of a stream has pending,
	// with 40 bytes for each entry; to a module's value. When reading from an io.Reader it also applies to each
	// listpack or ziplist and each string but that of ValueString, which comes in pieces. The slices of one stream
	// entry take up to 24 bytes for each of its fields and values in addition.
	MaxBlobBytes int64
	// PieceBytes is the longest piece of a string; 0 means 1 MB.
	PieceBytes int
}

// Decoder splits one value after the other into its elements. The zero Decoder is not valid.
//
// It allocates when a value needs larger buffers than any before it, and for errors. It does not judge expiry, and it
// does not look for members or fields that occur twice.
type Decoder struct {
	in    input
	piece int
	typ   byte
	kind  ValueKind
	err   error // sticky, io.EOF too

	// step reads the next element into el. It is a method's expression and no method value, which would be allocated.
	step func(*Decoder) error
	el   Element

	left    uint64 // elements, tuples or nodes still to come
	minTime uint64 // what expiry times of hash fields are relative to

	blob    blob
	blobBuf []byte // a blob or string that had to be unpacked
	scratch []byte // texts of the current element that do not stand in the value as they are

	str    stringState
	stream streamState
}

// NewDecoder returns a Decoder. It decodes nothing before ResetBytes or Reset.
func NewDecoder(cfg DecoderConfig) *Decoder {
	if cfg.MaxBlobBytes <= 0 {
		cfg.MaxBlobBytes = defaultMaxValueBytes
	}
	if cfg.PieceBytes <= 0 {
		cfg.PieceBytes = defaultPieceBytes
	}
	d := &Decoder{in: input{limit: uint64(cfg.MaxBlobBytes)}, piece: cfg.PieceBytes, err: io.EOF}
	return d
}

// ResetBytes begins with a value that is all in memory: what an [Entry] has as Value, or [SplitPayload] gives. value
// must not change until the next reset; elements point into it.
func (d *Decoder) ResetBytes(typ byte, value []byte, f Format) {
	d.in.resetBytes(value)
	d.begin(typ, f)
}

// Reset begins with a value that r gives. r must end with the value. It is read in pieces, and not before Next.
func (d *Decoder) Reset(typ byte, r io.Reader, f Format) {
	d.in.reset(r)
	d.begin(typ, f)
}

// Kind is the kind of the current value; 0 if its type is not known, which Next reports.
func (d *Decoder) Kind() ValueKind { return d.kind }

// Next returns the next element, and io.EOF when the value has ended where its bytes end. Errors are final. They are
// [FormatError], [UnsupportedError] and [TooLargeError], whose offsets count from the value's first byte, behind the type
// byte, or the error of the reader.
func (d *Decoder) Next() (*Element, error) {
	if d.err != nil {
		return nil, d.err
	}
	d.scratch = d.scratch[:0]
	if d.err = d.step(d); d.err != nil {
		return nil, d.err
	}
	return &d.el, nil
}

func (d *Decoder) begin(typ byte, f Format) {
	d.typ, d.err = typ, nil
	d.left, d.minTime = 0, 0
	d.blob = blob{}
	if cap(d.blobBuf) > keepBufferBytes {
		d.blobBuf = nil
	}
	if cap(d.scratch) > keepBufferBytes {
		d.scratch = nil
	}
	t, ok := valueTypeOf(typ, f)
	if !ok {
		d.kind = 0
		d.err = &UnsupportedError{What: typeName(typ, f.Valkey)}
		return
	}
	d.kind, d.step = t.kind, t.step
	d.el.Kind = t.element
}

// finish ends a value that is complete: nothing may follow it.
func (d *Decoder) finish() error {
	end, err := d.in.atEnd()
	if err != nil {
		return err
	}
	if !end {
		return d.in.corrupt("bytes behind the value")
	}
	return io.EOF
}

// valueType is how the value of a type byte is decoded.
type valueType struct {
	kind    ValueKind
	element ElementKind // of all its elements, except for streams
	step    func(*Decoder) error
}

// KindOf tells the kind of value a type byte stands for, and whether a Decoder can decode it.
func KindOf(typ byte, f Format) (ValueKind, bool) {
	t, ok := valueTypeOf(typ, f)
	return t.kind, ok
}

func valueTypeOf(typ byte, f Format) (valueType, bool) {
	switch typ {
	case typeString:
		return valueType{ValueString, ElementPiece, (*Decoder).beginString}, true
	case typeList:
		return valueType{ValueList, ElementItem, (*Decoder).beginTexts}, true
	case typeSet:
		return valueType{ValueSet, ElementMember, (*Decoder).beginTexts}, true
	case typeZset, typeZset2:
		return valueType{ValueZset, ElementScored, (*Decoder).beginScored}, true
	case typeHash:
		return valueType{ValueHash, ElementField, (*Decoder).beginFields}, true
	case typeModule2:
		return valueType{ValueModule, ElementModule, (*Decoder).nextModule}, true
	case typeListZiplist, typeListQuick, typeListQuick2:
		return valueType{ValueList, ElementItem, (*Decoder).beginNodes}, true
	case typeSetIntset, typeSetListpack:
		return valueType{ValueSet, ElementMember, (*Decoder).beginNodes}, true
	case typeZsetZiplist, typeZsetListpack:
		return valueType{ValueZset, ElementScored, (*Decoder).beginNodes}, true
	case typeHashZipmap, typeHashZiplist, typeHashListpack:
		return valueType{ValueHash, ElementField, (*Decoder).beginNodes}, true
	case typeStream, typeStream2, typeStream3:
		return valueType{ValueStream, ElementEntry, (*Decoder).beginStream}, true
	}
	if f.Valkey {
		if typ == typeHashTTLValkey {
			return valueType{ValueHash, ElementField, (*Decoder).beginValkeyFields}, true
		}
		return valueType{}, false
	}
	switch typ {
	case typeHashTTLPre, typeHashTTL:
		return valueType{ValueHash, ElementField, (*Decoder).beginTimedFields}, true
	case typeHashLPEXPre, typeHashListpackEX:
		return valueType{ValueHash, ElementField, (*Decoder).beginNodes}, true
	case typeStream4:
		return valueType{ValueStream, ElementEntry, (*Decoder).beginStream}, true
	}
	return valueType{}, false
}
