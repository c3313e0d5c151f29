// Command redriver carries a live Redis through Kafka into another.
//
// This package is the command line: it parses, wires, runs and prints. What a configuration means, what runs and what an
// error means to the caller are in package connectors.
//
//	run      the service: a configuration file, a real Kafka
//	sync     one copy in one process, with an embedded broker or a real Kafka
//	demo     two clusters on this machine, one copied into the other, to look at
//	config   checks a configuration and prints what holds
//	version  what this is
//
// Files demo*.go alone may use the test kit, which starts servers.
package main
