// Package verify compares two Redis deployments key by key: which keys are at one side only, and where type, value or
// expiry differ. It reads masters only and writes nothing. It is not a sampler: every key of both sides is looked at,
// and an answer of "identical" means that each value was read, or its DUMP payload was equal.
//
// Compare is called by the tests, the demo and the command line. It starts its own goroutines, a scanner and a few
// workers for each master, and has ended all of them when it returns.
//
// How a key is compared:
//
//  1. TYPE, expiry and MEMORY USAGE at both sides, pipelined for a page of keys.
//  2. DUMP at both sides for values below Options.LargeBytes: equal payloads are equal values.
//  3. Everything else is read in pieces. Payloads differ for equal values: hash tables are in the order of a seed of
//     the process, quicklists remember how they grew, streams hold when a consumer was last seen.
//
// Memory is bounded by pages, pieces and Options.MaxRecheck, whatever the sizes of keyspace and values are. One case
// escapes: where a server refuses MEMORY USAGE the size of an element is unknown, and pages are of 16 elements then.
//
// Two sides under writes never look equal at one moment. Rounds are for that: what differs is read again after
// Options.Interval, and only what still differs in the last round is reported.
package verify
