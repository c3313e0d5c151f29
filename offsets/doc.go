// Package offsets keeps where each shard stands: which shards there are, how far each is published, and at which places of
// the log a consumer may start.
//
// Everything lies in one compacted topic, <prefix>.offsets, as JSON under JSON array keys:
//
//	["<connector>","registry"]               Registry    partition 0, written under transactional id <connector>
//	["<connector>","position",<shard>]       Position    the lane's partition, written under <connector>-<shard>
//	["<connector>","snapshot",<shard>,<gen>] Boundary    the lane's partition, likewise
//
// A position is committed in the same Kafka transaction as the records it vouches for. The package reads and writes these
// records; it decides nothing about links, and the clients and transactions belong to its callers.
package offsets
