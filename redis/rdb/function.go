package rdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Text decodes a string as an RDB holds it, such as the library of a KindFunction item. The result may alias encoded.
func Text(encoded []byte) ([]byte, error) {
	r := NewReader(bytes.NewReader(nil), Config{})
	r.buf, r.end, r.what = encoded, len(encoded), "string"
	var scratch []byte
	s, err := r.readString(&scratch)
	if err != nil {
		return nil, err
	}
	if r.pos < len(encoded) {
		return nil, r.corrupt("bytes behind a string")
	}
	return r.bytes(s, scratch), nil
}

// Libraries hands over the code of each library in a payload of FUNCTION DUMP, which is the argument of FUNCTION RESTORE.
func Libraries(payload []byte, each func(code []byte) error) error {
	body, version := []byte(nil), 0
	if len(payload) != footerBytes { // of no libraries
		typ, rest, v, err := SplitPayload(payload)
		if err != nil {
			return err
		}
		body, version = append([]byte{typ}, rest...), v
	}
	magic := fmt.Sprintf("REDIS%04d", max(version%10000, 1))
	r := NewReader(io.MultiReader(bytes.NewReader([]byte(magic)), bytes.NewReader(body), bytes.NewReader([]byte{opEOF, 0, 0, 0, 0, 0, 0, 0, 0})), Config{})
	for {
		it, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if it.Kind != KindFunction {
			return &FormatError{What: "a payload of functions that holds a " + it.Kind.String(), Offset: r.ItemOffset() - int64(len(magic))}
		}
		code, err := Text(it.Function)
		if err != nil {
			return err
		}
		if err := each(code); err != nil {
			return err
		}
	}
}
