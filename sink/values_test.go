package sink

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/verify"
)

// targetVersions are the targets that values are brought to.
var targetVersions = []string{"redis-5.0", "redis-6.2", "redis-7.0", "redis-7.4", "redis-8.6", "valkey-8.1", "valkey-9.1"}

// newVersionRig is newRig with a target of a version and one partition.
func newVersionRig(t testing.TB, version string) *rig {
	t.Helper()
	w := testkit.New(t)
	return &rig{
		TB: t, w: w, kafka: kafka.Config{Brokers: []string{w.FakeKafka().Addr()}}, prefix: "p", name: "t", partitions: 2,
		target: w.ClusterWith(redistest.Config{Version: version, Masters: 1}),
	}
}

func (r *rig) laneAlone() *lane {
	r.Helper()
	return newLane(r.TB, r.kafka, r.prefix, 1, r.partitions, slot.Range{First: 0, Last: everything}, nil)
}

// load publishes a snapshot of these values.
func (l *lane) load(values []sampleValue, change func(*event.Event)) {
	l.t.Helper()
	l.commit(func() {
		l.begin()
		for _, v := range values {
			p, e := l.entry(v.name, v.payload)
			if change != nil {
				change(e)
			}
			l.publish(p, e, nil)
		}
	})
	l.commit(l.end)
}

const (
	testHold   = 2 * MinExpiryHold
	moduleType = 7
)

// lossless tells whether a target has room for all that a value holds.
func lossless(target rdb.Format, f facts) bool {
	return (f.messages == 0 || target.HasProducers()) && (target.HasFieldExpiry() || !strings.Contains(strings.Join(f.lines, "\n"), "expires 4"))
}

// heldFacts is what a value is to be at a target: field times later by the hold, or none.
func heldFacts(f facts, target rdb.Format, holdMs int64) facts {
	lines := make([]string, len(f.lines))
	for i, l := range f.lines {
		lines[i] = l
		front, at, ok := strings.Cut(l, " expires ")
		n, err := strconv.ParseInt(at, 10, 64)
		if !ok || err != nil || n == 0 {
			continue
		}
		if n += holdMs; !target.HasFieldExpiry() {
			n = 0
		}
		lines[i] = fmt.Sprintf("%s expires %d", front, n)
	}
	f.lines = lines
	return f
}

// TestValuesOfEveryVersion brings payloads of every type and version to targets of every version: by the content of what the
// target makes of them, and by what the source's own server answers.
func TestValuesOfEveryVersion(t *testing.T) {
	var all []sampleValue
	own := map[string]*redistest.Node{} // a server for what one version wrote
	w := testkit.New(t)
	for _, v := range samples(t) {
		if v.typ == moduleType {
			continue
		}
		all = append(all, v)
		version, _, _ := strings.Cut(v.name, "/")
		if version == "handmade" {
			continue
		}
		if own[version] == nil {
			own[version] = w.Server(version)
		}
		if err := own[version].Client().RestoreReplace(t.Context(), v.name, 0, v.payload).Err(); err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
	}
	for _, version := range targetVersions {
		for _, hold := range []time.Duration{0, testHold} {
			if hold == 0 && version != "redis-5.0" && version != "redis-8.6" && version != "valkey-9.1" {
				continue // payloads as they are, which the others take too
			}
			t.Run(fmt.Sprintf("%s, hold %s", version, hold), func(t *testing.T) {
				t.Parallel()
				r := newVersionRig(t, version)
				r.laneAlone().load(all, nil)
				cfg := r.config()
				cfg.ExpiryHold, cfg.Unsupported = hold, UnsupportedKeep
				s := r.start(cfg)
				r.waitApplied(s)
				lossy := r.checkValues(all, hold)
				for version, node := range own {
					r.checkCommands(version, node, hold, lossy)
				}
				if n := s.Status().Unsupported; n != int64(len(lossy)) {
					t.Errorf("%d values count as unsupported, %d are", n, len(lossy))
				}
				t.Logf("%d values, %d of them not whole", len(all), len(lossy))
			})
		}
	}
}

// checkValues compares what the target DUMPs with what was sent to it, and returns the values it has no room for.
func (r *rig) checkValues(all []sampleValue, hold time.Duration) (lossy map[string]bool) {
	r.Helper()
	c := r.target.Client()
	target := r.targetFormat()
	lossy = map[string]bool{}
	for _, v := range all {
		payload, err := c.Dump(r.Context(), v.name).Result()
		if err != nil {
			r.Errorf("%s, type %d: %v", v.name, v.typ, err)
			continue
		}
		want := factsOf(r, v.payload)
		if !lossless(target, want) {
			lossy[v.name] = true
		}
		if diff := diffFacts(heldFacts(want, target, hold.Milliseconds()), factsOf(r, payload)); diff != "" {
			r.Errorf("%s, type %d: %s", v.name, v.typ, diff)
		}
	}
	return lossy
}

// checkCommands compares the target with a server that holds the same values, by what both answer.
func (r *rig) checkCommands(version string, node *redistest.Node, hold time.Duration, lossy map[string]bool) {
	r.Helper()
	result, err := verify.Compare(r.Context(), verify.At(node.Addr()), verify.At(r.target.Addrs()...), verify.Options{
		ExpiryHold: hold, Filter: verify.Filter{Prefixes: []string{version + "/"}},
	})
	if err != nil {
		r.Errorf("compare with %s: %v", version, err)
		return
	}
	for _, d := range result.Differences {
		if !lossy[d.Key] {
			r.Errorf("%s", d)
		}
	}
}

func (r *rig) targetFormat() rdb.Format {
	r.Helper()
	c := r.target.Client()
	c.Set(r.Context(), "format", "1", 0)
	payload := c.Dump(r.Context(), "format").Val()
	c.Del(r.Context(), "format")
	_, _, version, err := rdb.SplitPayload([]byte(payload))
	if err != nil {
		r.Fatal(err)
	}
	return rdb.FormatOf(version)
}

// samplesNamed finds the samples with these names.
func samplesNamed(t testing.TB, names ...string) (out []sampleValue) {
	t.Helper()
	for _, v := range samples(t) {
		if slices.Contains(names, v.name) {
			out = append(out, v)
		}
	}
	if len(out) != len(names) {
		t.Fatalf("%d of %q found", len(out), names)
	}
	return out
}

// TestUnsupported: what a target lacks stops the sink with a name, or is left out and counted.
func TestUnsupported(t *testing.T) {
	timed, producers, module := "redis-7.4/hash-timed-small", "redis-8.6/stream-messages", "redis-7.2/module"
	for _, c := range []struct {
		key, lacks string
		policy     UnsupportedPolicy
		stops      bool
		length     int64 // of the value at the target; -1: none
	}{
		{timed, whatFieldExpiry, UnsupportedStop, true, 0},
		{timed, whatFieldExpiry, UnsupportedSkip, false, -1},
		{timed, whatFieldExpiry, UnsupportedKeep, false, 4},
		{producers, whatProducers, "", true, 0},
		{producers, whatProducers, UnsupportedSkip, false, -1},
		{producers, whatProducers, UnsupportedKeep, false, 5},
		{module, "module with the type", UnsupportedStop, true, 0},
		{module, "module with the type", UnsupportedKeep, true, 0},
		{module, "module with the type", UnsupportedSkip, false, -1},
	} {
		t.Run(fmt.Sprintf("%s, %s", c.key, c.policy), func(t *testing.T) {
			t.Parallel()
			r := newVersionRig(t, "redis-7.0")
			l := r.laneAlone()
			first := samplesNamed(t, "redis-5.0/hash-long")[0] // an earlier generation has something the target knows
			first.name = c.key
			l.load([]sampleValue{first}, nil)
			again := samplesNamed(t, c.key)[0]
			other := again
			other.name = "other"
			l.load([]sampleValue{again, other}, nil)
			cfg := r.config()
			cfg.Unsupported = c.policy
			s := r.start(cfg)
			if c.stops {
				err := s.await()
				stop, ok := errors.AsType[*UnsupportedError](err)
				if !ok || string(stop.Key) != c.key && string(stop.Key) != "other" || !strings.Contains(stop.What, c.lacks) || !strings.Contains(err.Error(), "target.unsupported") {
					t.Fatalf("sink ended with %v", err)
				}
				t.Log(err)
				return
			}
			r.waitApplied(s)
			if n := s.Status().Unsupported; n != 2 {
				t.Errorf("%d values count as unsupported", n)
			}
			client := r.target.Client()
			n := int64(-1)
			switch kind := client.Type(t.Context(), c.key).Val(); kind {
			case "hash":
				n = client.HLen(t.Context(), c.key).Val()
			case "stream":
				n = client.XLen(t.Context(), c.key).Val()
			case "none":
			default:
				t.Errorf("type at the target is %s", kind)
			}
			if n != c.length {
				t.Errorf("length at the target is %d, want %d", n, c.length)
			}
			s.stop()
			if left := client.Keys(t.Context(), "redriver!s!*").Val(); len(left) > 0 {
				t.Errorf("left at the target: %q", left)
			}
		})
	}
}

// TestUnsupportedCommands: what sets the expiry of hash fields is left out for a target that knows none.
func TestUnsupportedCommands(t *testing.T) {
	text := func(commands ...string) (wire []byte) {
		for _, c := range commands {
			wire = resp.AppendCommand(wire, strings.Fields(c)...)
		}
		return wire
	}
	commands := text("INCR n", "HSET k f 1", "HPEXPIREAT k 1000 FIELDS 1 f", "hsetex k PXAT 1000 FIELDS 2 f 1 g 2", "HPERSIST k FIELDS 1 f", "SET s 1")
	for _, c := range []struct {
		policy  UnsupportedPolicy
		version int
		want    []byte
		count   int
	}{
		{UnsupportedStop, 10, nil, 0},
		{UnsupportedKeep, 13, commands, 6},
		{UnsupportedKeep, 10, text("INCR n", "HSET k f 1", "HSET k f 1 g 2", "SET s 1"), 4},
		{UnsupportedSkip, 10, text("INCR n", "HSET k f 1", "SET s 1"), 3},
	} {
		noted := 0
		v := &values{policy: c.policy, target: target{format: rdb.FormatOf(c.version), dialect: leastDialect(rdb.FormatOf(c.version))}, note: func(string, []byte) { noted++ }}
		var scratch scratch
		u := &unit{}
		err := u.read(&event.Event{Kind: event.Unit, Key: []byte("k"), Commands: commands, Count: 6}, 1, 0, v, &scratch)
		if c.want == nil {
			if _, ok := errors.AsType[*UnsupportedError](err); !ok {
				t.Errorf("%s at version %d: %v", c.policy, c.version, err)
			}
			continue
		}
		if err != nil || string(u.commands) != string(c.want) || u.count != c.count {
			t.Errorf("%s at version %d: %+v, %v", c.policy, c.version, u, err)
			continue
		}
		if want := 6 - c.count; noted < want {
			t.Errorf("%s at version %d: %d counted", c.policy, c.version, noted)
		}
	}
}
