package sink

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Databases says which database of the source goes into which of the target. nil is each into the one of its own number.
type Databases map[uint32]uint32

const allDatabases = "all"

// ParseDatabases reads "all", or pairs such as "0:0,3:1".
func ParseDatabases(text string) (Databases, error) {
	if text == "" || text == allDatabases {
		return nil, nil
	}
	d := Databases{}
	taken := map[uint32]bool{}
	for pair := range strings.SplitSeq(text, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(pair), ":")
		a, err1 := strconv.ParseUint(from, 10, 31)
		b, err2 := strconv.ParseUint(to, 10, 31)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("want %s, or pairs source:target such as 0:0,3:1, not %q", allDatabases, pair)
		}
		if _, twice := d[uint32(a)]; twice {
			return nil, fmt.Errorf("database %d stands there twice", a)
		}
		if taken[uint32(b)] {
			// A flush of one would remove the keys of the other.
			return nil, fmt.Errorf("two databases go into database %d", b)
		}
		d[uint32(a)], taken[uint32(b)] = uint32(b), true
	}
	return d, nil
}

// String is the inverse of ParseDatabases, in one form for equal maps.
func (d Databases) String() string {
	if d == nil {
		return allDatabases
	}
	var pairs []string
	for _, from := range slices.Sorted(maps.Keys(d)) {
		pairs = append(pairs, fmt.Sprintf("%d:%d", from, d[from]))
	}
	return strings.Join(pairs, ",")
}

// Target is the database that one of the source goes into, if it goes anywhere.
func (d Databases) Target(db uint32) (uint32, bool) {
	if d == nil {
		return db, true
	}
	to, ok := d[db]
	return to, ok
}

// home is the database of the target that holds the sink's own keys: the lowest.
func (d Databases) home() uint32 {
	if len(d) == 0 {
		return 0
	}
	return slices.Min(slices.Collect(maps.Values(d)))
}

// holds tells whether keys in a database of the target may be ours.
func (d Databases) holds(target uint32) bool {
	if d == nil {
		return true
	}
	return slices.Contains(slices.Collect(maps.Values(d)), target)
}

// UnmappedPolicy says what happens with writes in databases that Databases does not name.
type UnmappedPolicy string

// The policies for databases that go nowhere.
const (
	// UnmappedStop stops with an error that names the database. It is the default.
	UnmappedStop UnmappedPolicy = "stop"
	// UnmappedSkip leaves them out.
	UnmappedSkip UnmappedPolicy = "skip"
)

// DatabaseError tells that the target has no place for what the source did in a database.
type DatabaseError struct {
	DB      uint32
	Command string // "" for an entry
	Why     string
}

func (e *DatabaseError) Error() string {
	what := "a key"
	if e.Command != "" {
		what = e.Command
	}
	return fmt.Sprintf("apply %s of database %d: %s (databases says which database goes where, databases.unmapped: skip leaves the others out)", what, e.DB, e.Why)
}

const (
	whyUnnamed = "databases does not name it"
	whyCluster = "a cluster has database 0 only"
)
