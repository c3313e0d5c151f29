package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// goal is one figure that Redriver is to reach. must and aim are upper bounds, NaN where there is none: because nothing that
// it is measured by is there (a peer), or because the sizes are others than those that the bounds are made for.
type goal struct {
	name, unit string
	must, aim  float64
	// replica is what a real replica needed on the machine that must and aim were made on, 0 for bounds of any machine.
	replica   float64
	measured  series
	toReplica series
}

// verdict says what of the bounds must and aim is met.
func verdict(measured series, must, aim float64) string {
	m := measured.median()
	switch {
	case math.IsNaN(m):
		return ""
	case m > must:
		return "**missed**"
	case m <= aim:
		return "aim met"
	case math.IsNaN(must) && math.IsNaN(aim):
		return ""
	case math.IsNaN(must):
		return "aim missed"
	case math.IsNaN(aim):
		return "must met"
	}
	return "must met, aim missed"
}

// cells are the columns of the table.
func (g goal) cells() []string {
	cells := []string{g.name, g.unit, bound(g.must), bound(g.aim), g.measured.String(), verdict(g.measured, g.must, g.aim)}
	if g.replica == 0 || math.IsNaN(g.must) {
		return append(cells, "", "", times(g.toReplica), "")
	}
	must, aim := g.must/g.replica, g.aim/g.replica
	return append(cells, "x "+bound(must), "x "+bound(aim), times(g.toReplica), verdict(g.toReplica, must, aim))
}

// Sizes that the bounds of CPU time are made for.
const (
	goalKeys     = 1_000_000
	goalCommands = 1_000_000
)

// Other bounds.
const (
	memoryMust, memoryAim = 256, 100 // MB of a process; the aim is for streaming
	idleMust, idleAim     = 1, 0.5   // percent of a core, both processes together
	p50Must, p50AimAbove  = 15, 4    // ms
	p99Must, p99AimAbove  = 60, 10   // ms
	flatFactor            = 1.25     // what still counts as flat
	flatBufferMB          = 8
)

var none = math.NaN()

// table finds rows by their names.
type table []*row

func (t table) row(caseName, what string) *row {
	i := slices.IndexFunc(t, func(r *row) bool { return r.caseName == caseName && r.what == what })
	if i < 0 {
		return nil
	}
	return t[i]
}

// goals are those that something was measured for.
func goals(cfg config, rows table) (all []goal) {
	b := &bench{cfg: cfg}
	add := func(g goal, r *row) {
		if r != nil {
			g.unit, g.measured, g.toReplica = r.unit, r.value, r.toReplica
			all = append(all, g)
		}
	}
	cpu := []struct {
		caseName  string
		must, aim float64
		replica   float64
		sized     bool
	}{
		{b.caseSet(), 3.3, 2.8, 1.59, cfg.commands == goalCommands},
		{b.caseMixed(), 3.0, 2.6, 1.36, cfg.commands == goalCommands},
		{b.caseSyncA(), 3.5, 2.5, 0.74, cfg.keys == goalKeys},
		{b.caseSyncB(), 4.5, 3.5, 0.77, cfg.keys == goalKeys},
		{b.caseSyncC(), 8, 5, 7.9, cfg.keys == goalKeys},
	}
	for _, c := range cpu {
		g := goal{name: c.caseName, must: c.must, aim: c.aim, replica: c.replica}
		if !c.sized {
			g.must, g.aim = none, none
		}
		add(g, rows.row(c.caseName, redriverBoth))
	}
	for _, c := range cpu {
		add(goal{name: "Target's servers: " + c.caseName, must: leastOfPeers(cfg, rows, c.caseName), aim: medianOf(rows.row(c.caseName, groupReplicas))},
			rows.row(c.caseName, groupTarget))
	}
	for _, rate := range cfg.rates {
		for i, q := range []struct{ must, above float64 }{{p50Must, p50AimAbove}, {}, {p99Must, p99AimAbove}} {
			if q.must > 0 {
				name := b.caseLatency(rate)
				add(goal{name: name + ", " + quantileNames[i], must: q.must, aim: q.above + medianOf(rows.row(name, kafkaAlone+" "+quantileNames[i]))},
					rows.row(name, nameRedriver+" "+quantileNames[i]))
			}
		}
	}
	all = append(all, memoryGoals(b, rows)...)
	add(goal{name: b.caseIdle(), must: idleMust, aim: idleAim}, rows.row(b.caseIdle(), redriverBoth))
	all = append(all, shardGoals(b, rows)...)
	for _, v := range cfg.versions {
		name := b.caseBuffer(v)
		g := goal{name: name, must: medianOf(rows.row(name, bufferOf+nameReplica)), aim: none}
		if strings.HasSuffix(v, withChannel) || strings.HasPrefix(v, "redis-8") {
			g.aim = flatBufferMB
		}
		add(g, rows.row(name, bufferOf+nameRedriver))
	}
	return all
}

func medianOf(r *row) float64 {
	if r == nil {
		return none
	}
	return r.value.median()
}

// leastOfPeers is the CPU of that peer's target that needed least.
func leastOfPeers(cfg config, rows table, caseName string) float64 {
	least := none
	for _, p := range cfg.peers {
		if v := medianOf(rows.row(caseName, targetOf(p.name))); !math.IsNaN(v) && !(v > least) {
			least = v
		}
	}
	return least
}

// memoryGoals are the largest resident memory of each process in any case, and in any that streams.
func memoryGoals(b *bench, rows table) (all []goal) {
	streaming := []string{b.caseSet(), b.caseMixed(), b.caseHot()}
	for _, rate := range b.cfg.rates {
		streaming = append(streaming, b.caseLatency(rate))
	}
	for _, n := range b.cfg.shards {
		streaming = append(streaming, b.caseShards(n))
	}
	for _, share := range guardedShares {
		streaming = append(streaming, b.caseCheckpoints(share))
	}
	for _, process := range []string{groupSource, groupSink} {
		var always, stream series
		for _, r := range rows {
			if r.what != process {
				continue
			}
			always = largest(always, r.peakMB)
			if slices.Contains(streaming, r.caseName) {
				stream = largest(stream, r.peakMB)
			}
		}
		for _, g := range []goal{
			{name: "Resident memory, " + process + ", any case", must: memoryMust, aim: none, measured: always},
			{name: "Resident memory, " + process + ", streaming", must: memoryMust, aim: memoryAim, measured: stream},
		} {
			if g.unit = "MB"; len(g.measured) > 0 {
				all = append(all, g)
			}
		}
	}
	return all
}

// largest keeps the larger values of two series.
func largest(a, b series) series {
	if a == nil {
		return slices.Clone(b)
	}
	for i := range min(len(a), len(b)) {
		a[i] = max(a[i], b[i])
	}
	return a
}

// shardGoals compare the cost of a command with that at the least number of shards.
func shardGoals(b *bench, rows table) (all []goal) {
	if len(b.cfg.shards) == 0 {
		return nil
	}
	few := b.cfg.shards[0]
	for _, n := range b.cfg.shards[1:] {
		all = append(all, goal{
			name: fmt.Sprintf("Cost of a command, %d shards to %d", n, few), unit: "x", must: flatFactor, aim: none,
			measured: ratio(rows.row(b.caseShards(n), redriverBoth), rows.row(b.caseShards(few), redriverBoth)),
		})
	}
	all = append(all, goal{
		name: "Cost of a command, one hot shard to an even load", unit: "x", must: flatFactor, aim: none,
		measured: ratio(rows.row(b.caseHot(), redriverBoth), rows.row(b.caseSet(), redriverBoth)),
	})
	return slices.DeleteFunc(all, func(g goal) bool { return len(g.measured) == 0 })
}

// ratio compares two rows run by run.
func ratio(a, b *row) (all series) {
	if a == nil || b == nil {
		return nil
	}
	for i := range a.value {
		all = append(all, a.value[i]/b.value[i])
	}
	return all
}

// goalsMethod is what a reader has to know of the table.
const goalsMethod = `
CPU is that of source and sink together, in seconds, where nothing else is said. Its bounds were made on another machine: the
columns to the right have them in units of what a real replica needed there, and the figures in units of the replica of the same run,
which is what carries over from one machine to another. The target's servers have to need no more than the less costly peer's; what a
real replica needs, which is its own target, is the aim. Latency aims at Kafka alone and %g ms (p50) or %g ms (p99) more.
Shards count as flat within x %g. The master's buffer has to be no larger than for a real replica; flat, by the RDB channel, is up to %g MB.
`

// goalsTable is the table of all goals, for the report.
func goalsTable(cfg config, rows table) string {
	var b strings.Builder
	b.WriteString("\n## Goals\n")
	fmt.Fprintf(&b, goalsMethod, float64(p50AimAbove), float64(p99AimAbove), flatFactor, float64(flatBufferMB))
	b.WriteString("\n| goal | unit | must | aim | measured | | must, to replica | aim, to replica | measured, to replica | |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, g := range goals(cfg, rows) {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(g.cells(), " | "))
	}
	return b.String()
}

func bound(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return figure(v)
}
