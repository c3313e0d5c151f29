// Command bench measures Redriver on real servers and writes BENCHMARKS.md.
//
// It is a comparison: whatever Redriver is measured at, two others are measured at in the same run on the same machine.
// Redis's own replicas do the same work without a log between (the floor of source and sink together), and franz-go alone
// carries the very same records through the same broker (the floor of what a log costs). Figures of one machine mean
// little; the ratios are what to look at.
//
// It is not a test: nothing but the number of keys is checked, and no figure is judged.
//
// # The order of a run
//
//	strings   Redriver:  fill, snapshot, SETs, mixed commands, latency, idle
//	          replicas:  fill, snapshot, SETs, mixed commands, latency, idle
//	          franz-go:  the records that Redriver left of the snapshot, of the SETs, of the mixed commands
//	mixed     the same with keys of six types, the snapshot alone
//	latency   Kafka alone
//
// Each system gets a source of its own, filled alike, and has the machine for itself: on two cores, side by side, each
// would measure the others. franz-go runs in a child process (child.go), so that its CPU is its own.
//
// With -verify it measures redriver verify alone, beside a RedisFullCheck if a path to one is given (verify.go), and writes
// a section of its own.
//
// # Words
//
// A system is what makes a copy: Redriver with Kafka and the target, or replicas. A measure is one figure of one run; a
// row is that figure over all runs.
package main
