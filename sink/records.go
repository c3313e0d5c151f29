package sink

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/slot"
)

// The sink's own keys in the target (names: package own):
//
//	kind c  checkpoint, one per slot with guarded writes:
//	        1 <topic id> <partition> <offset>
//	kind w  watermark, one per partition and node, in the first slot of the partition that the node owns:
//	        1 <topic id> <partition> <restart> <applied> <sent> <settled> <refused> <slots>
//	kind f  fence, beside each watermark: a number
//
// All are text, fields separated by one space; settled and slots are lists separated by commas, "-" when empty.
const recordVersion = "1"

var errRecord = errors.New("not written by this version of redriver")

// checkpoint says that everything of its slot up to the offset, that one included, is applied.
type checkpoint struct {
	topicID   string
	partition int32
	offset    int64
}

func (c checkpoint) append(dst []byte) []byte {
	dst = append(dst, recordVersion...)
	dst = append(dst, ' ')
	dst = append(dst, c.topicID...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(c.partition), 10)
	dst = append(dst, ' ')
	return strconv.AppendInt(dst, c.offset, 10)
}

func parseCheckpoint(text string) (checkpoint, error) {
	f := fieldsOf(text, 4)
	c := checkpoint{topicID: f.word(1), partition: int32(f.number(2)), offset: f.number(3)}
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
	// settled are the shards whose first generation is complete here.
	settled []event.Shard
	// refused is the offset of a unit that the target refused for good, -1 for none.
	refused int64
	// slots are those it vouches for.
	slots slot.Set
}

func (m *watermark) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d %d %d %d ", recordVersion, m.topicID, m.partition, m.restart, m.applied, m.sent)
	if len(m.settled) == 0 {
		b.WriteByte('-')
	}
	for i, s := range m.settled {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(s), 10))
	}
	fmt.Fprintf(&b, " %d %s", m.refused, strings.ReplaceAll(m.slots.String(), " ", ","))
	return b.String()
}

func parseWatermark(text string) (watermark, error) {
	f := fieldsOf(text, 9)
	m := watermark{
		topicID: f.word(1), partition: int32(f.number(2)),
		restart: f.number(3), applied: f.number(4), sent: f.number(5), refused: f.number(7),
	}
	if settled := f.word(6); f.err == nil && settled != "-" {
		for word := range strings.SplitSeq(settled, ",") {
			n, err := strconv.ParseUint(word, 10, 32)
			f.err = errors.Join(f.err, err)
			m.settled = append(m.settled, event.Shard(n))
		}
	}
	if f.err == nil {
		m.slots, f.err = slot.ParseSet(strings.ReplaceAll(f.word(8), ",", " "))
	}
	if f.err != nil {
		return watermark{}, fmt.Errorf("read watermark %.120q: %w", text, f.err)
	}
	return m, nil
}

func (m *watermark) equal(o *watermark) bool {
	return m.topicID == o.topicID && m.partition == o.partition && m.restart == o.restart && m.applied == o.applied &&
		m.sent == o.sent && m.refused == o.refused && m.slots == o.slots && slices.Equal(m.settled, o.settled)
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

func (f *fields) number(i int) int64 {
	n, err := strconv.ParseInt(f.words[i], 10, 64)
	if err != nil && f.err == nil {
		f.err = errRecord
	}
	return n
}
