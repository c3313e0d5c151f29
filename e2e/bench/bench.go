package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
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
	broker, err := kafkatest.Start(ctx, kafkatest.Config{Dir: filepath.Join(dir, "kafka")})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, broker.Kill(), os.RemoveAll(dir)) }()
	b := &bench{cfg: cfg, progress: progress, dir: dir, broker: broker}
	b.alone = &alone{broker: broker.Addr(), dir: dir, partitions: cfg.partitions}
	if err := b.strings(ctx); err != nil {
		return nil, err
	}
	if cfg.has(partSnapshot) {
		if err := b.mixed(ctx); err != nil {
			return nil, err
		}
	}
	if cfg.has(partLatency) {
		if err := b.kafkaLatency(ctx); err != nil {
			return nil, err
		}
	}
	return b.measures, nil
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, "%s  "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// strings measures all parts on a key space of strings.
func (b *bench) strings(ctx context.Context) error {
	return b.bothSystems(ctx, "strings", func(ctx context.Context, c *contest) error {
		c.keys = b.cfg.keys
		values := setter{source: c.source, keys: c.keys, seed: 1}
		if err := values.fill(ctx); err != nil {
			return err
		}
		if err := c.snapshot(ctx, fmt.Sprintf("Snapshot of %s strings of %d bytes", count(c.keys), valueBytes), b.cfg.has(partSnapshot)); err != nil {
			return err
		}
		if b.cfg.has(partStream) {
			values.seed = 2
			err := c.stream(ctx, fmt.Sprintf("%s `SET` of %d bytes", count(b.cfg.commands), valueBytes), b.cfg.commands, func() (int64, error) {
				return int64(b.cfg.commands), values.stream(ctx, b.cfg.commands)
			})
			if err != nil {
				return err
			}
			err = c.stream(ctx, fmt.Sprintf("%s commands of all kinds", count(b.cfg.commands)), 1, func() (int64, error) {
				return writeMixed(ctx, c.source, b.cfg.commands)
			})
			if err != nil {
				return err
			}
		}
		if b.cfg.has(partLatency) {
			values.seed = 3
			if err := c.latency(ctx, values); err != nil {
				return err
			}
		}
		if b.cfg.has(partIdle) {
			return c.idle(ctx)
		}
		return nil
	})
}

// mixed measures a snapshot of all types.
func (b *bench) mixed(ctx context.Context) error {
	return b.bothSystems(ctx, "mixed", func(ctx context.Context, c *contest) error {
		c.keys = max(1, b.cfg.keys/5)
		if err := fillMixed(ctx, c.source, c.keys); err != nil {
			return err
		}
		return c.snapshot(ctx, fmt.Sprintf("Snapshot of %s keys of six types", count(c.keys)), true)
	})
}

// bothSystems calls fn with Redriver and then with replicas, each with a source of its own; then franz-go carries what
// Redriver left in the log.
func (b *bench) bothSystems(ctx context.Context, name string, fn func(context.Context, *contest) error) error {
	var work []work
	for _, with := range []string{"redriver", "replica"} {
		c := &contest{bench: b, name: with, dir: filepath.Join(b.dir, name+"-"+with), prefix: name}
		if err := c.run(ctx, fn); err != nil {
			return fmt.Errorf("%s, %s: %w", name, with, err)
		}
		work = append(work, c.work...)
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
	caseName, per string
	units         float64 // millions of keys or commands
	leastN        int     // records that the case must have left, at least
	stretch       stretch
}

// franz measures franz-go alone on what a case left. What it did not carry, because memory is bounded, is added in
// proportion.
func (b *bench) franz(ctx context.Context, w work) error {
	b.say("%s: franz-go alone", w.caseName)
	produce, consume, err := b.alone.copyTopic(ctx, w.stretch)
	if err != nil {
		return fmt.Errorf("%s: %w", w.caseName, err)
	}
	if produce.TotalN < w.leastN {
		return fmt.Errorf("%s: the log holds %d records, not %d or more", w.caseName, produce.TotalN, w.leastN)
	}
	part := float64(produce.RecordsN) / float64(produce.TotalN)
	unit := cpuUnit(w.per)
	b.measures = append(b.measures,
		measure{caseName: w.caseName, what: franzProduce, unit: unit, value: produce.CPU.Seconds() / part / w.units},
		measure{caseName: w.caseName, what: franzConsume, unit: unit, value: consume.CPU.Seconds() / part / w.units},
		measure{caseName: w.caseName, what: "records in the topic", unit: "per " + w.per, value: float64(produce.TotalN) / 1e6 / w.units},
	)
	b.say("%s: produced %d of %d records in %v with %d commits, consumed in %v", w.caseName,
		produce.RecordsN, produce.TotalN, produce.Took.Round(time.Millisecond), produce.CommitsN, consume.Took.Round(time.Millisecond))
	return nil
}

// kafkaLatency adds Kafka's share to the latency.
func (b *bench) kafkaLatency(ctx context.Context) error {
	b.say("latency of Kafka alone")
	r, err := b.alone.latency(ctx, b.cfg)
	if err != nil {
		return err
	}
	if r.RecordsN == 0 {
		return errors.New("latency of Kafka alone: nothing was counted")
	}
	for i, q := range []time.Duration{r.P50, r.P90, r.P99, r.Max} {
		b.measures = append(b.measures, measure{
			caseName: b.latencyCase(), what: kafkaAlone + " " + quantileNames[i], unit: "ms", value: milliseconds(q),
		})
	}
	return nil
}

func (b *bench) latencyCase() string {
	return fmt.Sprintf("Latency from write to visible, at %s writes/s", count(b.cfg.rate))
}

var quantileNames = [4]string{"p50", "p90", "p99", "max"}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func cpuUnit(per string) string { return "CPU s / million " + per + "s" }

// Names of measures, beside those of groups.
const (
	franzProduce = "franz-go alone, produce"
	franzConsume = "franz-go alone, consume"
	kafkaAlone   = "Kafka alone"
	appliedBy    = "all applied, "
	writtenFor   = "all written, "
)

// contest is one system at its work.
type contest struct {
	*bench
	name, dir, prefix string
	keys              int

	source *redistest.Cluster
	sys    system
	marks  marker
	work   []work
}

const nameRedriver = "redriver"

// run starts the source, calls fn, and ends everything.
func (c *contest) run(ctx context.Context, fn func(context.Context, *contest) error) (err error) {
	c.source, err = startCluster(ctx, filepath.Join(c.dir, "source"), "--repl-backlog-size", backlog)
	if err != nil {
		return fmt.Errorf("start source: %w", err)
	}
	defer func() { err = errors.Join(err, c.source.Close()) }()
	c.marks = marker{source: c.source, partitions: c.cfg.partitions}
	if c.name == nameRedriver {
		r, err := newRedriver(ctx, c.source, c.broker, c.dir, c.prefix, c.cfg.partitions)
		if err != nil {
			return err
		}
		c.sys = r
	} else {
		c.sys = newReplicas(c.source, c.dir)
	}
	defer func() { err = errors.Join(err, c.sys.close()) }()
	if err := fn(ctx, c); err != nil {
		return err
	}
	if r, ok := c.sys.(*redriver); ok {
		return r.stop()
	}
	return nil
}

// snapshot starts the system and measures until the copy has every key. The keys are written.
func (c *contest) snapshot(ctx context.Context, caseName string, counts bool) error {
	c.say("%s: %s", caseName, c.name)
	before, err := forks(ctx, c.source)
	if err != nil {
		return err
	}
	m := beginMeter(c.sys)
	if err := c.sys.start(ctx); err != nil {
		m.end()
		return err
	}
	err = awaitForks(ctx, c.source, before, c.sys)
	if err == nil {
		err = c.marks.applied(ctx, c.sys)
	}
	used, took := m.end()
	if err != nil {
		return err
	}
	if err := sameCount(ctx, c.source, c.sys); err != nil {
		return err
	}
	if !counts {
		return nil
	}
	return c.record(ctx, spent{caseName: caseName, per: "key", units: float64(c.keys) / 1e6, leastN: c.keys, used: used, took: took})
}

// stream measures until the copy has what write writes; that returns how many commands it were. leastN of them are known
// to be records of their own.
func (c *contest) stream(ctx context.Context, caseName string, leastN int, write func() (int64, error)) error {
	c.say("%s: %s", caseName, c.name)
	s := spent{caseName: caseName, per: "command", leastN: leastN}
	var err error
	if s.begin, err = c.logEnds(ctx); err != nil {
		return err
	}
	m := beginMeter(c.sys)
	start := time.Now()
	n, err := write()
	s.written = time.Since(start)
	if err == nil {
		err = c.marks.applied(ctx, c.sys)
	}
	s.used, s.took = m.end()
	if err != nil {
		return err
	}
	s.units = float64(n) / 1e6
	return c.record(ctx, s)
}

// logEnds are where the log ends now; nil without a log.
func (c *contest) logEnds(ctx context.Context) (map[int32]int64, error) {
	r, ok := c.sys.(*redriver)
	if !ok {
		return nil, nil //nolint:nilnil // a system without a log has no ends
	}
	return c.alone.ends(ctx, r.topic())
}

// spent is what a system needed in a case.
type spent struct {
	caseName, per string
	units         float64 // millions
	used          map[string]usage
	took, written time.Duration
	leastN        int             // records that are due in the log
	begin         map[int32]int64 // where the log stood before
}

// record makes measures of it.
func (c *contest) record(ctx context.Context, s spent) error {
	compare := map[string][2]string{
		groupSource: {groupReplicas, franzProduce},
		groupSink:   {groupReplicas, franzConsume},
		groupTarget: {groupReplicas, ""},
	}
	for _, name := range []string{groupSource, groupSink, groupReplicas, groupTarget, groupKafka} {
		if u, ok := s.used[name]; ok {
			c.measures = append(c.measures, measure{
				caseName: s.caseName, what: name, unit: cpuUnit(s.per), value: u.cpu.Seconds() / s.units, peakBytes: u.peakBytes,
				replica: compare[name][0], alone: compare[name][1],
			})
		}
	}
	applied := measure{caseName: s.caseName, what: appliedBy + c.name, unit: "s", value: s.took.Seconds()}
	if c.name == nameRedriver {
		applied.replica = appliedBy + "replica"
	}
	if s.written > 0 {
		c.measures = append(c.measures, measure{caseName: s.caseName, what: writtenFor + c.name, unit: "s", value: s.written.Seconds()})
	}
	c.measures = append(c.measures, applied)
	r, ok := c.sys.(*redriver)
	if !ok {
		return nil
	}
	ends, err := c.logEnds(ctx)
	if err != nil {
		return err
	}
	c.work = append(c.work, work{caseName: s.caseName, per: s.per, units: s.units, leastN: s.leastN, stretch: stretch{topic: r.topic(), begin: s.begin, end: ends}})
	return nil
}

func (c *contest) latency(ctx context.Context, load setter) error {
	c.say("latency: %s", c.name)
	h, err := measureLatency(ctx, c.source, c.sys, load, c.cfg.rate, c.cfg.latency)
	if err != nil {
		return err
	}
	for i, q := range quantiles(h) {
		m := measure{caseName: c.latencyCase(), what: c.name + " " + quantileNames[i], unit: "ms", value: milliseconds(q)}
		if c.name == nameRedriver {
			m.replica, m.alone = "replica "+quantileNames[i], kafkaAlone+" "+quantileNames[i]
		}
		c.measures = append(c.measures, m)
	}
	return nil
}

// settle is the time that is left for what comes behind the last write: commits, acknowledgements, collections.
const settle = 3 * time.Second

func (c *contest) idle(ctx context.Context) error {
	c.say("idle: %s", c.name)
	if err := c.marks.applied(ctx, c.sys); err != nil {
		return err
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	m := beginMeter(c.sys)
	err := pause(ctx, c.cfg.idle)
	used, took := m.end()
	if err := errors.Join(err, c.sys.check()); err != nil {
		return err
	}
	for _, name := range []string{groupSource, groupSink, groupReplicas, groupTarget, groupKafka} {
		if u, ok := used[name]; ok {
			m := measure{caseName: "Idle, " + c.cfg.idle.String(), what: name, unit: "% of a core", value: 100 * u.cpu.Seconds() / took.Seconds(), peakBytes: u.peakBytes}
			c.measures = append(c.measures, m)
		}
	}
	return nil
}
