// Package spool is the bounded buffer between a link's socket and what is committed in Kafka.
//
// It holds a sequence of sections: the bytes of a snapshot, the bytes of a stretch of the replication stream, as the
// master sent them. One writer (the link) begins sections and appends; any number of readers (a lane has one) read from
// any place that is not trimmed, as often as they need to; Trim lets go of what is committed. All methods may be called
// from any goroutine, but there is one writer at a time.
//
// One exception: a snapshot and the stream behind it may arrive at the same time, each with a writer of its own. The stream
// then leaves a quarter of the spool to the snapshot.
//
// Bytes are kept in memory first, in blocks. When MemoryBytes are held, the oldest blocks go to disk, so that what is on
// disk is always a prefix of what is held of a section. When DiskBytes are used too, Append waits: the master then buffers for us.
// Only that prefix outlives a kill; Close writes the rest as well.
//
// # Files
//
// The folder holds segments named by a running number (%016x.spool), each a sequence of records of one section, whose header
// comes first:
//
//	4 bytes  CRC-32C of the rest of the record
//	1 byte   record type: 1 section header, 2 block, 3 section end, 4 times of the block behind it
//	8 bytes  section number
//	8 bytes  header: offset;                  block, times: place of its first byte;  end: number of bytes
//	4 bytes  length of what follows
//	rest     header: kind, replication ID;    block: the bytes; times: see timeline;  end: nothing
//
// Integers are big endian. A record that is cut or does not match its checksum ends what is recovered.
package spool
