// Command bench measures Redriver on real servers and writes BENCHMARKS.md.
//
// It is a comparison: whatever Redriver is measured at, others are measured at in the same run on the same machine.
// Redis's own replicas do the same work without a log between (the floor of source and sink together), franz-go alone
// carries the very same records through the same broker (the floor of what a log costs), and programs that copy one cluster
// into another do so where paths to them are given (peer.go). Figures of one machine mean little; the ratios are what to
// look at.
//
// It is not a test: nothing but the number of keys is checked. The table of goals (goals.go) says which are met.
//
// # The order of a run
//
//	casestrings.go  each system: fill, full sync A, SETs, mixed commands, price of checkpoints, latency, idle
//	                franz-go:    the records that Redriver left of the first three
//	casesync.go     full syncs B and C, each system and franz-go
//	casestrings.go  latency of Kafka alone
//	caseshards.go   cost of a command by the number of shards; one hot shard
//	casebuffer.go   what a master holds back in a snapshot under load, by version
//
// Each system gets a source of its own, filled alike, and has the machine for itself: on two cores, side by side, each
// would measure the others. franz-go runs in a child process (child.go), so that its CPU is its own.
//
// Single parts, quickly:
//
//	make bench BENCHFLAGS="-runs 1 -parts stream"
//	make bench BENCHFLAGS="-runs 1 -parts set -bare -profiles DIR"
//
// With -verify it measures redriver verify alone, beside a RedisFullCheck if a path to one is given (verify.go), and with
// -rdb reading RDB files (rdb.go); each writes a section of its own.
//
// # Words
//
// A system is what makes a copy: Redriver with Kafka and the target, replicas, or a peer. A contest is one system at its work. A
// measure is one figure of one run; a row is that figure over all runs.
package main
