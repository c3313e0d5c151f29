// Package connectors turns a configuration into running connectors: it parses and checks the configuration, assembles
// sources and sinks, runs them, restarts those that can be, and says how each stands.
//
// It moves no data and decides nothing about Redis or Kafka; that is for the packages source and sink, which know
// nothing of it. The command line calls it, and prints what it returns.
//
// # Configuration
//
// Every key is one row of a table (keys.go): parsing, checks, the printed configuration and docs/configuration.md come
// from that row. A connector's configuration is a flat map of texts, as Kafka Connect has it. All faults are found
// before any is reported, in one [ConfigError].
//
//	Load      a file, the environment, flags         -> Config
//	NewConfig maps that a command has made itself    -> Config
//
// # Running
//
//	New      assembles, dials nothing
//	Check    Kafka, then the topology of each Redis: nothing is written anywhere before all of it has passed
//	Run      one goroutine for each connector and one that reports; returns when all have ended
//	Status   at any time, from any goroutine
//
// A connector that fails is started again after a pause that doubles up to a bound, with jitter, as long as its error
// is one that passes by itself. One that does not ends Run: the others are stopped first, in good order, and the error
// is returned. What an error means to the caller of the process is decided in one place, [CodeOf].
//
// Stopping: when the context of Run ends, every connector commits what it has read, within its own drain.timeout.
package connectors
