package main

// capacityTemplate is docs/capacity.md; see capacity for its fields.
const capacityTemplate = `# Capacity

Written by ` + "`make bench`" + ` together with [BENCHMARKS.md](../BENCHMARKS.md), whose cases are named here; the arithmetic is in
e2e/bench/capacity.go. Figures are those of one machine, on which everything ran side by side: take them for ratios, and run
` + "`make bench`" + ` on yours.

## What things cost

CPU seconds, and MB or GB of log in Kafka, compressed as by default. For each million commands:

| | source | sink | target's servers | broker | log | row of BENCHMARKS.md |
|---|---|---|---|---|---|---|
| SET of 100 bytes | {{figure .Set.Source}} | {{figure .Set.Sink}} | {{figure .Set.Target}} | {{figure .Set.Broker}} | {{figure .SetMB}} MB | {{.CaseNames.set}} |
| mixed | {{figure .Mixed.Source}} | {{figure .Mixed.Sink}} | {{figure .Mixed.Target}} | {{figure .Mixed.Broker}} | {{figure .MixedMB}} MB | {{.CaseNames.mixed}} |

For each GB that the data take in the source's memory ("data in the source's memory"):

| | source | sink | target's servers | broker | log | row of BENCHMARKS.md |
|---|---|---|---|---|---|---|
| small strings | {{figure .SyncA.Source}} | {{figure .SyncA.Sink}} | {{figure .SyncA.Target}} | {{figure .SyncA.Broker}} | {{figure .SyncAGB}} GB | {{.CaseNames.A}} |
| all types | {{figure .SyncB.Source}} | {{figure .SyncB.Sink}} | {{figure .SyncB.Target}} | {{figure .SyncB.Broker}} | {{figure .SyncBGB}} GB | {{.CaseNames.B}} |
| a few huge keys | {{figure .SyncC.Source}} | {{figure .SyncC.Sink}} | {{figure .SyncC.Target}} | {{figure .SyncC.Broker}} | {{figure .SyncCGB}} GB | {{.CaseNames.C}} |

## What one core carries

One million divided by the CPU seconds of a million, in writes per second:

| | SET | mixed |
|---|---|---|
| a core of a source | {{rate .Set.Source}} | {{rate .Mixed.Source}} |
| a core of a sink | {{rate .Set.Sink}} | {{rate .Mixed.Sink}} |
| a core of a broker, without replication | {{rate .Set.Broker}} | {{rate .Mixed.Broker}} |

Work is divided by shard at the source and by partition at the sink: one shard is read and published by about one core,
whatever the worker has. Small rates cost more for each command, since every transaction and every batch costs something; the
cases of many shards in BENCHMARKS.md have how much. Resident memory was {{figure .SourceMB}} MB of a source and {{figure .SinkMB}} MB of a sink at
most; budgets are for a connector and not for a shard or partition, so it hardly grows with them.

## How many partitions

They cannot change while the topic is used, so choose for what will be.

- At least as many as cores that the sinks of one target will have in all: a partition is applied by one goroutine, which waits for
  the answers to a batch before it sends the next. Two to four for each core even out what is hot.
- About as many as the source has masters, or up to twice: slots are divided evenly and in order, so a master's lane then writes
  to a few partitions. Each transaction writes a marker to each partition it touched, which is what brokers are busy with at
  small rates.
- Not many more. For each partition a sink has a connection to each node that has slots of it.

12, the default, is right for up to about 12 masters and 6 cores. For {{.Masters}} masters take {{.Partitions}}.

## A cluster of {{.Masters}} masters and {{.DataGB}} GB

With {{count .WritesMaster}} writes per second at each master, {{count .Writes}} in all, half SET and half mixed, one target, replication {{.Replication}}, a log of
{{.RetentionHours}} hours. Workers have {{.WorkerCores}} cores and should need no more than {{.Load}} of them: the rest is for peaks and for catching up. Data
are a third of each kind above.

| | arithmetic | |
|---|---|---|
| source, cores | {{count .Writes}}/s x ({{figure .Set.Source}} + {{figure .Mixed.Source}}) / 2 per million | {{figure .Stream.Source}} |
| source, workers | that / {{.Load}} / {{.WorkerCores}} cores, rounded up | {{.SourceWorkers}} |
| sink, cores | {{count .Writes}}/s x ({{figure .Set.Sink}} + {{figure .Mixed.Sink}}) / 2 per million | {{figure .Stream.Sink}} |
| sink, workers | that / {{.Load}} / {{.WorkerCores}} cores, rounded up | {{.SinkWorkers}} |
| brokers, cores | {{count .Writes}}/s x ({{figure .Set.Broker}} + {{figure .Mixed.Broker}}) / 2 per million x {{.Replication}} / {{.Load}}, on at least {{.Replication}} brokers | {{.BrokerCores}} |
| log written | {{count .Writes}}/s x ({{figure .SetMB}} + {{figure .MixedMB}}) / 2 MB per million, before replication | {{figure .NetworkMBs}} MB/s |
| disk, stream | that x {{.RetentionHours}} h | {{figure .StreamGB}} GB |
| disk, one snapshot | {{.DataGB}} GB x ({{figure .SyncAGB}} + {{figure .SyncBGB}} + {{figure .SyncCGB}}) / 3 | {{figure .SnapshotGB}} GB |
| disk, brokers together | both x {{.Replication}} | {{figure .DiskGB}} GB |
| full sync, source | {{.DataGB}} GB x ({{figure .SyncA.Source}} + {{figure .SyncB.Source}} + {{figure .SyncC.Source}}) / 3 CPU s | {{figure .SyncCPU.Source}} core hours |
| full sync, sink | {{.DataGB}} GB x ({{figure .SyncA.Sink}} + {{figure .SyncB.Sink}} + {{figure .SyncC.Sink}}) / 3 CPU s | {{figure .SyncCPU.Sink}} core hours |
| full sync, time | the longer of the two, on the cores that the stream leaves free | {{figure .SyncHours}} hours |

What these figures do not have in them:

- One worker more of each kind, so that one may fail: the others take over its shards and partitions.
- Replication costs a broker less than producing does; x {{.Replication}} is the safe side. The broker measured shared its cores with all the
  others, and is dearer for it.
- A snapshot goes no faster than the master's fork, network and our link allow, and ` + "`snapshot.per.host`" + ` masters of a host make one
  at a time. {{.DataGB}} GB take a quarter of an hour over 10 Gbit/s, into the workers and out of them again.
- The spool: a source needs disk for what its masters write while Kafka is away or behind, and for a snapshot that arrives
  faster than it is published, ` + "`spool.disk.bytes`" + ` for each shard at most.
- A sink that reads a snapshot remembers its keys: about two million in the 32 MiB of ` + "`sweep.memory.bytes`" + `, the others in 8 bytes
  of disk each, at times 16. A thousand million keys are 16 GB over all workers of the sink.
- Retention has to reach back over the longest time that a sink may be away, and over a snapshot with all that is written while
  it is taken and applied.
- A worker ends at most ` + "`commit.rate.max`" + ` transactions per second, 400 by default: with many shards on one worker that is what
  latency at small rates is made of.
- Another target is another sink, with its own workers; the source and the log are there once.
`
