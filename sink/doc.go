// Package sink replays a log into a target Redis: every write of the log takes effect once, in order within its
// slot, through crashes, lost connections, failovers of the target and rebalances of the consumer group.
//
// It reads records (packages codec, offsets, kafka) and writes commands; it never speaks to a source. Sink.Run is called
// by whoever assembles a connector.
//
// # Goroutines
//
//	Run            assembles, waits, and gives everything back in the end
//	feed.run       polls Kafka and fills bounded queues, one for each partition
//	group.keep     proves membership each second: the lease
//	group.show     commits positions each second, as a lag display
//	group.watch    listens to the group's client
//	worker.run     one per partition that is ours: reads its queue, writes to its connections
//	conn.write     one per connection: writes what the worker hands it, while the worker reads the answers
//
// The group's callbacks start and end workers. A worker that is to end finishes the round in flight (Config.DrainTimeout),
// writes its watermarks, and its position is committed; otherwise its sockets are closed and the next owner deals with an
// unknown outcome.
//
// # Order
//
// A worker takes all that is there, up to Config.BatchBytes and BatchUnits, as a batch, sends it, and waits for every answer
// before it takes more; while guarded writes come in crowds it gathers them for Config.GuardedWait first (gather.go), so that
// more of a slot's share a transaction. Within a batch each slot goes to the node that owns it: as one MULTI ... EXEC with the
// slot's checkpoint if any of its units is guarded, as they are if all are blind (see isBlind). So
//
//	(1) a guarded write goes only when all earlier writes of its slot are acknowledged, or in one transaction with them,
//	(2) after a passing trouble (MOVED, ASK, TRYAGAIN, OOM, LOADING, ...) everything of the slot is sent again from the
//	    first unit that was not taken, in order, also what was taken behind it,
//	(3) the next batch of the partition waits, so what cannot be written holds up its partition, and no other. A slot that
//	    the target is moving is different: a transaction there may have to wait until the move is done (TRYAGAIN), which
//	    may be never. After a second it is set aside, and the partition's other slots go on (aside.go), up to the next
//	    sweep or flush.
//
// # What lies in the target
//
// A checkpoint (one per slot) says that everything of the slot up to a Kafka offset is applied. A watermark (one per
// partition and node) says that everything of the partition below an offset is applied in certain slots, and how far ahead
// anything may have been sent; it is the first command of each batch, and vouches for what was acknowledged before. A fence
// (beside each watermark) counts the owners. See records.go for the bytes.
//
// Restart: for each slot the watermark that vouches for most decides, one on the slot's own node before any other; reading
// begins at the least of the partition. Units at or below what is done in their slot are skipped, blind or not, entries
// and flushes too. Between the restart offset and the end of what may have been sent lies the unknown window, in which a
// blind write that meets another type, or no key, is passed over: its effect is undone by what follows.
//
//  1. SET k; HSET h f; INCR n    applied, crash before the next batch could write a watermark
//  2. restart: SET k and HSET h f are applied again, INCR n and all before it in its slot are skipped by the checkpoint
//
// While a snapshot or a chunked event is open, reading begins at its first record (intake.restart), since what is
// remembered of it would be incomplete otherwise; what was applied is still skipped. That is a fingerprint of each key, in
// memory or, beyond Config.SweepMemoryBytes, in sorted runs on disk (seen.go). What a shard has left open that is gone
// from the source is given up (release.go).
//
// Where retention has removed what lies between there and the begin of the log, the partition stops (LostError), or by
// Config.LogLost starts at the newest complete snapshots (decideAnew), as a new sink does, but for what is known to be applied
// and for the sweep, which removes what was deleted in the part that is lost. Staging keys whose other parts lie in it are
// removed. If a shard has no such snapshot the partition waits, and looks again.
//
// A topic that was made again has other offsets, so every start of a partition asks whether it is still the same.
//
// A target that lost acknowledged writes shows a lower watermark, or none, at the next connect, with the next batch, and in
// each second in which nothing is to be done: the partition starts again from what it finds. A watermark that was there is
// only ever replaced (SET ... XX), so one that is gone stays gone. Watermarks missing for a part of a partition stop it: a
// person has to say what happened to the rest. So do all of them missing where the group's commits show that there were some.
//
// A log may lose its end, and be written on to before the sink looks. Its source notices, and takes a new generation; so the
// newest generations are noted in the watermarks, and a lane that goes on in a later one without its begin stops the
// partition.
//
// # Fencing
//
// Whoever takes a partition over, on every node that has slots of it: proves that it is a member of the group, (1) raises
// the fence, (2) kills all connections that are named after the partition, (3) reads checkpoints and watermarks, (4) writes.
// Whoever connects again: proves, names the connection, compares the fence, kills, reads, writes. For a zombie Z and the
// new owner N:
//
//  1. Z connects, names the connection, reads the fence: it is its own
//
//  2. N raises the fence, then lists and kills: Z's connection has its name and is found
//
//  1. N raises the fence
//
//  2. Z connects and reads the fence: it is not its own, Z does not write
//
// Z can also be stopped between its proof and raising the fence itself, and wake when N writes:
//
//  1. Z proves, sleeps; N takes over, writes
//  2. Z raises the fence, kills N's connections, reads how far N came, goes on from there
//  3. N connects again and sees a fence that is not its own: what Z did is unknown, so N trusts nothing it remembers, proves,
//     takes over again and starts from the watermarks, which vouch for what both did
//
// and whoever has not heard of the coordinator for two thirds of the session timeout sends nothing (lease). That clock stands
// still while a machine sleeps; then the kill alone protects.
//
// A connection that is lost may have bytes on their way. Its successor kills it at the node before it reads the checkpoint:
//
//  1. MULTI INCR SET checkpoint EXEC lies in a buffer of the network, the connection breaks
//  2. the new connection kills the old one: from here on its bytes are discarded
//  3. the new connection reads the checkpoint: it is final
//
// # Values
//
// RESTORE judges a payload by the version in its footer and then by its type byte, so a payload goes with the least version
// that knows its type (rdb.MinVersion), and is loaded by every server that knows the type. What the nodes themselves can load
// is asked at every start, on every node, and again when the topology changes; the least capable one decides. A value of a
// type that they do not know is encoded anew, and so is a hash whose fields expire while times are held: its payload has
// exact ones (values.go). Both are one RESTORE, and blind. What a target cannot have at all follows Config.Unsupported.
//
// A value that comes in chunks and is larger than Config.RebuildBytes is never held. A collection of up to Config.RestoreBytes is
// one RESTORE, sent while it is read from the log for the second time, since a RESTORE begins with its length (load.go):
//
//	RESTORE k t payload REPLACE ABSTTL
//
// For the others rebuild.go has how they are built in parts under a staging key, redriver!s!<name>!<shard + 1>!{<tag>}, and
// chunks.go how its parts become units. The key changes at once, with the last part:
//
//	UNLINK stage; RPUSH stage ...; SET checkpoint            each part a guarded unit, with the offset of its chunk
//	RPUSH stage ...; SET checkpoint
//	UNLINK k; RENAME stage k; PEXPIREAT k t; SET checkpoint
//
// A chunk may yield more than one transaction should hold, so a checkpoint can say that only the first parts of its record
// are applied. What belongs to other keys goes on meanwhile, in the same batches. Parts are a function of the log and of the
// configuration: whoever starts the partition again finds by the checkpoint what the staging key has.
//
// A lane that gives up an event leaves a staging key; the next record of the lane in the partition shows it, and removes it.
// Nothing is looked for when a partition is taken over: while an event is open, reading begins at its first chunk, so every
// staging key that is there will be met again, and either grows on or goes.
//
// What the commands of parts cannot make: IDLETIME and FREQ of such a key, when a consumer of a stream was last seen, pending entries whose
// entry is deleted. A string has its full length from its first piece on, since it would be moved as it grows otherwise: the
// target fills that much memory in one go.
//
// # Large units
//
// A unit of the stream that is larger than what is held is applied between two batches: its chunks are passed over as they
// arrive, read from the log again behind the last one, and sent as they are read. The server queues them until EXEC:
//
//	MULTI; RPUSH k 500 elements; ...; RPUSH k 500 elements; SET checkpoint; EXEC
//
// # Dead letters
//
// Under UnsupportedDeadLetter the records of what is left out are in Kafka before anything of their batch is sent, and so
// before the checkpoint that passes them.
//
// # Targets outside a cluster
//
// There every unit of a partition, whatever its slots, is in one run with one checkpoint, in the partition's first slot: the
// order of the log is kept as a whole, and "slot" above reads "partition". The sink's own keys lie in one database, the
// lowest that Config.Databases fills: home. Outside of transactions every connection is there. What acts on another
// database goes as
//
//	MULTI; SELECT 3; ...; SELECT 0; SET checkpoint; EXEC
//
// so that a SELECT which is refused takes the commands behind it along, and one that is not executed changes nothing for
// those that follow (that a database exists is tried before). Own keys survive what happens to their database: SWAPDB is
// followed by MOVE of our keys back, FLUSHDB within a transaction takes place while they wait in another database, and a
// flush of its own is a scan that leaves them out.
//
// # Import mode
//
// With Config.ExpiryMode import the target does not expire anything by its own clock (import.go), and times are exact. The mode
// is asked for each second: what is written within the second in which somebody switches it off can be lost, if its time has
// passed. The partition says so when it finds out.
//
// # Not in this version
//
// FLUSHALL among other writes of a transaction, single arguments of the stream larger than memory but those of SET. Slots of a partition that go on while another is out of memory or has lost its master.
package sink
