package verify

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redriver/redriver/redis/slot"
)

// Kind tells in what a key differs.
type Kind string

// The kinds of differences. A key can have one of Expiry beside one of Type or Value.
const (
	Missing     Kind = "missing" // at the source only
	Extra       Kind = "extra"   // at the target only
	Type        Kind = "type"
	Value       Kind = "value"        // includes lengths, scores and the order of a list
	Expiry      Kind = "expiry"       // of the key
	FieldExpiry Kind = "field-expiry" // of a hash's fields, all else being equal
	Group       Kind = "group"        // groups, consumers and pending entries of a stream whose entries are equal
	Consumer    Kind = "consumer"     // a consumer of the target alone, with nothing pending, all else of the stream being equal
	Function    Kind = "function"     // a library of functions; Key is its name
)

// Kinds lists all kinds, in the order reports use.
var Kinds = []Kind{Missing, Extra, Type, Value, Expiry, FieldExpiry, Group, Consumer, Function}

// Difference is one difference of one key.
type Difference struct {
	Key  string // byte for byte
	DB   int    // of the source
	Slot slot.Slot
	Kind Kind
	From string // short and printable
	To   string

	Repaired bool // copied to the target since, and equal there
}

func (d Difference) String() string {
	where := fmt.Sprintf("slot %d", d.Slot)
	switch {
	case d.Kind == Function:
		where = "library"
	case d.DB != 0:
		where = fmt.Sprintf("database %d", d.DB)
	}
	return fmt.Sprintf("%-7s %s (%s): source %s, target %s", d.Kind, short(d.Key), where, d.From, d.To)
}

// jsonDifference is the form of a difference in files: key escaped as Go and JSON people know it, and where that is not
// the key itself, its bytes.
type jsonDifference struct {
	Kind      Kind   `json:"kind"`
	Key       string `json:"key"`
	KeyBase64 string `json:"key_base64,omitempty"`
	DB        int    `json:"db"`
	Slot      int    `json:"slot"`
	From      string `json:"source"`
	To        string `json:"target"`
	Repaired  bool   `json:"repaired,omitempty"`
}

// MarshalJSON writes {"kind", "key", "key_base64", "db", "slot", "source", "target"}. key has every byte that is not
// printable escaped as \xNN, and then key_base64 holds the bytes.
func (d Difference) MarshalJSON() ([]byte, error) {
	j := jsonDifference{Kind: d.Kind, Key: d.Key, DB: d.DB, Slot: int(d.Slot), From: d.From, To: d.To, Repaired: d.Repaired}
	if quoted := strconv.Quote(d.Key); !utf8.ValidString(d.Key) || quoted[1:len(quoted)-1] != d.Key {
		j.Key = quoted[1 : len(quoted)-1]
		j.KeyBase64 = base64.StdEncoding.EncodeToString([]byte(d.Key))
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Difference) UnmarshalJSON(b []byte) error {
	var j jsonDifference
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*d = Difference{Key: j.Key, DB: j.DB, Slot: slot.Slot(j.Slot), Kind: j.Kind, From: j.From, To: j.To, Repaired: j.Repaired}
	if j.KeyBase64 != "" {
		key, err := base64.StdEncoding.DecodeString(j.KeyBase64)
		if err != nil {
			return fmt.Errorf("read key of a difference: %w", err)
		}
		d.Key = string(key)
	}
	return nil
}

// Result of a comparison.
type Result struct {
	Mode        Mode           `json:"mode"`
	Keys        int64          `json:"keys"`        // compared, those at one side only included
	Listed      int64          `json:"listed"`      // by this process, at both sides
	Own         int64          `json:"own"`         // left out because they are Redriver's own
	Counts      map[Kind]int64 `json:"differences"` // by kind; complete, also beyond MaxListed
	Differences []Difference   `json:"-"`           // sorted by database and key, at most MaxListed
	// Unsettled are keys that differed at every look and had changed between the last two: nobody can tell yet.
	Unsettled int64         `json:"unsettled"`
	Rounds    int           `json:"rounds"` // it took
	Elapsed   time.Duration `json:"-"`
	Seconds   float64       `json:"seconds"` // Elapsed
	// BytesRead and BytesSent are of both sides together.
	BytesRead int64 `json:"bytes_read"`
	BytesSent int64 `json:"bytes_sent"`
	Repaired  int64 `json:"repaired"` // keys and libraries that differed and were made equal
	// Unstable are slots that were moving all the time, so keys of them may have been passed over; for a single server 1.
	Unstable int  `json:"unstable_slots"`
	Resumed  bool `json:"resumed"`
}

// Identical tells whether the comparison found, and could have found, every difference and there is none.
func (r Result) Identical() bool { return r.Total() == 0 && r.Unsettled == 0 && r.Unstable == 0 }

// Total is the number of differences.
func (r Result) Total() int64 {
	var n int64
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// Verdict is one line: what the comparison has found.
func (r Result) Verdict() string {
	switch total := r.Total(); {
	case total == 1:
		return "DIFFERENT: 1 difference"
	case total > 0:
		return fmt.Sprintf("DIFFERENT: %d differences", total)
	case r.Unsettled > 0:
		return fmt.Sprintf("NO VERDICT: %d keys changed at every look, compare again with more rounds or fewer writes", r.Unsettled)
	case r.Unstable > 0:
		return "NO VERDICT: slots or masters changed during the scan, compare again"
	case r.Mode == Sample:
		return "NO DIFFERENCE IN THE SAMPLE"
	case r.Mode == Length:
		return "EQUAL IN KEYS, TYPES, LENGTHS AND EXPIRY (values were not read)"
	case r.Mode == Keys:
		return "EQUAL IN KEYS AND TYPES (values were not read)"
	default:
		return "IDENTICAL"
	}
}

// String is a summary for people: counts, what is listed, and the verdict at the end.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d keys compared in %s", r.Keys, r.Elapsed.Round(time.Millisecond))
	if r.Rounds > 1 {
		fmt.Fprintf(&b, ", %d rounds", r.Rounds)
	}
	if r.Own > 0 {
		fmt.Fprintf(&b, ", %d keys of Redriver itself left out", r.Own)
	}
	if r.Mode == Sample && r.Keys > 0 && r.Identical() {
		// The rule of three: n draws without a hit bound the share of hits by 3/n with 95 %.
		fmt.Fprintf(&b, "\nif more than %.2g %% of all keys differed, one would have been among them with 95 %% probability", min(300/float64(r.Keys), 100))
	}
	for _, d := range r.Differences {
		b.WriteString("\n  " + d.String())
	}
	if more := r.Total() - int64(len(r.Differences)); more > 0 && len(r.Differences) > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	if r.Total() > 0 {
		b.WriteString("\nby kind:")
		for _, k := range Kinds {
			if n := r.Counts[k]; n > 0 {
				fmt.Fprintf(&b, " %s %d", k, n)
			}
		}
	}
	if r.Total() > 0 && r.Unsettled > 0 {
		fmt.Fprintf(&b, "\n%d more keys changed at every look", r.Unsettled)
	}
	if r.Total() > 0 && r.Unstable > 0 {
		b.WriteString("\nslots or masters changed during the scan: there may be more")
	}
	if r.Repaired > 0 {
		fmt.Fprintf(&b, "\n%d keys differed and were copied from the source; looked at again, they are equal", r.Repaired)
	}
	b.WriteString("\n" + r.Verdict())
	return b.String()
}
