// Package resp reads and writes RESP2, the wire format of Redis.
//
// [Reader] reads commands as a master sends them to its replicas, and accounts for
// every byte, because replication offsets are counts of these bytes. [ReplyReader]
// reads a server's answers. The Append functions build commands and answers in
// memory the caller owns. [ParseCommand] does for a byte slice what Reader does for
// a stream.
//
// It is not a client: it dials nothing, matches no reply to its command, follows no
// redirection, and does not know what any command means. RESP3 is refused: we never
// send HELLO 3, so its types can only be a desynchronised stream.
//
// Order: what is read comes out in the order of the stream. A Reader or ReplyReader
// belongs to one goroutine at a time and starts none; it blocks only in its source's
// Read. What it returns points into its buffer and is valid until the next call.
//
// # Forms
//
//	command      *N\r\n then N times $L\r\n<L bytes>\r\n
//	keep-alive   \n or \r\n, between commands only (replicationCron in redis
//	             src/replication.c); also *0\r\n and *-1\r\n, which a server ignores
//	inline       words separated by blanks, ended by \n or \r\n
//	reply        +line\r\n  -line\r\n  :integer\r\n  $L\r\n<L bytes>\r\n  *N\r\n<N replies>
//	null         $-1\r\n  *-1\r\n
//
// # Bounds
//
// Bytes come from outside. A length that is announced allocates nothing; buffers grow
// as bytes arrive, at most to twice of what has arrived, and return to their first size
// some time after a large command. A command or reply must fit into memory as a whole.
package resp
