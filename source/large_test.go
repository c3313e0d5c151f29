package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/source/spool"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rnd := rand.New(rand.NewPCG(uint64(n), 1))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rnd.Uint64())
	}
	return b
}

// largeRDB holds the keys s0, large, s1; the value of large is the string.
func largeRDB(value []byte) (rdbBytes, encoded []byte) {
	encoded = rdb.AppendText(nil, value)
	b := slices.Concat(emptyRDB()[:9], rdbEntry("s0"), []byte("\x00\x05large"))
	b = append(b, encoded...)
	b = append(b, rdbEntry("s1")...)
	return append(b, emptyRDB()[9:]...), encoded
}

// published reads the log and gives, for every key, the newest value or commands: joined, by a checksum.
func (w *laneWorld) published() (chain.Checker, map[string]uint32) {
	w.t.Helper()
	var c chain.Checker
	sums := map[string]uint32{}
	joiners := map[int32]*codec.Joiner{}
	spans, err := kafka.Spans(w.t.Context(), w.adm, "rv.changes")
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.s.cfg.Kafka.ReadCommitted(w.t.Context(), "rv.changes", spans, func(r *kgo.Record) error {
		if err := c.Check(r); err != nil {
			return err
		}
		value := r.Value
		if codec.IsChunk(value) {
			j := joiners[r.Partition]
			if j == nil {
				j = &codec.Joiner{MaxBytes: 1 << 30}
				joiners[r.Partition] = j
			}
			joined, done, err := j.Add(value)
			if err != nil || !done {
				return err
			}
			value = joined
		}
		var e event.Event
		if err := codec.DecodeRaw(r.Key, value, &e); err != nil {
			return err
		}
		switch e.Kind {
		case event.Entry:
			sums[string(e.Key)] = crc32.ChecksumIEEE(e.Value)
		case event.Unit:
			sums[string(e.Key)] = crc32.ChecksumIEEE(e.Commands)
		default:
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c, sums
}

// standing is what a start finds: the position, and what its check says.
func (w *laneWorld) standing() (offsets.Position, error) {
	w.t.Helper()
	l := w.lane()
	pos, err := l.position(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = l.checkLog(w.t.Context(), pos)
	return pos, err
}

func TestAValueLargerThanATransaction(t *testing.T) {
	t.Parallel()
	w := newLaneWorld(t)
	file, encoded := largeRDB(noise(100 << 20))
	w.begin(spool.Snapshot, 100, file)
	w.begin(spool.Stream, 100, commands("SET a 1"))
	l := w.lane()
	w.must(l, func(s Snapshot) bool { return s.Committed.Offset > 100 })
	c, sums := w.published()
	if sums["large"] != crc32.ChecksumIEEE(encoded) {
		t.Error("the value joined from its chunks is another one")
	}
	if c.Counts[event.Entry] != 3 || c.Chunks < 100 || c.Abandoned != 0 {
		t.Errorf("%v, %d chunks, %d given up", c.Counts, c.Chunks, c.Abandoned)
	}
	if n := l.status.read().Commits; n < 5 {
		t.Errorf("100 MB were committed in %d transactions", n)
	}
}

func TestAValueThatIsInterruptedIsPublishedAgain(t *testing.T) {
	t.Parallel()
	w := newLaneWorld(t)
	file, encoded := largeRDB(noise(50 << 20))
	half := 30 << 20
	w.begin(spool.Snapshot, 100, nil)
	w.append(file[:half])
	l := w.lane()
	w.must(l, func(s Snapshot) bool { return s.SnapshotEntries == 1 && caughtUpInside(w, l, 20<<20) })
	pos, err := w.standing()
	if err != nil {
		t.Errorf("the check does not take a log that ends inside a value: %v", err)
	}
	if pos.Snapshot == nil || pos.Snapshot.Entries != 1 || len(pos.Chunks) != 1 {
		t.Errorf("position inside the value: %+v, chunks %v", pos.Snapshot, pos.Chunks)
	}
	w.append(file[half:])
	w.sp.Done()
	w.begin(spool.Stream, 100, commands("SET a 1"))
	w.must(l, func(s Snapshot) bool { return s.Committed.Offset > 100 })
	c, sums := w.published()
	if sums["large"] != crc32.ChecksumIEEE(encoded) {
		t.Error("the value joined from its chunks is another one")
	}
	if c.Counts[event.Entry] != 3 || c.Abandoned != 1 || c.Generations[1] != 1 {
		t.Errorf("%v, %d given up, generations %v", c.Counts, c.Abandoned, c.Generations)
	}
	if _, err := w.standing(); err != nil {
		t.Error(err)
	}
}

// caughtUpInside reports whether so many bytes of chunks are committed.
func caughtUpInside(w *laneWorld, l *lane, want int64) bool {
	spans, err := kafka.Spans(w.t.Context(), w.adm, l.topic.Name)
	if err != nil {
		return false
	}
	var records int64
	for _, s := range spans {
		records += s.End - s.Start
	}
	return records*900_000 > want
}

func TestALogThatLacksPiecesIsFound(t *testing.T) {
	w := newLaneWorld(t)
	file, _ := largeRDB(noise(20 << 20))
	w.begin(spool.Snapshot, 100, nil)
	w.append(file[:15<<20])
	l := w.lane()
	w.must(l, func(s Snapshot) bool { return caughtUpInside(w, l, 8<<20) })
	pos, err := w.standing()
	if err != nil || len(pos.Chunks) != 1 {
		t.Fatalf("chunks %v, %v", pos.Chunks, err)
	}
	for p := range pos.Chunks {
		pos.Chunks[p]++
	}
	if _, err := w.lane().checkLog(t.Context(), pos); ClassOf(err) != Resync {
		t.Errorf("a piece is missing, and the check says %v", err)
	}
}

func TestAValueLargerThanTheSpool(t *testing.T) {
	t.Parallel()
	w := newLaneWorld(t)
	sp, err := spool.Open(spool.Config{Dir: t.TempDir(), MemoryBytes: 1 << 20, DiskBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	w.sp = sp
	file, encoded := largeRDB(noise(90 << 20))
	w.begin(spool.Snapshot, 100, nil)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.sp.Append(ctx, file); err != nil {
			return
		}
		w.sp.Done()
		w.begin(spool.Stream, 100, commands("SET a 1"))
	}()
	l := w.lane()
	if !w.run(l, 30*time.Second, func(s Snapshot) bool { return s.Committed.Offset > 100 }) {
		t.Fatalf("lane stands at %+v", l.status.read())
	}
	c, sums := w.published()
	if sums["large"] != crc32.ChecksumIEEE(encoded) || c.Counts[event.Entry] != 3 || c.Generations[1] != 1 {
		t.Errorf("%v, generations %v", c.Counts, c.Generations)
	}
}

func TestAUnitLargerThanATransaction(t *testing.T) {
	t.Parallel()
	for name, unit := range map[string][]byte{
		"one command": resp.AppendCommand(nil, "SET", "large", string(noise(80<<20))),
		"a transaction": slices.Concat(resp.AppendCommand(nil, "MULTI"), bytes.Repeat(resp.AppendCommand(nil, "RPUSH", "large", string(noise(1<<20))), 80),
			resp.AppendCommand(nil, "EXEC")),
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			w := newLaneWorld(t)
			w.begin(spool.Snapshot, 100, emptyRDB())
			w.begin(spool.Stream, 100, commands("SET a 1"))
			w.append(unit)
			w.append(commands("SET b 1"))
			end := 100 + event.Offset(len(commands("SET a 1", "SET b 1"))+len(unit))
			l := w.lane()
			w.must(l, at(end))
			c, sums := w.published()
			want := bytes.TrimSuffix(bytes.TrimPrefix(unit, resp.AppendCommand(nil, "MULTI")), resp.AppendCommand(nil, "EXEC"))
			if sums["large"] != crc32.ChecksumIEEE(want) || c.Counts[event.Unit] != 3 || c.Abandoned != 0 {
				t.Errorf("%v, %d given up", c.Counts, c.Abandoned)
			}
			if n := l.status.read().Commits; n < 5 {
				t.Errorf("80 MB were committed in %d transactions", n)
			}
			if _, err := w.standing(); err != nil {
				t.Error(err)
			}
		})
	}
}
