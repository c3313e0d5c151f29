package sink

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

// The sink's own keys in the target (names: package own):
//
//	kind c  checkpoint, one per slot with guarded writes:
//	        1 <topic id> <partition> <offset>
//	        1 <topic id> <partition> <offset> <parts>   of the record at the offset only so many parts are applied
//	kind w  watermark, one per partition and node, in the first slot of the partition that the node owns:
//	        1 <topic id> <partition> <restart> <applied> <sent> <refused> <hold, ms> <settled> <begins> <slots> <generations> [<databases>]
//	kind f  fence, beside each watermark: a number
//
// All are text, fields separated by one space; refused, settled, begins, slots and generations are lists separated by
// commas, "-" when empty: offsets, shards, shard:offset, slots or ranges of slots, and shard:generation. databases is there
// outside a cluster, where all keys lie in the lowest database that it names, or in 0: "all", or source:target separated by
// commas.
const recordVersion = "1"

var errRecord = errors.New("not written by this version of redriver")

// checkpoint says that everything of its slot up to the offset, that one included, is applied.
type checkpoint struct {
	topicID   string
	partition int32
	offset    int64
	// parts, if not 0, says that the offset itself is applied in part: its first so many parts, see rebuild.go.
	parts int
}

// done is the offset up to which, that one included, everything of the slot is applied.
func (c checkpoint) done() int64 {
	if c.parts > 0 {
		return c.offset - 1
	}
	return c.offset
}

// covers tells whether a unit is applied.
func (c checkpoint) covers(u *unit) bool {
	return u.offset <= c.done() || u.offset == c.offset && u.part > 0 && u.part <= c.parts
}

func (c checkpoint) text() []byte { return c.appendText(nil) }

func (c checkpoint) appendText(dst []byte) []byte {
	dst = append(dst, recordVersion...)
	dst = append(dst, ' ')
	dst = append(dst, c.topicID...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(c.partition), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, c.offset, 10)
	if c.parts > 0 {
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, int64(c.parts), 10)
	}
	return dst
}

func parseCheckpoint(text string) (checkpoint, error) {
	n := 4
	if strings.Count(text, " ") == n {
		n++
	}
	f := fieldsOf(text, n)
	c := checkpoint{topicID: f.word(1), partition: int32(f.number(2)), offset: f.number(3)}
	if n > 4 {
		if c.parts = int(f.number(4)); c.parts < 1 {
			f.check(errRecord)
		}
	}
	if f.err != nil {
		return checkpoint{}, fmt.Errorf("read checkpoint %.80q: %w", text, f.err)
	}
	return c, nil
}

// watermark says what is applied of a partition in some of its slots.
type watermark struct {
	topicID   string
	partition int32
	// restart: everything below it is applied, and reading may begin there. While a snapshot or a chunked event is open
	// it stays at the first record of that.
	restart int64
	// applied: everything below it is applied; -1 as long as nothing was sent at all. A target that shows a lower one
	// than was acknowledged has lost writes.
	applied int64
	// sent: nothing at or above it was sent. Between restart and sent lies the unknown window.
	sent int64
	// refused are the offsets of units that the target refused for good, in order.
	refused []int64
	// hold is by how much expiry times at the target are later than at the source.
	hold time.Duration
	// databases is the map of databases, "" in a cluster.
	databases string
	// settled are the shards whose first generation is complete here.
	settled []event.Shard
	// begins: what lies before its begin in the log is not for us, for shards whose begin is still to come.
	begins map[event.Shard]int64
	// slots are those it vouches for, shared and never changed; list is how they are written, if that is known.
	slots *slot.Set
	list  string
	// generations are the newest that were met of each shard: later ones begin with a snapshot.
	generations map[event.Shard]event.Generation
}

func (m *watermark) String() string { return string(m.text()) }

func (m *watermark) text() []byte {
	list := m.list
	if list == "" {
		list = slotList(m.slots)
	}
	dst := make([]byte, 0, 160+len(list))
	dst = append(dst, recordVersion...)
	word := func(w string) {
		dst = append(dst, ' ')
		dst = append(dst, w...)
	}
	number := func(n int64) {
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, n, 10)
	}
	word(m.topicID)
	for _, n := range [...]int64{int64(m.partition), m.restart, m.applied, m.sent} {
		number(n)
	}
	dst = appendList(dst, m.refused, func(dst []byte, o int64) []byte { return strconv.AppendInt(dst, o, 10) })
	number(m.hold.Milliseconds())
	dst = appendList(dst, m.settled, func(dst []byte, s event.Shard) []byte { return strconv.AppendUint(dst, uint64(s), 10) })
	dst = appendPairs(dst, m.begins)
	word(list)
	dst = appendPairs(dst, m.generations)
	if m.databases != "" {
		word(m.databases)
	}
	return dst
}

// appendPairs writes what is known of shards as shard:number.
func appendPairs[N int64 | event.Generation](dst []byte, m map[event.Shard]N) []byte {
	return appendList(dst, slices.Sorted(maps.Keys(m)), func(dst []byte, s event.Shard) []byte {
		dst = append(strconv.AppendUint(dst, uint64(s), 10), ':')
		return strconv.AppendInt(dst, int64(m[s]), 10)
	})
}

// appendList writes a list of words.
func appendList[T any](dst []byte, items []T, appendOne func([]byte, T) []byte) []byte {
	dst = append(dst, ' ')
	if len(items) == 0 {
		return append(dst, emptyList...)
	}
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendOne(dst, item)
	}
	return dst
}

// slotList writes slots as a watermark does.
func slotList(set *slot.Set) string {
	if set.Len() == 0 {
		return emptyList
	}
	return strings.ReplaceAll(set.String(), " ", ",")
}

const emptyList = "-"

// watermarkFields is how many words every watermark has.
const watermarkFields = 12

func parseWatermark(text string) (watermark, error) {
	n := watermarkFields
	if strings.Count(text, " ") == n {
		n++
	}
	f := fieldsOf(text, n)
	m := watermark{
		topicID: f.word(1), partition: int32(f.number(2)),
		restart: f.number(3), applied: f.number(4), sent: f.number(5),
		hold: time.Duration(f.number(7)) * time.Millisecond,
	}
	if n > watermarkFields {
		m.databases = f.word(watermarkFields)
	}
	for _, w := range f.list(8) {
		m.settled = append(m.settled, event.Shard(f.uint32(w)))
	}
	for _, w := range f.list(6) {
		m.refused = append(m.refused, f.int64(w))
	}
	f.pairs(9, func(shard event.Shard, n int64) { put(&m.begins, shard, n) })
	f.pairs(11, func(shard event.Shard, n int64) { put(&m.generations, shard, event.Generation(n)) })
	slots, err := slot.ParseSet(strings.Join(f.list(10), " "))
	f.check(err)
	m.slots = &slots
	if f.err != nil {
		return watermark{}, fmt.Errorf("read watermark %.120q: %w", text, f.err)
	}
	return m, nil
}

func put[N any](m *map[event.Shard]N, shard event.Shard, n N) {
	if *m == nil {
		*m = map[event.Shard]N{}
	}
	(*m)[shard] = n
}

// fields reads words until one does not fit and keeps the first fault.
type fields struct {
	words []string
	err   error
}

func fieldsOf(text string, n int) *fields {
	f := &fields{words: strings.Split(text, " ")}
	if len(f.words) != n || f.words[0] != recordVersion {
		f.words, f.err = make([]string, n), errRecord
	}
	return f
}

func (f *fields) word(i int) string { return f.words[i] }

func (f *fields) check(err error) {
	if err != nil && f.err == nil {
		f.err = errRecord
	}
}

func (f *fields) number(i int) int64 { return f.int64(f.words[i]) }

func (f *fields) int64(word string) int64 {
	n, err := strconv.ParseInt(word, 10, 64)
	f.check(err)
	return n
}

// pairs hands over a list of shard:number.
func (f *fields) pairs(i int, fn func(event.Shard, int64)) {
	for _, w := range f.list(i) {
		shard, n, _ := strings.Cut(w, ":")
		fn(event.Shard(f.uint32(shard)), f.int64(n))
	}
}

func (f *fields) uint32(word string) uint32 {
	n, err := strconv.ParseUint(word, 10, 32)
	f.check(err)
	return uint32(n)
}

func (f *fields) list(i int) []string {
	if f.words[i] == emptyList || f.words[i] == "" {
		return nil
	}
	return strings.Split(f.words[i], ",")
}
