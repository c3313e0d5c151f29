package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/proc"
)

// bench is one run. One goroutine.
type bench struct {
	cfg      config
	progress io.Writer
	dir      string
	broker   *kafkatest.Broker
	alone    *alone
	measures []measure
}

// measureOnce measures everything once, with a broker of its own.
func measureOnce(ctx context.Context, cfg config, progress io.Writer) (_ []measure, err error) {
	dir, err := os.MkdirTemp("", "redriver-bench-")
	if err != nil {
		return nil, err
	}
	if err := proc.RemoveAtExit(dir); err != nil {
		return nil, err
	}
	broker, err := kafkatest.Start(ctx, kafkatest.Config{Dir: filepath.Join(dir, "kafka"), AsShipped: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, broker.Kill(), os.RemoveAll(dir)) }()
	b := &bench{cfg: cfg, progress: progress, dir: dir, broker: broker}
	b.alone = &alone{broker: broker.Addr(), dir: dir, partitions: cfg.partitions}
	if err := b.warmBroker(ctx); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		names []string
		run   func(context.Context) error
	}{
		{[]string{partSyncA, partSet, partMixed, partCheckpoints, partLatency, partIdle}, b.strings},
		{[]string{partSyncB}, b.allTypes},
		{[]string{partSyncC}, b.hugeKeys},
		{[]string{partLatency}, b.kafkaLatency},
		{[]string{partShards}, b.shards},
		{[]string{partBuffer}, b.buffers},
	} {
		if !cfg.has(part.names...) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return nil, err
		}
	}
	return b.measures, nil
}

// warmBroker has the broker carry a snapshot and a stream until its Java machine has compiled what that takes, as that of one in
// production has: the compiler itself takes a third of a core meanwhile.
func (b *bench) warmBroker(ctx context.Context) error {
	if b.cfg.brokerWarmup == 0 {
		return nil
	}
	b.say("broker: loaded for %v, not counted", b.cfg.brokerWarmup)
	c := &contest{bench: b, name: nameRedriver, dir: filepath.Join(b.dir, "warmup"), on: setup{name: "warmup"}}
	return c.run(ctx, func(ctx context.Context, c *contest) error {
		if err := fillStrings(b.cfg.keys).write(ctx, c.source); err != nil {
			return err
		}
		if err := c.start(ctx); err != nil {
			return err
		}
		_, err := measureLatency(ctx, c.source, c.sys, sets(b.cfg.keys, b.cfg.keys, 3), slices.Max(b.cfg.rates), b.cfg.brokerWarmup)
		return err
	})
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, "%s  "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// Names of systems.
const (
	nameRedriver = "redriver"
	nameReplica  = "replica"
)

// systems are those that are measured side by side.
func (b *bench) systems(peers bool) []string {
	if b.cfg.bare {
		return []string{nameRedriver}
	}
	all := []string{nameRedriver, nameReplica}
	if peers {
		for _, p := range b.cfg.peers {
			all = append(all, p.name)
		}
	}
	return all
}

// setup says what a contest runs on.
type setup struct {
	name    string
	masters int           // of the source; 0: shards
	version serverVersion // of source and replicas
	systems []string
}

// compete calls fn with each system, each with a source of its own; then franz-go carries what Redriver left in the log.
func (b *bench) compete(ctx context.Context, on setup, fn func(context.Context, *contest) error) error {
	var work []work
	for _, with := range on.systems {
		c := &contest{bench: b, name: with, dir: filepath.Join(b.dir, on.name+"-"+with), on: on}
		if err := c.run(ctx, fn); err != nil {
			return fmt.Errorf("%s, %s: %w", on.name, with, err)
		}
		work = append(work, c.work...)
	}
	if b.cfg.bare {
		return nil
	}
	for _, w := range work {
		if err := b.franz(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// work is what a case left in the log.
type work struct {
	caseName string
	recordsN int // that the case must have left, at least
	stretch  stretch
}

// franz measures franz-go alone on what a case left. What it did not carry, because memory is bounded, is added in
// proportion.
func (b *bench) franz(ctx context.Context, w work) error {
	b.say("%s: franz-go alone", w.caseName)
	produce, consume, err := b.alone.copyTopic(ctx, w.stretch)
	if err != nil {
		return fmt.Errorf("%s: %w", w.caseName, err)
	}
	if produce.TotalN < w.recordsN {
		return fmt.Errorf("%s: the log holds %d records, not %d or more", w.caseName, produce.TotalN, w.recordsN)
	}
	part := float64(produce.RecordsN) / float64(produce.TotalN)
	b.measures = append(b.measures,
		measure{caseName: w.caseName, what: franzProduce, unit: unitCPU, value: produce.CPU.Seconds() / part},
		measure{caseName: w.caseName, what: franzConsume, unit: unitCPU, value: consume.CPU.Seconds() / part},
		measure{caseName: w.caseName, what: "records in the topic", unit: "thousand", value: float64(produce.TotalN) / 1000},
	)
	b.say("%s: produced %d of %d records in %v with %d commits, consumed in %v", w.caseName,
		produce.RecordsN, produce.TotalN, produce.Took.Round(time.Millisecond), produce.CommitsN, consume.Took.Round(time.Millisecond))
	return nil
}

// Names and units of measures, beside the names of groups.
const (
	redriverBoth = "redriver source + sink"
	franzProduce = "franz-go alone, produce"
	franzConsume = "franz-go alone, consume"
	kafkaAlone   = "Kafka alone"
	dataInMemory = "data in the source's memory"
	logOnDisk    = "log on disk"
	appliedBy    = "all applied, "
	writtenFor   = "all written, "

	unitCPU = "CPU s"
)
