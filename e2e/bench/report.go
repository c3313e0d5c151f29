package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// printTable writes all rows as one table for a terminal. The tabwriter keeps its first error for Flush.
func printTable(out io.Writer, rows []*row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	last := ""
	for _, r := range rows {
		if r.caseName != last {
			last = r.caseName
			_, _ = fmt.Fprintf(w, "\n%s\t\t\tpeak MB\tto replica\tto franz-go, Kafka\n", strings.ReplaceAll(last, "`", ""))
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.value, r.unit, r.peakMB, times(r.toReplica), times(r.toAlone))
	}
	return w.Flush()
}

// times writes ratios: "x 1.20".
func times(s series) string {
	if len(s) == 0 {
		return ""
	}
	return "x " + s.String()
}

// count writes a round number shortly: "1M", "200k", "1234".
func count(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return strconv.Itoa(n/1_000_000) + "M"
	case n >= 1000 && n%1000 == 0:
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n)
}

type reportInput struct {
	machine machine
	config  config
	args    []string
	date    time.Time
	rows    []*row
	others  series // percent of the machine, of each run
}

// report is the text of BENCHMARKS.md.
func report(in reportInput) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmarks\n\nWritten by `%s`, on %s.\n\n", command(in.args), in.date.UTC().Format("2006-01-02"))
	m := in.machine
	b.WriteString("| | |\n|---|---|\n")
	for _, line := range [][2]string{
		{"machine", fmt.Sprintf("%d cores, %s, %s of memory, %s", m.cores, m.cpu, m.memory, m.kernel)},
		{"Redriver", m.redriver},
		{"Redis", m.redis},
		{"Kafka", m.kafka + ", one broker"},
		{"Go", m.golang},
		{"runs", runsText(in.config.runs)},
		{"CPU taken by other programs meanwhile", in.others.String() + " % of the machine"},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", line[0], line[1])
	}
	for _, p := range in.config.peers {
		fmt.Fprintf(&b, "| %s | built from its source, not part of this repository |\n", p.name)
	}
	b.WriteString(goalsTable(in.config, in.rows))
	b.WriteString("\n")
	fmt.Fprintf(&b, method, shards, in.config.partitions, valueBytes, int(time.Second/markInterval), shardsRate/1000)
	writeCases(&b, in.rows)
	return b.String()
}

// command is what wrote the report; where peers lie on this machine is nobody's business.
func command(args []string) string {
	if len(args) == 0 {
		return "make bench"
	}
	shown := slices.Clone(args)
	for i, arg := range shown {
		name, _, joined := strings.Cut(arg, "=")
		switch {
		case !strings.HasPrefix(strings.TrimLeft(name, "-"), "redis-"):
		case joined:
			shown[i] = name + "=PATH"
		case i+1 < len(shown):
			shown[i+1] = "PATH"
		}
	}
	return `make bench BENCHFLAGS="` + strings.Join(shown, " ") + `"`
}

func runsText(n int) string {
	if n == 1 {
		return "1: every figure is of a single run"
	}
	return fmt.Sprintf("%d: medians, with the least and the largest value", n)
}

// method is what a reader has to know of how it was done. Arguments: masters, partitions, bytes of a value, marks per second,
// thousand writes per second of the part of many shards.
const method = `## Method

Everything runs on this one machine, each server and each side of Redriver as a process of its own. Source and target are
clusters of %d masters that keep nothing on disk; Kafka is one broker, whose Java machine runs as Kafka's own scripts have it and
was loaded before until it had compiled, as in production; Redriver runs with its defaults, one process with the source and one with the sink,
over a topic of %d partitions. Beside it, in the same run: plain Redis servers, each a replica of
one of the source's masters (the same work without a log), franz-go alone, and peers, which copy cluster to cluster without a log,
with their defaults. Each system gets a source of its own, filled alike, and the machine for itself.

- **CPU** is user and system time of the processes from /proc, **peak MB** their largest resident memory, both summed up over
  the processes of a line. "to replica" compares with the Redis replicas together, "to franz-go, Kafka" with franz-go or Kafka alone.
- **Full sync**: from the start of the system to the moment when a mark that was written behind the snapshot is visible in
  every partition's slots at the copy. Time and CPU include the start of the processes. B has 26 strings to 20 collections (hashes, lists, sets,
  sorted sets, streams in equal parts), most of them small; C five keys each of the first four of these types.
- **Stream**: from the first write to the same kind of mark. Commands are written over one connection to each master, pipelined, as
  fast as the source answers, so all processes share the cores; "all written" is when the source had them all. Values have %d bytes that do
  not compress. The mix: SET and SET EX (7 of 20), INCR, APPEND, HSET, HINCRBY, EXPIRE, SADD, ZADD, LPUSH, RPUSH, XADD; 8 of 20 are guarded.
- **franz-go alone**: the records that the case left in the topic, from memory, by one transactional producer per master with the
  source's settings and commits (1 MB or 20 ms, growing to 32 MB or 200 ms), into a topic with as many partitions; then read back by a
  consumer of committed records with the sink's settings. At most a million records; the rest is added in proportion.
- **Write to visible**: %d marks a second are written at the source, spread over the slots, beside the load. Counted is from the
  sending of a mark to the moment when the copy's server tells that its key has changed (CLIENT TRACKING). Kafka alone: in one process, one
  transactional producer per master that commits records and a position without a pause, and one consumer of committed records, at the same rate.
- **Price of checkpoints**: INCR, which is guarded, in place of SET of a number, which is not.
- **Shards**: as many masters at the same total rate, %dk writes/s; the copy has three. One hot shard: all keys in one of three
  masters, so one lane carries it; the cores that are busy meanwhile show whether anything but them holds it up.
- **The master's output buffer**: the largest sum of what all masters hold back for their replicas (omem of CLIENT LIST), their limit lifted.
- **Idle**: share of one core with nothing written, connections and topics as the parts before left them.
`

func writeCases(b *strings.Builder, rows []*row) {
	last := ""
	for _, r := range rows {
		if r.caseName != last {
			last = r.caseName
			fmt.Fprintf(b, "\n## %s\n\n| | value | unit | peak MB | to replica | to franz-go, Kafka |\n|---|---|---|---|---|---|\n", last)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", r.what, r.value, r.unit, r.peakMB, times(r.toReplica), times(r.toAlone))
	}
}
