package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// guardedShares are the percentages of guarded writes at which the price of checkpoints is measured.
var guardedShares = []int{0, mixedGuarded * 100 / mixedPeriod, 100}

// strings measures what runs on a key space of strings: the copy is made once, and everything else goes on from there.
func (b *bench) strings(ctx context.Context) error {
	return b.compete(ctx, setup{name: "strings", systems: b.systems(true)}, func(ctx context.Context, c *contest) error {
		if err := fillStrings(b.cfg.keys).write(ctx, c.source); err != nil {
			return err
		}
		if b.cfg.has(partSyncA) {
			if err := c.snapshot(ctx, b.caseSyncA()); err != nil {
				return err
			}
		} else if err := c.start(ctx); err != nil {
			return err
		}
		n := b.cfg.commands
		for _, s := range []struct {
			part, caseName string
			work           workload
		}{
			{partSet, b.caseSet(), sets(b.cfg.keys, n, 2)},
			{partMixed, b.caseMixed(), mixed(b.cfg.keys, n)},
		} {
			if !b.cfg.has(s.part) {
				continue
			}
			if err := c.stream(ctx, s.caseName, n, func() error { return s.work.write(ctx, c.source) }); err != nil {
				return err
			}
		}
		if b.cfg.has(partCheckpoints) && !c.isPeer() {
			for _, share := range guardedShares {
				work := counters(b.cfg.keys, n, share)
				if err := c.stream(ctx, b.caseCheckpoints(share), 0, func() error { return work.write(ctx, c.source) }); err != nil {
					return err
				}
			}
		}
		if b.cfg.has(partLatency) {
			for _, rate := range b.cfg.rates {
				if err := c.latency(ctx, rate); err != nil {
					return err
				}
			}
		}
		if b.cfg.has(partIdle) && !c.isPeer() {
			return c.idle(ctx)
		}
		return nil
	})
}

func (c *contest) isPeer() bool { return c.name != nameRedriver && c.name != nameReplica }

func (b *bench) caseSyncA() string {
	return fmt.Sprintf("Full sync A: %s strings of %d bytes", count(b.cfg.keys), valueBytes)
}

func (b *bench) caseSet() string {
	return fmt.Sprintf("Stream of %s `SET` of %d bytes", count(b.cfg.commands), valueBytes)
}

func (b *bench) caseMixed() string {
	return fmt.Sprintf("Stream of %s mixed commands", count(b.cfg.commands))
}

func (b *bench) caseCheckpoints(share int) string {
	return fmt.Sprintf("Price of checkpoints: stream of %s, %d %% guarded", count(b.cfg.commands), share)
}

func (b *bench) caseLatency(rate int) string {
	return fmt.Sprintf("Write to visible, at %s writes/s", count(rate))
}

func (b *bench) caseIdle() string { return "Idle, " + b.cfg.idle.String() }

func (c *contest) latency(ctx context.Context, rate int) error {
	caseName := c.caseLatency(rate)
	c.say("%s: %s", caseName, c.name)
	profile := c.profile()
	meter := beginMeter(c.sys)
	start := time.Now()
	h, err := measureLatency(ctx, c.source, c.sys, sets(c.cfg.keys, c.cfg.keys, 3), rate, c.cfg.latency)
	used, _ := meter.end()
	if err := errors.Join(err, profile.end(caseName)); err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	for i, q := range quantiles(h) {
		m := measure{caseName: caseName, what: c.name + " " + quantileNames[i], unit: "ms", value: milliseconds(q)}
		if c.name != nameReplica {
			m.replica = nameReplica + " " + quantileNames[i]
		}
		if c.name == nameRedriver {
			m.alone = kafkaAlone + " " + quantileNames[i]
		}
		c.add(m)
	}
	c.addUsage(caseName, unitShare, used, false, func(u usage) float64 { return 100 * u.cpu.Seconds() / took })
	return nil
}

const unitShare = "% of a core"

// kafkaLatency adds Kafka's share to the latency.
func (b *bench) kafkaLatency(ctx context.Context) error {
	if b.cfg.bare {
		return nil
	}
	for _, rate := range b.cfg.rates {
		b.say("%s: Kafka alone", b.caseLatency(rate))
		r, err := b.alone.latency(ctx, rate, b.cfg.latency)
		if err != nil {
			return err
		}
		if r.RecordsN == 0 {
			return errors.New("latency of Kafka alone: nothing was counted")
		}
		for i, q := range []time.Duration{r.P50, r.P90, r.P99, r.Max} {
			b.measures = append(b.measures, measure{caseName: b.caseLatency(rate), what: kafkaAlone + " " + quantileNames[i], unit: "ms", value: milliseconds(q)})
		}
		b.measures = append(b.measures, measure{
			caseName: b.caseLatency(rate), what: kafkaAlone + ", its client", unit: unitShare, value: 100 * r.CPU.Seconds() / r.Took.Seconds(),
		})
	}
	return nil
}

var quantileNames = [4]string{"p50", "p90", "p99", "max"}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// settle is the time that is left for what comes behind the last write: commits, acknowledgements, collections.
const settle = 3 * time.Second

func (c *contest) idle(ctx context.Context) error {
	c.say("%s: %s", c.caseIdle(), c.name)
	if err := c.marks.applied(ctx, c.sys); err != nil {
		return err
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	profile := c.profile()
	m := beginMeter(c.sys)
	err := pause(ctx, c.cfg.idle)
	used, took := m.end()
	if err := errors.Join(err, profile.end(c.caseIdle()), c.sys.check()); err != nil {
		return err
	}
	c.addUsage(c.caseIdle(), unitShare, used, false, func(u usage) float64 { return 100 * u.cpu.Seconds() / took.Seconds() })
	return nil
}
