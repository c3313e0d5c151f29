// Package load writes to a Redis deployment for tests, the demo and benchmarks. It has three parts:
//
//   - Fill: a keyspace of all core types, for snapshots.
//   - Writer: a stream of all kinds of write commands, for what follows a snapshot. What it writes means nothing; a
//     comparison with the copy tells whether it arrived.
//   - History: numbered writes, whose copy shows loss, repetition, reordering and torn transactions by itself, and
//     names them.
//
// What is written follows from a seed; how the commands of several goroutines meet does not, nor do IDs and times
// that a server makes. It checks nothing of Redriver's and knows none of its packages but redis/slot.
package load
