package rdb

import (
	"errors"
	"fmt"
)

var (
	// ErrValueTooLarge is what a [TooLargeError] unwraps to.
	ErrValueTooLarge = errors.New("larger than the limit")
	// ErrChecksum is what a [FormatError] unwraps to when every item was well formed and the checksum was not theirs.
	ErrChecksum = errors.New("checksum mismatch")
)

// TooLargeError reports an item that exceeds Config.MaxValueBytes, or a part of a value that exceeds
// DecoderConfig.MaxBlobBytes.
type TooLargeError struct {
	What       string // "value", "key", "aux field", ...
	Key        []byte // nil unless What is "value"
	SizeBytes  uint64 // at least so much; for a value that is one string, its announced size
	LimitBytes int64
	Offset     int64 // where the item begins
}

// Error names the item by its key where it has one.
func (e *TooLargeError) Error() string {
	name := e.What
	if e.Key != nil {
		name = fmt.Sprintf("%s of key %s", e.What, quoteKey(e.Key))
	}
	return fmt.Sprintf("read rdb: %s at offset %d is larger than the limit: at least %d bytes, limit %d",
		name, e.Offset, e.SizeBytes, e.LimitBytes)
}

// Unwrap gives ErrValueTooLarge.
func (e *TooLargeError) Unwrap() error { return ErrValueTooLarge }

// UnsupportedError reports a type or opcode whose framing is not known, so that nothing behind it can be read.
type UnsupportedError struct {
	What   string // such as "type 23 (Valkey)" or "opcode 243 (slot import)"
	Key    []byte // of the entry, nil for an opcode
	Offset int64  // of the type or opcode byte
}

// Error names the type or opcode, and the key if there is one.
func (e *UnsupportedError) Error() string {
	if e.Key != nil {
		return fmt.Sprintf("read rdb: %s at offset %d, key %s, is not supported", e.What, e.Offset, quoteKey(e.Key))
	}
	return fmt.Sprintf("read rdb: %s at offset %d is not supported", e.What, e.Offset)
}

// FormatError reports bytes that no server writes: damage, or a stream that is not RDB.
type FormatError struct {
	What   string
	Offset int64
	Err    error // ErrChecksum; io.ErrUnexpectedEOF where a Decoder's value ends early; or nil
}

// Error says what is wrong and where.
func (e *FormatError) Error() string {
	return fmt.Sprintf("read rdb: %s at offset %d", e.What, e.Offset)
}

// Unwrap gives Err.
func (e *FormatError) Unwrap() error { return e.Err }

// quoteKey keeps an error line short whatever the key is.
func quoteKey(key []byte) string {
	const shown = 128
	if len(key) > shown {
		return fmt.Sprintf("%q... (%d bytes)", key[:shown], len(key))
	}
	return fmt.Sprintf("%q", key)
}
