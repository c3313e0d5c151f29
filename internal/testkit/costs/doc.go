// Package costs counts what a piece of code costs, in figures that are the same on a busy machine as on an idle one:
// allocations, bytes, and instructions. Tests guard hot paths with it; time is for benchmarks.
//
// The code runs in a process of its own, a second life of the test's binary, so that nothing else allocates or computes
// beside it. There it warms up, has its allocations counted by the runtime, and then its instructions by the test, which
// lets the process go on one instruction at a time (ptrace(2), PTRACE_SINGLESTEP). Counters of the processor would be
// faster, but most virtual machines do not offer them. A repeated string instruction (REP MOVS) counts once per repetition.
//
// With REDRIVER_COSTS_PROFILE=1 the test's log (-v) says which functions the instructions are in: a profile without noise.
//
// Invariant: all other threads of that process are stopped meanwhile, and it has one P, so goroutines take turns on the one
// thread that is counted, and no collector or monitor interferes. The code must not wait for anything outside of it: no
// sockets, files, timers.
package costs
