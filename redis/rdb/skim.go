package rdb

import (
	"encoding/binary"
	"fmt"
)

// Encodings of a string, in the lower six bits of a byte whose upper two are set.
const (
	encInt8  = 0
	encInt16 = 1
	encInt32 = 2
	encLZF   = 3
)

// Types of values (src/rdb.h).
const (
	typeString         = 0
	typeList           = 1
	typeSet            = 2
	typeZset           = 3
	typeHash           = 4
	typeZset2          = 5
	typeModulePre      = 6 // release candidates of 4.0, refused by Redis itself
	typeModule2        = 7
	typeHashZipmap     = 9
	typeListZiplist    = 10
	typeSetIntset      = 11
	typeZsetZiplist    = 12
	typeHashZiplist    = 13
	typeListQuick      = 14
	typeStream         = 15
	typeHashListpack   = 16
	typeZsetListpack   = 17
	typeListQuick2     = 18
	typeStream2        = 19
	typeSetListpack    = 20
	typeStream3        = 21
	typeHashTTLPre     = 22 // REDIS: release candidates of 7.4
	typeHashTTLValkey  = 22 // VALKEY: 9.0
	typeHashLPEXPre    = 23 // REDIS: release candidates of 7.4
	typeHashTTL        = 24
	typeHashListpackEX = 25
	typeStream4        = 26
)

// plausibleType says whether a type we cannot frame is at least likely to be followed by a key, which the error can
// then name.
func plausibleType(typ byte) bool { return typ < 64 }

func typeName(typ byte, valkey bool) string {
	switch {
	case valkey:
		return fmt.Sprintf("type %d (Valkey)", typ)
	case typ == typeModulePre:
		return "type 6 (module value of a release candidate of 4.0)"
	}
	return fmt.Sprintf("type %d (Redis)", typ)
}

// layout is how a value is framed, which several types share.
type layout uint8

const (
	layoutStrings      layout = iota // n strings, n fixed
	layoutCounted                    // count, and n strings for each
	layoutZset                       // count, and string and ASCII double for each
	layoutZset2                      // count, and string and binary double for each
	layoutQuick2                     // count, and container kind and string for each
	layoutHashTTL                    // binary time, then as layoutHashTTLPre
	layoutHashTTLPre                 // count, and length-encoded time and two strings for each
	layoutHashTTLAfter               // count, and two strings and binary time for each
	layoutListpackEX                 // binary time, string
	layoutModule                     // id, then values up to an end mark
	layoutStream                     // n is the version of the stream's layout
)

type skimmer struct {
	layout layout
	n      uint64
}

// skimmer tells how the value of a type is framed under this stream's magic.
func (r *Reader) skimmer(typ byte) (s skimmer, known bool) {
	switch typ {
	case typeString, typeHashZipmap, typeListZiplist, typeSetIntset, typeZsetZiplist, typeHashZiplist,
		typeHashListpack, typeZsetListpack, typeSetListpack:
		return skimmer{layoutStrings, 1}, true
	case typeList, typeSet, typeListQuick:
		return skimmer{layoutCounted, 1}, true
	case typeHash:
		return skimmer{layoutCounted, 2}, true
	case typeZset:
		return skimmer{layoutZset, 0}, true
	case typeZset2:
		return skimmer{layoutZset2, 0}, true
	case typeListQuick2:
		return skimmer{layoutQuick2, 0}, true
	case typeModule2:
		return skimmer{layoutModule, 0}, true
	case typeStream:
		return skimmer{layoutStream, 1}, true
	case typeStream2:
		return skimmer{layoutStream, 2}, true
	case typeStream3:
		return skimmer{layoutStream, 3}, true
	}
	if r.valkey {
		return skimmer{layoutHashTTLAfter, 0}, typ == typeHashTTLValkey
	}
	switch typ {
	case typeHashTTLPre:
		return skimmer{layoutHashTTLPre, 0}, true
	case typeHashLPEXPre:
		return skimmer{layoutStrings, 1}, true
	case typeHashTTL:
		return skimmer{layoutHashTTL, 0}, true
	case typeHashListpackEX:
		return skimmer{layoutListpackEX, 0}, true
	case typeStream4:
		return skimmer{layoutStream, 4}, true
	}
	return skimmer{}, false
}

// skimValue passes a value. Every element of a count takes at least one byte, so that no count can hold us longer
// than the bytes last.
func (r *Reader) skimValue(s skimmer) error {
	switch s.layout {
	case layoutStrings:
		return r.skipStrings(s.n)
	case layoutCounted:
		n, err := r.readLen()
		if err != nil {
			return err
		}
		for range s.n {
			if err := r.skipStrings(n); err != nil {
				return err
			}
		}
		return nil
	case layoutZset:
		return r.skipZset()
	case layoutZset2:
		return r.skipTuples(0, 1, 8)
	case layoutQuick2:
		return r.skipTuples(1, 1, 0)
	case layoutHashTTL:
		if err := r.skip(8); err != nil {
			return err
		}
		return r.skipTuples(1, 2, 0)
	case layoutHashTTLPre:
		return r.skipTuples(1, 2, 0)
	case layoutHashTTLAfter:
		return r.skipTuples(0, 2, 8)
	case layoutListpackEX:
		if err := r.skip(8); err != nil {
			return err
		}
		return r.skipStrings(1)
	case layoutModule:
		if _, err := r.readLen(); err != nil {
			return err
		}
		return r.skipModuleBody()
	case layoutStream:
		return r.skipStream(int(s.n))
	}
	return r.corrupt("value of no known layout")
}

// skipStrings passes n strings.
func (r *Reader) skipStrings(n uint64) error {
	for ; n > 0; n-- {
		// Fast way: a short plain string that is all there.
		if r.end-r.pos >= 2 {
			b := r.buf[r.pos]
			if b < 64 {
				if next := r.pos + 1 + int(b); next <= r.end {
					r.pos = next
					continue
				}
			} else if b < 128 {
				if next := r.pos + 2 + (int(b&63)<<8 | int(r.buf[r.pos+1])); next <= r.end {
					r.pos = next
					continue
				}
			}
		}
		if err := r.skipString(); err != nil {
			return err
		}
	}
	return nil
}

// skipString passes one string of any encoding.
func (r *Reader) skipString() error {
	b, err := r.peekByte()
	if err != nil {
		return err
	}
	if b>>6 != 3 {
		n, err := r.readLen()
		if err != nil {
			return err
		}
		return r.skip(n)
	}
	r.pos++
	switch b & 63 {
	case encInt8:
		return r.skip(1)
	case encInt16:
		return r.skip(2)
	case encInt32:
		return r.skip(4)
	case encLZF:
		n, err := r.readLen()
		if err != nil {
			return err
		}
		if _, err := r.readLen(); err != nil {
			return err
		}
		return r.skip(n)
	}
	r.pos--
	return r.corrupt("unknown string encoding")
}

// skipTuples passes a count and so many tuples of lengths, strings and fixed bytes.
func (r *Reader) skipTuples(lens, strings, fixed uint64) error {
	n, err := r.readLen()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := r.skipLens(lens); err != nil {
			return err
		}
		if err := r.skipStrings(strings); err != nil {
			return err
		}
		if err := r.skip(fixed); err != nil {
			return err
		}
	}
	return nil
}

// skipZset passes a sorted set of before Redis 4: scores are text behind a length byte, of which 253 to 255 stand for
// NaN and the infinities.
func (r *Reader) skipZset() error {
	n, err := r.readLen()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := r.skipStrings(1); err != nil {
			return err
		}
		size, err := r.readByte()
		if err != nil {
			return err
		}
		if size < 253 {
			if err := r.skip(uint64(size)); err != nil {
				return err
			}
		}
	}
	return nil
}

// skipModuleBody passes what a module wrote: each value behind a code of its kind, up to the end mark.
func (r *Reader) skipModuleBody() error {
	for {
		code, err := r.readLen()
		if err != nil {
			return err
		}
		switch code {
		case 0:
			return nil
		case 1, 2: // signed, unsigned
			_, err = r.readLen()
		case 3: // float
			err = r.skip(4)
		case 4: // double
			err = r.skip(8)
		case 5:
			err = r.skipStrings(1)
		default:
			return r.corrupt("unknown code in a module's value")
		}
		if err != nil {
			return err
		}
	}
}

// skipStream passes a stream of layout version v:
//
//	count, (node id string, listpack string)...
//	length, last id; v >= 2: first id, largest deleted id, entries added
//	groups; v >= 4: idempotent producers
//
// An id is two lengths here and 16 raw bytes in pending lists.
func (r *Reader) skipStream(v int) error {
	nodes, err := r.readLen()
	if err != nil {
		return err
	}
	for range 2 {
		if err := r.skipStrings(nodes); err != nil {
			return err
		}
	}
	lens := uint64(3)
	if v >= 2 {
		lens += 5
	}
	if err := r.skipLens(lens); err != nil {
		return err
	}
	groups, err := r.readLen()
	if err != nil {
		return err
	}
	for ; groups > 0; groups-- {
		if err := r.skipGroup(v); err != nil {
			return err
		}
	}
	if v >= 4 {
		return r.skipProducers()
	}
	return nil
}

// skipGroup passes a consumer group: name, last id, entries read (v >= 2), its pending entries with delivery time and
// count, and its consumers, each with its times and the ids pending for it.
func (r *Reader) skipGroup(v int) error {
	if err := r.skipStrings(1); err != nil {
		return err
	}
	lens, times := uint64(2), uint64(8)
	if v >= 2 {
		lens++
	}
	if v >= 3 {
		times += 8
	}
	if err := r.skipLens(lens); err != nil {
		return err
	}
	pending, err := r.readLen()
	if err != nil {
		return err
	}
	for ; pending > 0; pending-- {
		if err := r.skip(16 + 8); err != nil {
			return err
		}
		if err := r.skipLens(1); err != nil {
			return err
		}
	}
	consumers, err := r.readLen()
	if err != nil {
		return err
	}
	for ; consumers > 0; consumers-- {
		if err := r.skipStrings(1); err != nil {
			return err
		}
		if err := r.skip(times); err != nil {
			return err
		}
		ids, err := r.readLen()
		if err != nil {
			return err
		}
		for ; ids > 0; ids-- {
			if err := r.skip(16); err != nil {
				return err
			}
		}
	}
	return nil
}

// skipProducers passes what Redis 8.6 keeps to recognise repeated messages: how long and how many, then per producer
// its name and its messages (name, id), then two counters.
func (r *Reader) skipProducers() error {
	if err := r.skipLens(2); err != nil {
		return err
	}
	producers, err := r.readLen()
	if err != nil {
		return err
	}
	for ; producers > 0; producers-- {
		if err := r.skipStrings(1); err != nil {
			return err
		}
		messages, err := r.readLen()
		if err != nil {
			return err
		}
		for ; messages > 0; messages-- {
			if err := r.skipStrings(1); err != nil {
				return err
			}
			if err := r.skipLens(2); err != nil {
				return err
			}
		}
	}
	return r.skipLens(2)
}

// skipLens passes n lengths.
func (r *Reader) skipLens(n uint64) error {
	for ; n > 0; n-- {
		if _, err := r.readLen(); err != nil {
			return err
		}
	}
	return nil
}

// readLen reads a length or another number encoded as one.
func (r *Reader) readLen() (uint64, error) {
	b, err := r.peekByte()
	if err != nil {
		return 0, err
	}
	switch {
	case b < 64:
		r.pos++
		return uint64(b), nil
	case b < 128:
		err = r.need(2)
	case b == 0x80:
		err = r.need(5)
	case b == 0x81:
		err = r.need(9)
	default:
		return 0, r.corrupt("no valid length")
	}
	if err != nil {
		return 0, err
	}
	v, n := decodeLen(r.buf[r.pos:r.end])
	r.pos += n
	return v, nil
}

// decodeLen decodes the length that p, which is long enough, begins with.
func decodeLen(p []byte) (v uint64, n int) {
	switch b := p[0]; {
	case b < 64:
		return uint64(b), 1
	case b < 128:
		return uint64(b&63)<<8 | uint64(p[1]), 2
	case b == 0x80:
		return uint64(binary.BigEndian.Uint32(p[1:])), 5
	}
	return binary.BigEndian.Uint64(p[1:]), 9
}

func (r *Reader) peekByte() (byte, error) {
	if r.pos == r.end {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	return r.buf[r.pos], nil
}

func (r *Reader) readByte() (byte, error) {
	b, err := r.peekByte()
	if err == nil {
		r.pos++
	}
	return b, err
}

func (r *Reader) readUint64() (uint64, error) {
	if err := r.need(8); err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(r.buf[r.pos:])
	r.pos += 8
	return v, nil
}
