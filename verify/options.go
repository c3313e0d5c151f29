package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redriver/redriver/redis/topology"
)

// Deployment is one of the two sides: a cluster, found by any of its nodes, or a single server.
type Deployment struct {
	Addrs  []string // host:port
	Dialer topology.Dialer
}

// At is a deployment without authentication.
func At(addrs ...string) Deployment { return Deployment{Addrs: addrs} }

// Mode is how deep a comparison goes.
type Mode string

// The modes. All of them look at every key of both sides, except Sample.
const (
	Full   Mode = "full"   // type, value, expiry
	Digest Mode = "digest" // as Full, but values whose serialised forms have one SHA-1 at both sides are not transferred
	Length Mode = "length" // type, length, expiry
	Keys   Mode = "keys"   // existence and type
	Sample Mode = "sample" // as Full, for Options.SampleN random keys
)

// Modes lists all modes.
var Modes = []Mode{Full, Digest, Length, Keys, Sample}

// Databases is a database of the source and the one it is compared with.
type Databases struct{ From, To int }

// Options of a comparison. The zero value is an exact comparison in one round.
type Options struct {
	Mode    Mode // "": Full
	SampleN int  // keys that Sample looks at, half of them drawn at each side

	Filter    Filter
	Databases []Databases // nil: every database with keys with that of the same number; a cluster has 0 only

	TTLTolerance time.Duration // expiry times may differ by so much; 0: exact to the millisecond
	ExpiryHold   time.Duration // expiry times at the target are later by so much, as a sink with a hold writes them

	Rounds   int           // how often what differs is looked at; 0: once
	Interval time.Duration // between rounds; 0: one second
	// Settle waits until what the source had when it was called is at the target: the hook of a running pipeline. It is
	// called before each round but the first, in place of Interval. A difference that was there before and after, both
	// sides unchanged, ends the rounds for its key. nil: nobody knows.
	Settle func(context.Context) error

	KeysPerSecond  int           // keys looked at, both sides together; 0: no limit
	BytesPerSecond int           // read from both sides together; 0: no limit
	Page           int           // keys of one pipeline; 0: 500
	Workers        int           // pipelines in flight; 0: 4
	LargeBytes     int64         // values from this size on are read in pieces; 0: 1 MiB
	LargeLength    bool          // of values from LargeBytes on only the length is compared
	MaxListed      int           // Differences that Result lists; counting goes on. 0: 1000
	MaxRecheck     int           // differing keys kept for the next round; those beyond count as they were seen first. 0: 200 000
	Patience       time.Duration // how long a side may fail to answer before the comparison ends; 0: 30 s

	// Repair copies keys that differ from the source to the target, and removes there what the source does not have. A
	// running sink must not write to the target meanwhile: a command of its own may be in the copy already.
	Repair bool

	State string // file that lets an interrupted comparison go on; "": none

	Progress func(Progress)   // called after pages, never concurrently; nil: none
	Each     func(Difference) // called for every difference once it is final, never concurrently; nil: none
	Notice   func(string)     // told what a person wants to know at once, such as a side that is waited for; nil: nobody
}

func (o *Options) setDefaults() {
	o.Mode = cmp.Or(o.Mode, Full)
	o.Rounds = max(o.Rounds, 1)
	o.Interval = cmp.Or(o.Interval, time.Second)
	o.MaxListed = cmp.Or(o.MaxListed, 1000)
	o.MaxRecheck = cmp.Or(o.MaxRecheck, 200_000)
	o.Page = cmp.Or(o.Page, 500)
	o.Workers = cmp.Or(o.Workers, 4)
	o.LargeBytes = cmp.Or(o.LargeBytes, 1<<20)
	o.Patience = cmp.Or(o.Patience, 30*time.Second)
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
}

// Validate returns all faults, joined.
func (o Options) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch o.Mode {
	case "", Full, Digest, Length, Keys:
		if o.SampleN != 0 {
			fault("a number of keys to sample needs the mode sample")
		}
	case Sample:
		if o.SampleN < 1 {
			fault("sample %d keys: want at least 1", o.SampleN)
		}
		if o.State != "" {
			fault("a sample has no state to go on from: leave the state file out")
		}
	default:
		fault("mode %q: want one of %v", o.Mode, Modes)
	}
	for _, n := range []struct {
		name string
		n    int64
	}{
		{"TTL tolerance", int64(o.TTLTolerance)},
		{"expiry hold", int64(o.ExpiryHold)},
		{"rounds", int64(o.Rounds)},
		{"interval", int64(o.Interval)},
		{"keys per second", int64(o.KeysPerSecond)},
		{"bytes per second", int64(o.BytesPerSecond)},
		{"page", int64(o.Page)},
		{"workers", int64(o.Workers)},
		{"large bytes", o.LargeBytes},
	} {
		if n.n < 0 {
			fault("%s %d: want 0 or more", n.name, n.n)
		}
	}
	seen := map[int]bool{}
	for _, d := range o.Databases {
		if d.From < 0 || d.To < 0 {
			fault("databases %d:%d: want numbers from 0 on", d.From, d.To)
		}
		if seen[d.To] {
			fault("database %d of the target is compared with two of the source: keys of one would count as extra for the other", d.To)
		}
		seen[d.To] = true
	}
	if err := o.Filter.validate(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// Progress is how far a comparison is.
type Progress struct {
	Round       int // from 1
	Scanned     int64
	Total       int64 // keys that both sides listed or will list, as far as known
	Compared    int64
	Differences int64 // as far as known in this round
	Bytes       int64 // sent to and read from both sides
	Left        time.Duration
}
