package slot

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	if got := crc16([]byte("123456789")); got != 0x31c3 {
		t.Fatalf("crc16 check value = %#x, want 0x31c3", got)
	}
	// Expected values are answers of CLUSTER KEYSLOT.
	for key, want := range map[string]Slot{
		"":                     0,
		"foo":                  12182,
		"123456789":            12739,
		"{user1000}.following": 3443,
		"user1000":             3443,
		"foo{}{bar}":           8363,
		"foo{{bar}}zap":        4015,
		"{bar":                 4015,
		"foo{bar}{zap}":        5061,
		"bar":                  5061,
		"a}b{bar}":             5061,
		"}{":                   12793,
		"foo{bar":              15278,
	} {
		if got := Of([]byte(key)); got != want {
			t.Errorf("Of(%q) = %d, want %d", key, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Of([]byte("foo{bar}{zap}")) }); n != 0 {
		t.Errorf("Of allocates %v times", n)
	}
}

// tagsSum is part of the format. If this test fails, the tags are wrong, not
// the sum: keys at existing targets are named by them.
const tagsSum = "d5f954fccea36661842f41ce0e76bb68da5e8aa19108b88d85dafbb6e06628a6"

func TestTag(t *testing.T) {
	var all strings.Builder
	for s := range Slot(Count) {
		tag := Tag(s)
		if len(tag) < 1 || len(tag) > 4 || strings.Trim(tag, tagAlphabet) != "" {
			t.Fatalf("Tag(%d) = %q", s, tag)
		}
		if got := Of([]byte("{" + tag + "}")); got != s {
			t.Fatalf("Of({%s}) = %d, want %d", tag, got, s)
		}
		all.WriteString(tag)
		all.WriteByte('\n')
	}
	sum := sha256.Sum256([]byte(all.String()))
	if got := hex.EncodeToString(sum[:]); got != tagsSum {
		t.Errorf("sha256 of the table = %s, want %s", got, tagsSum)
	}
	if Tag(Count) != "" {
		t.Error("a number that is no slot has a tag")
	}
}

func TestPartition(t *testing.T) {
	for _, partitions := range []int{1, 2, 3, 7, 16, 48, 100, 1000, 16383, 16384} {
		next := 0
		for p := range int32(partitions) {
			r := PartitionRange(p, partitions)
			if int(r.First) != next || r.Len() == 0 {
				t.Fatalf("%d partitions: partition %d has %v, want it to begin at %d", partitions, p, r, next)
			}
			for s := r.First; s <= r.Last; s++ {
				if got := Partition(s, partitions); got != p {
					t.Fatalf("%d partitions: slot %d in partition %d, want %d", partitions, s, got, p)
				}
			}
			next = int(r.Last) + 1
		}
		if next != Count {
			t.Fatalf("%d partitions end at slot %d", partitions, next)
		}
	}
	const tooMany = 20000
	var seen Set
	for p := range int32(tooMany) {
		r := PartitionRange(p, tooMany)
		if r.Len() > 0 && Partition(r.First, tooMany) != p {
			t.Fatalf("partition %d has %v", p, r)
		}
		seen.AddRange(r)
	}
	if seen.Len() != Count {
		t.Errorf("%d slots have a partition", seen.Len())
	}
	for _, r := range []Range{PartitionRange(-1, 4), PartitionRange(4, 4), PartitionRange(0, 0)} {
		if r.Len() != 0 || r.String() != "" {
			t.Errorf("partition that does not exist has %v", r)
		}
	}
}

func BenchmarkOf(b *testing.B) {
	key := []byte("user:000000012345")
	b.ReportAllocs()
	for b.Loop() {
		Of(key)
	}
}
