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
  Redis replicas  2.00   s                            
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
		"Written by `make bench BENCHFLAGS=\"-keys 10\"`, on 1970-01-01.", "2 cores, Some CPU", "over a topic of 12 partitions", "100 marks a second",
		"## 1M `SET`\n", "| redriver source | 3.00 | s | 64.0 | x 1.50 |  |\n", "3: medians", "4.20 % of the machine",
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
		{args: "-parts latency,idle"},
		{args: "-parts sync,stream,checkpoints,latency,idle,shards,buffer", write: true},
		{args: "-bare"},
		{args: "-parts idle -write", write: true},
		{args: "-write=false"},
		{args: "-parts nothing", bad: true},
		{args: "-rates 0", bad: true},
		{args: "-shards 3,x", bad: true},
		{args: "-keys 0", bad: true},
		{args: "-idle 1ms", bad: true},
		{args: "-broker-warmup 0"},
		{args: "-broker-warmup -1s", bad: true},
		{args: "more", bad: true},
	} {
		cfg, err := parseFlags(strings.Fields(c.args), io.Discard)
		if (err != nil) != c.bad || err == nil && cfg.write != c.write {
			t.Errorf("%q: write %v, %v", c.args, cfg.write, err)
		}
	}
}

func TestGoals(t *testing.T) {
	cfg, err := parseFlags([]string{"-redis-shake", "shake", "-redis-gunyu", "gunyu"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{cfg: cfg}
	var r results
	for _, factor := range []float64{0.9, 1, 2} {
		err := r.add([]measure{
			{caseName: b.caseSet(), what: groupSource, unit: unitCPU, value: 1, peakBytes: 200 << 20},
			{caseName: b.caseSet(), what: redriverBoth, unit: unitCPU, value: 3 * factor, replica: groupReplicas},
			{caseName: b.caseSet(), what: groupTarget, unit: unitCPU, value: 1.4},
			{caseName: b.caseSet(), what: groupReplicas, unit: unitCPU, value: 1.5},
			{caseName: b.caseSet(), what: targetOf(nameShake), unit: unitCPU, value: 1.3},
			{caseName: b.caseSet(), what: targetOf(nameGunYu), unit: unitCPU, value: 1.35},
			{caseName: b.caseLatency(50_000), what: "redriver p99", unit: "ms", value: 45},
			{caseName: b.caseLatency(50_000), what: "Kafka alone p99", unit: "ms", value: 37},
			{caseName: b.caseShards(3), what: redriverBoth, unit: unitCost, value: 10},
			{caseName: b.caseShards(64), what: redriverBoth, unit: unitCost, value: 10 * factor},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text := goalsTable(cfg, r.rows)
	for _, want := range []string{
		"| Stream of 1M `SET` of 100 bytes | CPU s | 3.30 | 2.80 | 3.00 (2.70..6.00) | must met, aim missed | x 2.08 | x 1.76 | x 2.00 (1.80..4.00) | must met, aim missed |",
		"| Target's servers: Stream of 1M `SET` of 100 bytes | CPU s | 1.30 | 1.50 | 1.40 (1.40..1.40) | **missed** |  |  |  |  |",
		"| Write to visible, at 50k writes/s, p99 | ms | 60.0 | 47.0 | 45.0 (45.0..45.0) | aim met |  |  |  |  |",
		"| Resident memory, redriver source, streaming | MB | 256 | 100 | 200 (200..200) | must met, aim missed |  |  |  |  |",
		"| Cost of a command, 64 shards to 3 | x | 1.25 |  | 1.00 (0.900..2.00) | must met |  |  |  |  |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	cfg.commands = 1000
	if text := goalsTable(cfg, r.rows); strings.Contains(text, "3.30") {
		t.Errorf("a bound for other sizes in\n%s", text)
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

func TestCommandNamesNoPath(t *testing.T) {
	got := command([]string{"-runs", "3", "-redis-shake", "/somewhere/redis-shake", "--redis-gunyu=/somewhere/redis-gunyu"})
	if want := `make bench BENCHFLAGS="-runs 3 -redis-shake PATH --redis-gunyu=PATH"`; got != want {
		t.Errorf("%s, want %s", got, want)
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
	for _, n := range []int{1, 3, 16, 64, 100} {
		for i := range n {
			first, last := i*slot.Count/n, (i+1)*slot.Count/n-1
			if a, b := indexOf(slot.Slot(first), n), indexOf(slot.Slot(last), n); a != i || b != i {
				t.Errorf("of %d: slots %d to %d belong to %d and %d, not %d", n, first, last, a, b, i)
			}
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
	for _, partitions := range []int{3, 16, 32} {
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

// Sizes of what is filled are those that the case's name says, about.
func TestAllTypesHaveFiveElementsAKey(t *testing.T) {
	types := allTypes{keys: 100_000}
	sum := 0
	for i := range types.keyCount() {
		if i%typesPeriod < typesStrings {
			sum++
			continue
		}
		sum += types.elements(i)
	}
	if want := 5 * types.keys; sum < want*97/100 || sum > want*103/100 {
		t.Errorf("%d elements, want about %d", sum, want)
	}
}

func TestSharesOfTheMixedStream(t *testing.T) {
	guarded, n := 0, 0
	for i := range mixedPeriod {
		s := &sender{pcg: rand.NewPCG(0, 0)}
		w := mixed(1000, mixedPeriod)
		s.work = w
		s.add(i)
		n += s.n
		switch name := strings.Split(string(s.out), "\r\n")[2]; name {
		case "SET", "HSET", "SADD", "ZADD":
		default:
			guarded++
		}
	}
	if guarded != mixedGuarded || n != mixedPeriod {
		t.Errorf("%d commands, %d of them guarded, want %d and %d", n, guarded, mixedPeriod, mixedGuarded)
	}
}

func TestReplicaBuffersAreSummedUp(t *testing.T) {
	list := "id=3 addr=127.0.0.1:1 omem=20504 tot-mem=1\nid=4 omem=96 tot-omem=7\n"
	if got := replicaBuffers(list); got != 20600 {
		t.Errorf("%d, want 20600", got)
	}
}
