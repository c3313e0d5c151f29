// Package testkit is the layer over package testing for tests with real servers: a World owns the processes of one test,
// fails the test when a server cannot be had (it never skips), ends everything with the test, and keeps all logs of one
// that failed, with what the goroutines of its processes did then. Packages proc, redistest and kafkatest below it know nothing of package testing.
//
// A test polls with Eventually and never sleeps.
package testkit
