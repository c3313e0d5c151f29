// Package sim runs the source and the sink, all of their real code, against fakes in one process and in made-up time
// (testing/synctest), with faults that a seed chooses. It is tests alone: nothing imports it.
//
// # What is real and what is not
//
//	source, spool, codec, offsets, kafka, sink     real
//	broker                                         kfake, as the embedded broker has it, without a data folder
//	masters, replicas, targets                     fake: server is a small Redis that speaks the protocol
//	connections                                    fake: network has latency, buffers, and cuts where it is told to
//	files of the spool                             real, in a folder of the test
//	clocks, timers                                 of the bubble: a minute costs what is done in it
//
// Nothing in the code under test knows of this: it is given other functions to dial with (topology.Dialer.Dial,
// kafka.Config.Dial).
//
// # A run
//
// A seed makes a scenario: the shape of the deployment, the workload, and a list of faults, each with its time. The same
// number gives the same scenario; it does not give the same order of goroutines, which nobody controls, nor the same
// replication IDs. So a seed that fails may pass when it is run again, and mostly does not.
//
// While the faults last, a writer changes keys at the masters. Then the faults end, everything has to settle by itself,
// and it is compared: the log's chain is whole and its replay gives what the masters hold (and, with a sink, the target
// holds the same). Increments and appends make a write that is lost or done twice visible for good.
//
// Two scenarios: TestSimSource has the source alone, and reads the log; TestSimSync has a sink behind it, which makes a run ten
// times as dear. TestCutsAtEveryByte is no matter of seeds: the link meets trouble at each byte in turn.
//
// A process that crashes cannot be killed here. Its connections are all cut at one moment and no others let it out; what
// its folder held at that moment is what its successor finds; its goroutines are then asked to end.
//
// # Running it
//
//	go test ./internal/sim                     the first seeds of each scenario, as many as there is time for
//	make sim SEEDS=n [FROM=first]              that many
//	make sim SEED=n [TESTFLAGS=-run=...]       one, with the log of all that ran
//
// A run that hangs for good (time stands still: something waits in a way that the bubble cannot see, such as for a mutex whose
// holder waits for time) ends with the timeout of go test, which shows where. For franz-go's own mutexes see TestMain; a mutex
// of ours that is held over network traffic is a fault to be repaired, since nobody who waits for it can be stopped.
//
// # Not here
//
// Slots that move at the target, several workers, several databases, large values in chunks, brokers that restart: tests with
// real servers have these. kfake forgets sometimes that a member of a group went away while it was joining; a sink that keeps its
// instance name, as connectors do, is not harmed.
package sim
