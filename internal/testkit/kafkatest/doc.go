// Package kafkatest starts Kafka brokers: Apache Kafka itself as a process of ours that dies with us, and an in-process
// stand-in on a folder. Tests and benchmarks use it; it knows nothing of package testing.
//
// The two differ: the real broker paces transactions (about 50 a second for one producer at its defaults), the stand-in
// does not. What is said about latency or crashes is proved with the real one.
package kafkatest
