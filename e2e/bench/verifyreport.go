package main

import (
	"fmt"
	"strings"
	"time"
)

// verifyHeading begins the section of verify.
const verifyHeading = "\n# Comparing two deployments\n"

// verifyMethod: keys, masters of each cluster.
const verifyMethod = `
%s keys of five types (internal/load's mix without streams) in two clusters of %d masters on this machine, filled alike, so that nothing
differs and everything is read. Each program runs alone, several times in turn; figures are medians, with the least and the largest.
CPU is user and system time of the program from /proc, peak its largest resident memory, moved what all servers received and sent,
servers' CPU that of all six. Redriver compares in both directions, expiry included, with its defaults.
`

const peerMethod = `RedisFullCheck 1.4.10, built from its source and not part of this repository, runs with one round, as its further rounds find
nothing here, and else with its defaults. It looks in one direction: what only the target has needs a run the other way. It does not
compare expiry, and its default mode compares lengths.
`

func verifyReport(cfg config, m machine, programs []*compared, busy series, date time.Time) string {
	var b strings.Builder
	command := "make bench-verify"
	if cfg.redisFullCheck != "" {
		command += ` BENCHFLAGS="-redis-full-check PATH"`
	}
	fmt.Fprintf(&b, "%s\nWritten by `%s`, on %s: %s; Redis %s; %d cores, %s; %d runs. Other programs took %s %% of the machine meanwhile.\n",
		verifyHeading, command, date.UTC().Format("2006-01-02"), m.redriver, m.redis, m.cores, m.cpu, cfg.runs, busy)
	fmt.Fprintf(&b, verifyMethod, count(cfg.keys), shards)
	if cfg.redisFullCheck != "" {
		b.WriteString(peerMethod)
	}
	b.WriteString("\n| | CPU s | wall s | peak MB | moved MB | servers' CPU s |\n|---|---|---|---|---|---|\n")
	for _, c := range programs {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", c.name, c.cpu, c.wall, c.peakMB, c.movedMB, c.serversCPU)
	}
	if cfg.redisFullCheck != "" {
		full, peer := programs[0].cpu.median(), programs[len(programs)-3:]
		lengths, there, back := peer[0].cpu.median(), peer[1].cpu.median(), peer[2].cpu.median()
		fmt.Fprintf(&b, "\nFor values in both directions, as `--mode full` compares, RedisFullCheck needs %s times its CPU; in one direction %s times. "+
			"Its default, lengths in one direction, needs %s times.\n", figure((there+back)/full), figure(there/full), figure(lengths/full))
	}
	return b.String()
}
