package main

import (
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/redis/slot"
)

func TestSeriesIsMedianWithRange(t *testing.T) {
	for _, c := range []struct {
		in   series
		want string
	}{
		{nil, ""},
		{series{0}, "0.00"},
		{series{0.01234}, "0.012"},
		{series{1.234}, "1.23"},
		{series{12.34}, "12.3"},
		{series{1234.5}, "1234"},
		{series{3, 1, 2}, "2.00 (1.00..3.00)"},
		{series{4, 1, 2, 3}, "2.50 (1.00..4.00)"},
	} {
		if got := c.in.String(); got != c.want {
			t.Errorf("%v: %q, want %q", []float64(c.in), got, c.want)
		}
	}
}

// Ratios are made within a run: a run on a busy machine is slow on both sides.
func TestRatiosAreWithinARun(t *testing.T) {
	var r results
	for _, factor := range []float64{1, 3, 10} {
		err := r.add([]measure{
			{caseName: "a", what: "source", unit: "s", value: 2 * factor, peakBytes: 5 << 20, replica: "replicas", alone: "franz"},
			{caseName: "a", what: "replicas", unit: "s", value: factor},
			{caseName: "a", what: "franz", unit: "s", value: 4 * factor},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	source := r.rows[0]
	if diff := cmp.Diff([]string{"6.00 (2.00..20.0)", "5.00 (5.00..5.00)", "2.00 (2.00..2.00)", "0.500 (0.500..0.500)"},
		[]string{source.value.String(), source.peakMB.String(), source.toReplica.String(), source.toAlone.String()}); diff != "" {
		t.Error(diff)
	}
}

func TestRunsHaveTheSameMeasures(t *testing.T) {
	var r results
	if err := r.add([]measure{{caseName: "a", what: "x"}}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]measure{
		nil,
		{{caseName: "b", what: "x"}},
		{{caseName: "a", what: "x", replica: "not there"}},
	} {
		copied := results{runs: r.runs}
		for _, old := range r.rows {
			row := *old
			copied.rows = append(copied.rows, &row)
		}
		if err := copied.add(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestTableAndReport(t *testing.T) {
	var r results
	err := r.add([]measure{
		{caseName: "1M `SET`", what: groupSource, unit: "s", value: 3, peakBytes: 64 << 20, replica: groupReplicas},
		{caseName: "1M `SET`", what: groupReplicas, unit: "s", value: 2},
		{caseName: "Idle", what: groupSource, unit: "%", value: 0.5},
		{caseName: "1M `SET`", what: "franz-go", unit: "s", value: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := printTable(&table, r.rows); err != nil {
		t.Fatal(err)
	}
	want := `
1M SET                               peak MB  to replica  to franz-go, Kafka
  redriver source     3.00   s       64.0     x 1.50      
  Redis replicas (3)  2.00   s                            
  franz-go            1.00   s

Idle                      peak MB  to replica  to franz-go, Kafka
  redriver source  0.500  %                    
`
	trim := func(s string) (lines []string) {
		for line := range strings.Lines(s) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		return lines
	}
	if diff := cmp.Diff(trim(want), trim(table.String())); diff != "" {
		t.Error(diff)
	}
	cfg, err := parseFlags([]string{"-keys", "10"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	text := report(reportInput{machine: machine{cores: 2, cpu: "Some CPU"}, config: cfg, args: []string{"-keys", "10"}, date: time.Unix(0, 0), rows: r.rows, others: series{4.2}})
	for _, want := range []string{
		"Written by `go run ./e2e/bench -keys 10`, on 1970-01-01.", "2 cores, Some CPU", "over a topic of 32 partitions", "every 0.2 ms", "100 marks a second",
		"## 1M `SET`\n", "| redriver source | 3.00 | s | 64.0 | x 1.50 |  |\n", "a single run", "4.20 % of the machine",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "%!") {
		t.Errorf("a verb is wrong in\n%s", text)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		args  string
		write bool
		bad   bool
	}{
		{args: "", write: true},
		{args: "-only latency,idle"},
		{args: "-only idle -write", write: true},
		{args: "-write=false"},
		{args: "-only nothing", bad: true},
		{args: "-keys 0", bad: true},
		{args: "-idle 1ms", bad: true},
		{args: "more", bad: true},
	} {
		cfg, err := parseFlags(strings.Fields(c.args), io.Discard)
		if (err != nil) != c.bad || err == nil && cfg.write != c.write {
			t.Errorf("%q: write %v, %v", c.args, cfg.write, err)
		}
	}
}

func TestOthersAreWhatIsBusyWithoutUs(t *testing.T) {
	var before cpuClock
	after := cpuClock{at: before.at.Add(10 * time.Second), busy: time.Duration(runtime.NumCPU()) * 5 * time.Second, own: time.Duration(runtime.NumCPU()) * 4 * time.Second}
	if got := after.othersSince(before); got < 9.99 || got > 10.01 {
		t.Errorf("%.2f %%, want 10", got)
	}
	now, err := readCPUClock()
	if err != nil || now.busy < now.own {
		t.Errorf("%v busy, %v own, %v", now.busy, now.own, err)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{1: "1", 1500: "1500", 2000: "2k", 200_000: "200k", 1_000_000: "1M", 1_500_000: "1500k"} {
		if got := count(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestNodesShareSlotsAsTheClusterDoes(t *testing.T) {
	for i := range shards {
		first, last := i*slot.Count/shards, (i+1)*slot.Count/shards-1
		if indexOf(slot.Slot(first)) != i || indexOf(slot.Slot(last)) != i {
			t.Errorf("slots %d to %d belong to %d and %d, not %d", first, last, indexOf(slot.Slot(first)), indexOf(slot.Slot(last)), i)
		}
	}
}

func TestSlabKeepsOrderAndSpreadsPartitions(t *testing.T) {
	s, err := newSlab(4)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range []int32{1, 1, 1, 1, 2, 2, 3} {
		s.add(&kgo.Record{Partition: p, Key: []byte{byte(i)}, Value: []byte("value")})
	}
	var got []int32
	last := map[int32]byte{}
	for _, r := range s.lane(0, 2) {
		got = append(got, r.partition)
		if k := s.key(r)[0]; k < last[r.partition] || string(s.value(r)) != "value" {
			t.Errorf("record %d behind %d, %q", k, last[r.partition], s.value(r))
		} else {
			last[r.partition] = k
		}
	}
	if want := []int32{1, 2, 1, 1, 2, 1}; !slices.Equal(got, want) {
		t.Errorf("partitions %v, want %v", got, want)
	}
}

func TestLanesCoverPartitionsOnce(t *testing.T) {
	for _, partitions := range []int{3, 24, 32} {
		next := 0
		for lane := range shards {
			first, last := laneRange(lane, partitions)
			if first != next {
				t.Errorf("%d partitions: lane %d begins at %d, not %d", partitions, lane, first, next)
			}
			next = last + 1
		}
		if next != partitions {
			t.Errorf("%d partitions: %d are covered", partitions, next)
		}
	}
}

func TestValuesFollowFromTheirNumbers(t *testing.T) {
	make2 := func(seed, number uint64) (a, b [valueBytes]byte) {
		pcg := rand.NewPCG(9, 9)
		fillValue(pcg, seed, number, a[:])
		fillValue(pcg, seed+1, number, b[:])
		fillValue(pcg, seed, number, b[:])
		return a, b
	}
	a, again := make2(1, 5)
	other, _ := make2(1, 6)
	if a != again || a == other {
		t.Errorf("%q, again %q, the next %q", a, again, other)
	}
}
