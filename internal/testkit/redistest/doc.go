// Package redistest starts real Redis servers: single nodes and clusters, on 127.0.0.1, as processes of ours that die
// with us. Tests, benchmarks and the demo use it; it knows nothing of package testing.
//
// Servers keep nothing on disk but a node's cluster configuration: no RDB, no append-only file. A node that is killed
// comes back empty, like a master without persistence does.
//
// The binaries come from $REDRIVER_REDIS_BIN, a folder with redis-server, where a Config names no version; else from
// the embedded script redis-install, which puts them into the cache once.
package redistest
