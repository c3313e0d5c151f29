// Package event holds the nouns that every other room speaks: positions, shards, generations and the event itself.
//
// An event is what one Kafka record means: one key of a snapshot (an entry), one unit of the replication stream, or one
// control event. The package does no I/O, knows no encoding (package codec does) and starts no goroutine; all its values
// may be copied, and none is safe for concurrent mutation.
//
// # Offsets
//
// An offset counts the bytes of one replication history, as Redis counts them. A unit covers the half-open interval
// [Begin, End): Begin is the offset before its first byte, End the offset after its last, which is the master's
// master_repl_offset once the unit was written. A replica that has everything up to End asks for PSYNC replid End+1.
// Offsets compare only within one replication ID.
//
// # Order and the chain
//
// Within a partition the events of one lane form a chain, which Chain checks: a unit names the end of the lane's previous
// event in that partition (Prev), an entry its running number in that partition and generation (Number). A reader of one
// partition sees a hole or a repetition at once, whatever the other partitions do.
package event
