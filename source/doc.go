// Package source carries a Redis cluster, or a single master, into Kafka: each write is in the log once, in the order of its shard.
//
// It is not a sink, and knows nothing of targets; the record is the only thing it shares with one.
//
// # What runs
//
// Source.Run finds the masters, fences and numbers the shards, and starts for each shard
//
//	link   one goroutine   connects as a replica, fills the spool; a second one acknowledges, a third looks at the
//	                       master's clock
//	lane   one goroutine   reads the spool, publishes and commits; the client's promises come from its own goroutine
//
// with the spool (package spool) between them and the gate beside it. A shard shares with the others only the budget of
// transactions per second, the number of snapshots per host, and the administration client: one that is down, slow or
// resynchronising stops none.
//
// # Where a shard stands
//
// The position in the offsets topic, committed in the same Kafka transaction as the records, is the only truth. A lane
// that starts, in a new process or after any error of Kafka,
//
//  0. looks at the data topic: what its records may weigh may have changed, and a topic that was deleted ends the whole
//     source, whose next start makes it again
//  1. fences its predecessor (InitProducerId), which also decides the predecessor's last transaction
//  2. takes the high watermark of its offsets partition and reads committed records up to it
//  3. compares the data topic with the position (check.go); a log that holds less or more begins a new generation
//  4. finds the position in the spool, or empties the spool and leaves it to the link to ask the master for the rest
//  5. only then lets the link connect
//
// # Expiry times
//
// What is in the log says when something expires, never how long it has to live: it may be replayed hours later. Masters
// before Redis 7 replicate times to live; the lane rewrites them (command.Info.Absolute) by the time at which the master
// carried them out, which the spool keeps beside the bytes. So a command that is published again after an error comes out
// the same. All points in time are by the clock of the master, as those in its snapshots and those that newer masters
// send are; see clock.
//
// # Large values
//
// A value of a snapshot that is larger than pieceBytes is published while it is still being read: as chunks (package
// codec) of which a lane has chunksInFlight in memory at a time. One event may span Kafka transactions; the position,
// the count of entries and the chain move on with its last chunk alone. So whatever interrupts it, it is published
// again from its beginning, under the attempt number of the next session, and what is in the log of the first attempt
// is dropped by readers. The same holds for a large unit of the stream. It is scanned as it arrives and read from the
// spool a second time when it is whole, so it is in memory once, up to MaxUnitBytes; the parts of a transaction over
// several slots stay in one Kafka transaction.
//
// # Scripts and functions
//
// Masters send what scripts do; those before Redis 7 may be told to send the scripts: see scripts.go. Libraries of functions
// travel as an event of their own: see functions.go.
//
// # Stopping
//
// When the context ends, the lane reads nothing more, commits what it has read within DrainTimeout, and returns; then
// the link acknowledges and leaves, and the spool writes what it still holds.
package source
