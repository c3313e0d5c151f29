// Package rdb reads the RDB stream a Redis or Valkey master sends, as items with exact positions, and the values in it.
//
// A [Reader] skims: values are framed, not decoded. An entry's Value is the bytes as they stand in the stream, which is
// what DUMP answers between its type byte and its footer; [AppendPayload] adds both, and the result is an argument for
// RESTORE, [SplitPayload] takes it apart. It does not split the transfer from the socket (length prefix, diskless end
// marker), judge expiry, or write RDB.
//
// A [Decoder] splits one value into typed elements, in pieces of bounded size and whatever its encoding; an [Encoder]
// makes a value of elements, in encodings that old servers load. Neither knows of keys.
//
// A Reader, a Decoder and an Encoder each belong to one goroutine. Items and elements come in the order of their bytes:
// the members of a sorted set by score in packed encodings, and against it in the others. The checksum of a stream is
// verified before io.EOF is returned and not earlier: until then nothing that was read is proven.
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
// The grammars inside values stand with what reads them: listpack.go, ziplist.go, intset.go, zipmap.go, stream.go.
//
// testdata/corpus holds what servers of many versions wrote, in every encoding they have, with what they answered for it;
// "go test -run TestCorpus -update" makes it anew.
//
// Memory of a Reader: one buffer that holds the current item and what was read ahead. It grows only when bytes have
// filled it, never on the word of a length, and is bounded by Config.MaxValueBytes, or for values by Config.PieceBytes,
// if they are handed out in pieces. A Decoder that reads has such a
// buffer for the current element, and one for what it had to unpack; see [DecoderConfig].
package rdb
