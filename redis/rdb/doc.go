// Package rdb reads the RDB stream a Redis or Valkey master sends, as items with exact positions.
//
// It is a skimming reader: values are framed, not decoded. An entry's Value is the bytes as they stand in the stream,
// which is what DUMP answers between its type byte and its footer; [AppendPayload] adds both, and the result is an
// argument for RESTORE. It does not split the transfer from the socket (length prefix, diskless end marker), judge
// expiry, or write RDB.
//
// A [Reader] belongs to one goroutine. Items come in the order of the stream. The checksum is verified before io.EOF
// is returned and not earlier: until then nothing that was read is proven.
//
//	magic     REDIS + 4 digits | VALKEY + 3 digits
//	items     opcode 244 ... 254 and its body, or
//	          [expiry] [idle | freq] type key value
//	end       255, and from version 5 on 8 bytes of CRC-64/Jones, little-endian, 0 = not computed
//
// What the framing of a value depends on is its type byte alone, except that 22 and 23 mean one thing under REDIS
// (hashes of release candidates of 7.4) and another under VALKEY. Layouts follow src/rdb.c of Redis (rdbLoadObject,
// rdbSaveObject); type 22 under VALKEY and type 26, which carries the state of idempotent producers behind the
// groups of a stream, were confirmed on live servers.
//
// Memory: one buffer that holds the current item and what was read ahead. It grows only when bytes have filled it,
// never on the word of a length, and is bounded by Config.MaxValueBytes.
package rdb
