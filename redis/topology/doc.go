// Package topology tells who the masters of a cluster are and which slots they serve, and opens every connection to
// Redis.
//
// [Discover] asks one node of a cluster for its view and then each master for what only that master tells: which of
// its slots are being moved, and its shard id. It takes one look; following changes is the caller's loop. It knows
// clusters only: anything else answers [ErrNotCluster]. [Find] shows those too: a single server, or a pair, is one shard
// that has all slots.
//
// [Dialer] is the one place where a connection is dialled, for replication links and replay writers (DialContext, raw
// bytes) as for administration (Client), so that what concerns all of them has one home.
//
// The parts, each a pure function: [ParseNodes] (CLUSTER NODES: identity, flags, slots, moves), [ParseShards] and
// [ParseSlots] (CLUSTER SHARDS or, before Redis 7.0, CLUSTER SLOTS: the address clients are meant to use), and [Build]
// (the join of both). Slots come from CLUSTER NODES alone, so that no answer can contradict another.
//
// Nothing here runs in the background. A Dialer may be used by any number of goroutines.
package topology
