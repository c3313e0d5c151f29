package main

import (
	"io"
	"strings"
	"testing"
)

func TestCapacityPage(t *testing.T) {
	cfg, err := parseFlags(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{cfg: cfg}
	var measures []measure
	for i, name := range []string{b.caseSet(), b.caseMixed(), b.caseSyncA(), b.caseSyncB(), b.caseSyncC()} {
		for j, what := range []string{groupSource, groupSink, groupTarget, groupKafka} {
			measures = append(measures, measure{caseName: name, what: what, unit: unitCPU, value: float64(1+i) / float64(1+j), peakBytes: 100 << 20})
		}
		measures = append(measures,
			measure{caseName: name, what: dataInMemory, unit: "MB", value: 500}, measure{caseName: name, what: logOnDisk, unit: "MB", value: 250})
	}
	var r results
	if err := r.add(measures); err != nil {
		t.Fatal(err)
	}
	text, err := capacityPage(cfg, r.rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| SET of 100 bytes | 1.00 | 0.500 | 0.333 | 0.250 | 250 MB |", "| small strings | 6.00 | 3.00 | 2.00 | 1.50 | 0.500 GB |",
		"| a core of a source | 1000k | 500k |", "| source, cores | 500k/s x (1.00 + 2.00) / 2 per million | 0.750 |", "| log written | 500k/s x (250 + 250) / 2 MB per million, before replication | 125 MB/s |",
		"| disk, one snapshot | 1000 GB x (0.500 + 0.500 + 0.500) / 3 | 500 GB |", "was 100 MB of a source",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, wrong := range []string{"NaN", "%!", "no value", "| - |"} {
		if strings.Contains(text, wrong) {
			t.Errorf("%q in\n%s", wrong, text)
		}
	}
}
