package codec_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
)

// chunksOf cuts a value as a lane does that has it whole, or, unknown, as one that is still reading it.
func chunksOf(value []byte, shard event.Shard, attempt uint64, limit int, unknown bool) (out [][]byte) {
	if !unknown {
		for i := range codec.Chunks(len(value), limit) {
			out = append(out, codec.AppendChunk(nil, value, shard, attempt, i, limit))
		}
		return out
	}
	piece := limit - codec.ChunkHeaderBytes
	for i := uint32(0); ; i++ {
		n, count := min(piece, len(value)), uint32(0)
		if n == len(value) {
			count = i + 1
		}
		buf := append(make([]byte, codec.ChunkHeaderBytes), value[:n]...)
		out = append(out, codec.FrameChunk(buf, shard, attempt, i, count))
		if value = value[n:]; len(value) == 0 {
			return out
		}
	}
}

func TestChunksJoinToTheWhole(t *testing.T) {
	value := bytes.Repeat([]byte("0123456789"), 1000)
	for _, limit := range []int{64, 100, 4096, 9999} {
		for _, unknown := range []bool{false, true} {
			j := codec.Joiner{MaxBytes: len(value)}
			chunks := chunksOf(value, 3, 1<<60, limit, unknown)
			for i, chunk := range chunks {
				if len(chunk) > limit || !codec.IsChunk(chunk) {
					t.Fatalf("limit %d: chunk of %d bytes", limit, len(chunk))
				}
				last := i == len(chunks)-1
				c, err := codec.ParseChunk(chunk)
				if err != nil || c.Shard != 3 || c.Attempt != 1<<60 || int(c.Index) != i || c.Last() != last || c.First() != (i == 0) {
					t.Fatalf("limit %d: chunk %d of %d reads %+v, %v", limit, i, len(chunks), c, err)
				}
				if known := c.Count == uint32(len(chunks)); known != (last || !unknown) {
					t.Fatalf("limit %d: chunk %d says that there are %d", limit, i, c.Count)
				}
				got, done, err := j.Add(chunk)
				if err != nil || done != last || j.Open() == last {
					t.Fatalf("limit %d: chunk %d of %d: done %v, open %v, %v", limit, i, len(chunks), done, j.Open(), err)
				}
				if done && !bytes.Equal(got, value) {
					t.Fatalf("limit %d: joined value differs", limit)
				}
			}
		}
	}
}

func TestChunksThatDoNotFollowAreNeverJoined(t *testing.T) {
	value := bytes.Repeat([]byte("x"), 300)
	for _, unknown := range []bool{false, true} {
		one, two := chunksOf(value, 1, 1, 128, unknown), chunksOf(value, 1, 2, 128, unknown)
		other := chunksOf(value, 1, 1, 128, !unknown)
		for name, c := range map[string][][]byte{
			"another attempt":    {one[0], two[1]},
			"a gap":              {one[0], one[2]},
			"a repetition":       {one[0], one[1], one[1]},
			"behind the last":    {one[0], one[1], one[2], one[2]},
			"without beginning":  {one[1]},
			"of the other form":  {one[0], other[1]},
			"another count":      {one[0], chunksOf(append(value, value...), 1, 1, 128, false)[1]},
			"an unfinished last": {one[0], one[1], chunksOf(append(value, value...), 1, 1, 128, !unknown)[2]},
		} {
			j := codec.Joiner{MaxBytes: 1 << 20}
			for i, chunk := range c {
				_, _, err := j.Add(chunk)
				if last := i == len(c)-1; (err != nil) != last || last && !errors.Is(err, codec.ErrMalformed) {
					t.Errorf("%s (unknown %v): chunk %d: %v", name, unknown, i, err)
				}
			}
			// Whatever happened, chunk 0 begins anew.
			for i, chunk := range two {
				if got, done, err := j.Add(chunk); err != nil || done != (i == len(two)-1) || done && !bytes.Equal(got, value) {
					t.Errorf("%s (unknown %v): chunk %d of the next attempt: %v %v", name, unknown, i, done, err)
				}
			}
		}
	}
}

func TestAnUnfinishedEventIsDropped(t *testing.T) {
	j := codec.Joiner{MaxBytes: 1 << 20}
	for shard := event.Shard(1); shard <= 2; shard++ {
		if _, _, err := j.Add(chunksOf(make([]byte, 300), shard, 1, 128, true)[0]); err != nil {
			t.Fatal(err)
		}
	}
	j.Drop(1)
	if !j.Open() {
		t.Error("the event of the other shard was dropped too")
	}
	j.Drop(2)
	if j.Open() {
		t.Error("an event is open that was dropped")
	}
}

func TestTheJoinerIsBounded(t *testing.T) {
	j := codec.Joiner{MaxBytes: 250}
	var err error
	for _, c := range chunksOf(make([]byte, 300), 1, 1, 128, true) {
		if _, _, err = j.Add(c); err != nil {
			break
		}
	}
	if err == nil || errors.Is(err, codec.ErrMalformed) {
		t.Errorf("300 bytes were joined where 250 are the limit: %v", err)
	}
}

func TestTheHeadOfAnEventStandsInItsFirstChunk(t *testing.T) {
	for _, e := range samples() {
		whole := codec.AppendRaw(nil, &e)
		first, err := codec.ParseChunk(chunksOf(append(whole, make([]byte, 1000)...), e.Shard, 1, 512, true)[0])
		if err != nil {
			t.Fatal(err)
		}
		var head, want event.Event
		if err := codec.DecodeHead(first.Piece, &head); err != nil {
			t.Errorf("%s: %v", e.Kind, err)
		}
		if err := codec.DecodeRaw(codec.RecordKey(&e), whole, &want); err != nil {
			t.Fatal(err)
		}
		if head.Kind != want.Kind || head.Shard != want.Shard || head.Position() != want.Position() || head.Number != want.Number ||
			head.Prev != want.Prev || head.Slot != want.Slot || head.Part != want.Part || head.Parts != want.Parts {
			t.Errorf("the head of %+v is %+v", want, head)
		}
	}
}

// Whatever arrives as chunks, what is joined is what the pieces say, and within the bound.
func FuzzJoiner(f *testing.F) {
	value := bytes.Repeat([]byte("abc"), 100)
	for _, unknown := range []bool{false, true} {
		c := chunksOf(value, 1, 7, 128, unknown)
		f.Add(c[0], c[1], c[2])
		f.Add(c[1], c[0], c[2])
	}
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		const bound = 400
		j := codec.Joiner{MaxBytes: bound}
		var pieces []byte
		for _, chunk := range [][]byte{a, b, c} {
			parsed, err := codec.ParseChunk(chunk)
			if err != nil || parsed.Shard != 1 {
				continue
			}
			got, done, err := j.Add(chunk)
			if err != nil {
				return
			}
			if parsed.First() {
				pieces = nil
			}
			pieces = append(pieces, parsed.Piece...)
			if done && (!bytes.Equal(got, pieces) || len(got) > bound) {
				t.Fatalf("joined %q of pieces %q", got, pieces)
			}
			if done != parsed.Last() {
				t.Fatalf("done %v with chunk %d of %d", done, parsed.Index, parsed.Count)
			}
		}
	})
}
