package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/redriver/redriver/internal/testkit/redistest"
)

// contest is one system at its work.
type contest struct {
	*bench
	name, dir string
	on        setup

	source *redistest.Cluster
	sys    system
	marks  marker
	work   []work
}

// run starts the source, calls fn, and ends everything.
func (c *contest) run(ctx context.Context, fn func(context.Context, *contest) error) (err error) {
	masters := c.on.masters
	if masters == 0 {
		masters = shards
	}
	c.source, err = redistest.StartCluster(ctx, redistest.Config{
		Version: c.on.version.name, Masters: masters, Dir: filepath.Join(c.dir, "source"),
		Args: append([]string{"--repl-backlog-size", backlog}, c.on.version.args...),
	})
	if err != nil {
		return fmt.Errorf("start source: %w", err)
	}
	defer func() { err = errors.Join(err, c.source.Close()) }()
	c.marks = marker{source: c.source, partitions: c.cfg.partitions}
	if c.sys, err = c.newSystem(ctx); err != nil {
		return err
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

func (c *contest) newSystem(ctx context.Context) (system, error) {
	switch c.name {
	case nameRedriver:
		return newRedriver(ctx, c.source, c.bench, c.dir, c.on.name)
	case nameReplica:
		return newReplicas(c.source, c.dir, c.on.version), nil
	}
	i := slices.IndexFunc(c.cfg.peers, func(p peer) bool { return p.name == c.name })
	return newPeer(ctx, c.source, c.cfg.peers[i], c.dir)
}

// start starts the system with what is in the source, unmeasured.
func (c *contest) start(ctx context.Context) error {
	_, _, err := c.copySnapshot(ctx)
	return err
}

// snapshot starts the system and measures until the copy has every key. The keys are written.
func (c *contest) snapshot(ctx context.Context, caseName string) error {
	c.say("%s: %s", caseName, c.name)
	profile := c.profile()
	used, took, err := c.copySnapshot(ctx)
	if err := errors.Join(err, profile.end(caseName)); err != nil {
		return err
	}
	keys, err := nodes(c.source.Masters()).keyCount(ctx)
	if err != nil {
		return err
	}
	if err := c.record(ctx, spent{caseName: caseName, used: used, took: took, recordsN: int(keys)}); err != nil {
		return err
	}
	if c.name != nameRedriver {
		return nil
	}
	memory, err := nodes(c.source.Masters()).sum(ctx, "memory", "used_memory_dataset")
	c.add(measure{caseName: caseName, what: dataInMemory, unit: "MB", value: float64(memory) / (1 << 20)})
	return err
}

func (c *contest) copySnapshot(ctx context.Context) (map[string]usage, time.Duration, error) {
	before, err := forks(ctx, c.source)
	if err != nil {
		return nil, 0, err
	}
	m := beginMeter(c.sys)
	err = c.sys.start(ctx)
	if err == nil {
		err = awaitForks(ctx, c.source, before, c.sys)
	}
	if err == nil {
		err = c.marks.applied(ctx, c.sys)
	}
	used, took := m.end()
	if err == nil {
		err = sameCount(ctx, c.source, c.sys)
	}
	return used, took, err
}

// stream measures until the copy has what write writes, of which recordsN are known to be records of their own.
func (c *contest) stream(ctx context.Context, caseName string, recordsN int, write func() error) error {
	c.say("%s: %s", caseName, c.name)
	s := spent{caseName: caseName, recordsN: recordsN}
	var err error
	if s.begin, err = c.logEnds(ctx); err != nil {
		return err
	}
	if r, ok := c.sys.(*redriver); ok {
		if s.disk, err = c.alone.diskBytes(ctx, r.topic()); err != nil {
			return err
		}
	}
	busy, err := busyCPU()
	if err != nil {
		return err
	}
	profile := c.profile()
	m := beginMeter(c.sys)
	start := time.Now()
	err = write()
	s.written = time.Since(start)
	if err == nil {
		err = c.marks.applied(ctx, c.sys)
	}
	s.used, s.took = m.end()
	after, busyErr := busyCPU()
	if err := errors.Join(err, busyErr, profile.end(caseName)); err != nil {
		return err
	}
	s.busyCores = (after - busy).Seconds() / s.took.Seconds()
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
	caseName      string
	used          map[string]usage
	took, written time.Duration
	busyCores     float64         // of the machine; 0 if not measured
	recordsN      int             // that are due in the log; 0: franz-go is not measured
	begin         map[int32]int64 // where the log stood before
	disk          int64           // its bytes then
}

// record makes measures of it.
func (c *contest) record(ctx context.Context, s spent) error {
	alone := s.recordsN > 0
	c.addUsage(s.caseName, unitCPU, s.used, alone, func(u usage) float64 { return u.cpu.Seconds() })
	if s.written > 0 {
		c.add(measure{caseName: s.caseName, what: writtenFor + c.name, unit: "s", value: s.written.Seconds()})
	}
	applied := measure{caseName: s.caseName, what: appliedBy + c.name, unit: "s", value: s.took.Seconds()}
	if c.name != nameReplica {
		applied.replica = appliedBy + nameReplica
	}
	c.add(applied)
	if s.busyCores > 0 {
		c.add(measure{caseName: s.caseName, what: "busy with all that runs, " + c.name, unit: "cores", value: s.busyCores})
	}
	r, ok := c.sys.(*redriver)
	if !ok || !alone {
		return nil
	}
	ends, err := c.logEnds(ctx)
	if err != nil {
		return err
	}
	disk, err := c.alone.diskBytes(ctx, r.topic())
	if err != nil {
		return err
	}
	c.add(measure{caseName: s.caseName, what: logOnDisk, unit: "MB", value: float64(disk-s.disk) / 1e6})
	c.work = append(c.work, work{caseName: s.caseName, recordsN: s.recordsN, stretch: stretch{topic: r.topic(), begin: s.begin, end: ends}})
	return nil
}

// add takes a measure; what it is compared with goes where nothing else is measured.
func (c *contest) add(m measure) {
	if c.cfg.bare {
		m.replica, m.alone = "", ""
	}
	c.measures = append(c.measures, m)
}

// addUsage takes what each group used, in some unit.
func (c *contest) addUsage(caseName, unit string, used map[string]usage, alone bool, value func(usage) float64) {
	franz := map[string]string{groupSource: franzProduce, groupSink: franzConsume}
	groups := c.sys.groups()
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(groupOrder(a.name), groupOrder(b.name)) })
	for _, g := range groups {
		m := measure{caseName: caseName, what: g.name, unit: unit, value: value(used[g.name]), peakBytes: used[g.name].peakBytes}
		if g.name != groupReplicas && g.name != groupKafka {
			m.replica = groupReplicas
		}
		if alone {
			m.alone = franz[g.name]
		}
		c.add(m)
		if g.name == groupSink {
			both := usage{cpu: used[groupSource].cpu + used[groupSink].cpu}
			c.add(measure{caseName: caseName, what: redriverBoth, unit: unit, value: value(both), replica: groupReplicas})
		}
	}
}

// groupOrder puts Redriver's own processes first.
func groupOrder(name string) int {
	switch name {
	case groupSource:
		return 0
	case groupSink:
		return 1
	}
	return 2
}
