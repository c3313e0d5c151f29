// Package proc owns the real processes of tests, benchmarks and the demo: servers and Redriver itself.
//
// A process started here dies with the process that started it, however that ends, and takes its own children along
// when it is killed through this package. It is not a supervisor: nothing is restarted on its own.
//
// It knows nothing of package testing; package testkit puts that layer on top.
package proc
