package main

import (
	"fmt"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
)

// slab holds records outside of Go's heap: a large heap would make its collector run so seldom that the CPU of what is
// measured says nothing of a process with a small one.
type slab struct {
	bytes []byte // anonymous memory, which takes room only where it is written
	used  int
	index [][]slabRecord // by partition, in order
	n     int
}

type slabRecord struct {
	at, keyN, valueN uint32
	partition        int32
}

// maxSlabBytes bounds what is kept; positions are 32 bits.
const maxSlabBytes = 1 << 31

func newSlab(partitions int) (*slab, error) {
	b, err := syscall.Mmap(-1, 0, maxSlabBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("take memory for records: %w", err)
	}
	return &slab{bytes: b, index: make([][]slabRecord, partitions)}, nil
}

// add keeps a record, if there is room.
func (s *slab) add(r *kgo.Record) {
	n := len(r.Key) + len(r.Value)
	if s.used+n > len(s.bytes) {
		return
	}
	s.index[r.Partition] = append(s.index[r.Partition], slabRecord{uint32(s.used), uint32(len(r.Key)), uint32(len(r.Value)), r.Partition})
	copy(s.bytes[s.used:], r.Key)
	copy(s.bytes[s.used+len(r.Key):], r.Value)
	s.used += n
	s.n++
}

// lane returns the records of partitions first to last, spread evenly over them, as a lane writes what Redis gives it in
// the order of a hash table.
func (s *slab) lane(first, last int) []slabRecord {
	var all []slabRecord
	next := make([]int, last-first+1)
	for {
		best, least := -1, 2.0
		for i := range next {
			n := len(s.index[first+i])
			if next[i] == n {
				continue
			}
			if done := float64(next[i]) / float64(n); done < least {
				best, least = i, done
			}
		}
		if best < 0 {
			return all
		}
		all = append(all, s.index[first+best][next[best]])
		next[best]++
	}
}

func (s *slab) key(r slabRecord) []byte { return s.bytes[r.at : r.at+r.keyN : r.at+r.keyN] }

func (s *slab) value(r slabRecord) []byte {
	at := r.at + r.keyN
	return s.bytes[at : at+r.valueN : at+r.valueN]
}
