package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// The example that the capacity page computes, and what it assumes.
const (
	planMasters        = 100
	planDataGB         = 1000
	planWritesMaster   = 5000 // writes per second of one master, half of them SET, half mixed
	planLoad           = 0.5  // of its cores that a worker or broker should need at most: the rest is for peaks and for catching up
	planWorkerCores    = 4
	planReplication    = 3
	planRetentionHours = 24
	planPartitions     = 128
)

// costs of one side: CPU seconds.
type sideCost struct{ Source, Sink, Broker, Target float64 }

func (c sideCost) scaled(by float64) sideCost {
	return sideCost{c.Source * by, c.Sink * by, c.Broker * by, c.Target * by}
}

func (c sideCost) plus(o sideCost) sideCost {
	return sideCost{c.Source + o.Source, c.Sink + o.Sink, c.Broker + o.Broker, c.Target + o.Target}
}

// capacity is what the page shows.
type capacity struct {
	Set, Mixed                sideCost // per million commands
	SyncA, SyncB, SyncC       sideCost // per GB of the source's memory
	SetMB, MixedMB            float64  // log on disk, MB per million commands
	SyncAGB, SyncBGB, SyncCGB float64  // log on disk, GB per GB of memory
	SourceMB, SinkMB          float64  // largest resident memory
	CaseNames                 map[string]string

	Masters, DataGB, WritesMaster, Writes, WorkerCores, Replication, RetentionHours, Partitions int
	Load                                                                                        float64

	Stream                                   sideCost // cores, of all writes
	SourceWorkers, SinkWorkers, BrokerCores  float64
	SyncCPU                                  sideCost // hours of one core, of the whole data
	SyncHours                                float64  // on those workers
	SnapshotGB, StreamGB, DiskGB, NetworkMBs float64
}

// costOf reads the rows of a case, by is what they are divided by.
func costOf(rows table, caseName string, by float64) sideCost {
	get := func(what string) float64 { return medianOf(rows.row(caseName, what)) / by }
	return sideCost{get(groupSource), get(groupSink), get(groupKafka), get(groupTarget)}
}

func newCapacity(cfg config, rows table) capacity {
	b := &bench{cfg: cfg}
	millions := float64(cfg.commands) / 1e6
	gb := func(caseName string) float64 { return medianOf(rows.row(caseName, dataInMemory)) / 1000 }
	logGB := func(caseName string) float64 { return medianOf(rows.row(caseName, logOnDisk)) / 1000 / gb(caseName) }
	c := capacity{
		Set: costOf(rows, b.caseSet(), millions), Mixed: costOf(rows, b.caseMixed(), millions),
		SyncA: costOf(rows, b.caseSyncA(), gb(b.caseSyncA())), SyncB: costOf(rows, b.caseSyncB(), gb(b.caseSyncB())), SyncC: costOf(rows, b.caseSyncC(), gb(b.caseSyncC())),
		SetMB: medianOf(rows.row(b.caseSet(), logOnDisk)) / millions, MixedMB: medianOf(rows.row(b.caseMixed(), logOnDisk)) / millions,
		SyncAGB: logGB(b.caseSyncA()), SyncBGB: logGB(b.caseSyncB()), SyncCGB: logGB(b.caseSyncC()),
		CaseNames: map[string]string{"A": b.caseSyncA(), "B": b.caseSyncB(), "C": b.caseSyncC(), "set": b.caseSet(), "mixed": b.caseMixed()},
		Masters:   planMasters, DataGB: planDataGB, WritesMaster: planWritesMaster, Writes: planMasters * planWritesMaster, WorkerCores: planWorkerCores,
		Replication: planReplication, RetentionHours: planRetentionHours, Partitions: planPartitions, Load: planLoad,
	}
	for _, r := range rows {
		switch r.what {
		case groupSource:
			c.SourceMB = max(c.SourceMB, r.peakMB.median())
		case groupSink:
			c.SinkMB = max(c.SinkMB, r.peakMB.median())
		}
	}
	c.Stream = c.Set.plus(c.Mixed).scaled(float64(c.Writes) / 1e6 / 2)
	workers := func(cores float64) float64 { return math.Ceil(cores / planLoad / planWorkerCores) }
	c.SourceWorkers, c.SinkWorkers = workers(c.Stream.Source), workers(c.Stream.Sink)
	c.BrokerCores = math.Ceil(c.Stream.Broker * planReplication / planLoad)
	c.SyncCPU = c.SyncA.plus(c.SyncB).plus(c.SyncC).scaled(planDataGB / 3. / 3600)
	// While the stream goes on: what it leaves of the cores.
	c.SyncHours = max(c.SyncCPU.Source/(c.SourceWorkers*planWorkerCores-c.Stream.Source), c.SyncCPU.Sink/(c.SinkWorkers*planWorkerCores-c.Stream.Sink))
	c.SnapshotGB = planDataGB * (c.SyncAGB + c.SyncBGB + c.SyncCGB) / 3
	c.NetworkMBs = float64(c.Writes) / 1e6 * (c.SetMB + c.MixedMB) / 2
	c.StreamGB = c.NetworkMBs * 3600 * planRetentionHours / 1000
	c.DiskGB = (c.SnapshotGB + c.StreamGB) * planReplication
	return c
}

// capacityPage is docs/capacity.md.
func capacityPage(cfg config, rows table) (string, error) {
	t, err := template.New("capacity").Funcs(template.FuncMap{
		"figure": figure, "rate": func(cpu float64) string { return thousands(1e6 / cpu) }, "count": count,
	}).Parse(capacityTemplate)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, newCapacity(cfg, rows)); err != nil {
		return "", fmt.Errorf("make capacity page: %w", err)
	}
	return b.String(), nil
}

// thousands writes a rate: "620k".
func thousands(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf("%.0fk", v/1000)
}

// writeCapacity rewrites docs/capacity.md.
func writeCapacity(root string, cfg config, rows table) error {
	text, err := capacityPage(cfg, rows)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "docs", "capacity.md"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write capacity page: %w", err)
	}
	return nil
}
