// Package e2e tests the binary from outside: real Redis clusters, real Kafka and the embedded broker, processes that are
// killed. It knows what a user can reach, the formats in the log included, and nothing of how a source or sink works.
package e2e
