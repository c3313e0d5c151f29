// Package codec turns events into the bytes of a Kafka record and back, and places slots in partitions.
//
// Encoders append to a buffer the caller owns and allocate nothing; decoders alias the bytes they are given. Nothing here
// does I/O, starts a goroutine or keeps state, but Joiner, which gathers the chunks of an event too large for a record.
//
// # The raw format, version 1
//
// The record key is the Redis key, its first 64 KiB if it is longer; control events have none. The value is, in this
// order (uvarint: unsigned LEB128, as encoding/binary has it):
//
//	byte     version     1
//	byte     kind        see event.Kind; 0x40 marks a chunk, below
//	byte     flags       1 atomic, 2 part of a transaction, 4 expiry, 8 idle time, 16 frequency, 32 the whole key is here,
//	                     128 of a unit: it has keys of several slots; of a flush: all databases
//	uvarint  shard
//	uvarint  generation
//	20 bytes replication ID
//	uvarint  end offset
//	uvarint  end - begin
//	uvarint  units, flushes, history changes, functions: begin - prev, 0 for a later part in the same partition (flag 64);
//	         entries, snapshot end: number
//	2 bytes  slot, big endian (0 for control events)
//	uvarint  database    of a unit the one it begins in: SELECT may stand among its commands
//	uvarint  capture time, Unix milliseconds
//	uvarint  part, uvarint parts        with flag 2
//
// and then for an entry
//
//	byte     RDB type
//	uvarint  RDB version (the number in the RDB's magic)
//	uvarint  expiry, Unix milliseconds  with flag 4
//	uvarint  idle seconds               with flag 8
//	byte     LFU frequency              with flag 16
//	uvarint  length, and the key        with flag 32
//	rest     the value as the RDB holds it: type + value + version + CRC64 is the payload of RESTORE
//
// for a unit
//
//	uvarint  length, and the first key  with flag 32
//	uvarint  number of commands
//	rest     the commands, each a RESP array of bulk strings
//
// for a control event
//
//	20 bytes old replication ID         history change only
//	uvarint  number of slot ranges; for each: 2 bytes first, 2 bytes last, big endian
//	uvarint  number of commands         functions only: FUNCTION LOAD REPLACE code, FUNCTION DELETE name,
//	rest     the commands               FUNCTION FLUSH, each a RESP array of bulk strings
//
// # Chunks
//
// An event whose value does not fit a record is cut: each record holds
//
//	byte     1
//	byte     0x40
//	uvarint  shard
//	uvarint  attempt     the lane's, so that a cut that was given up is never joined with another
//	uvarint  index, uvarint count
//	rest     a piece of the value
//
// All chunks have the key of the event's record. The count stands in all of them, or, where it was not
// known at the beginning, because the event was written while it was still being read, in the last one alone: 0 says that
// more follow. So an event ends with the chunk whose count is its index + 1, and its pieces, one behind the other, are the
// value described above, from the version byte on.
//
// The chunks of one event stand one behind the other among its lane's records of a partition, if need be in several
// Kafka transactions. A reader drops what it has of an unfinished event when chunk 0, or a record that is no chunk, of
// that shard arrives; the log may also end with one. An event counts in the chain (prev, number) once it is whole.
package codec
