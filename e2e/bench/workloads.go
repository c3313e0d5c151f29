package main

import (
	"context"
	"strconv"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// valueBytes is the length of a string's value.
const valueBytes = 100

// stride makes neighbouring commands write far apart; it is a prime, so every key gets its turn.
const stride = 7_368_787

// keyed appends a key made of a prefix and a number.
func keyed(dst []byte, prefix string, n int) []byte {
	return strconv.AppendInt(append(dst, prefix...), int64(n), 10)
}

// fillStrings writes every key once.
func fillStrings(keys int) workload {
	w := sets(keys, keys, 1)
	w.key = func(dst []byte, i int) []byte { return keyed(dst, "key:", i) }
	return w
}

// sets are n SETs over the keys of fillStrings, each seed with other values.
func sets(keys, n int, seed uint64) workload {
	return workload{
		n:   n,
		key: func(dst []byte, i int) []byte { return keyed(dst, "key:", i*stride%keys) },
		command: func(s *sender, key []byte, i int) {
			s.begin(3, "SET", key)
			s.value(valueBytes, seed, uint64(i))
		},
	}
}

// Of mixedPeriod commands of the mixed stream mixedGuarded have to be guarded by a checkpoint when they are replayed.
const (
	mixedPeriod  = 20
	mixedGuarded = 8
)

// mixed are n commands of many kinds; every one of them changes something, so each is in the replication stream.
func mixed(keys, n int) workload {
	of := func(kind int) (prefix string, space int) {
		switch kind {
		case 0, 1, 2, 3, 4, 5, 6:
			return "key:", keys
		case 7, 8:
			return "counter:", max(1, keys/10)
		case 9:
			return "text:", max(1, keys/10)
		case 10, 11, 12, 13:
			return "hash:", max(1, keys/100)
		case 14:
			return "set:", max(1, keys/100)
		case 15, 16:
			return "zset:", max(1, keys/100)
		case 17, 18:
			return "list:", max(1, keys/100)
		}
		return "stream:", max(1, keys/1000)
	}
	return workload{
		n: n,
		key: func(dst []byte, i int) []byte {
			prefix, space := of(i % mixedPeriod)
			return keyed(dst, prefix, i/mixedPeriod*stride%space)
		},
		command: mixedCommand,
	}
}

func mixedCommand(s *sender, key []byte, i int) {
	const seed = 5
	round := i / mixedPeriod
	switch i % mixedPeriod {
	case 0, 1, 2, 3, 4:
		s.begin(3, "SET", key)
		s.value(valueBytes, seed, uint64(i))
	case 5, 6:
		s.begin(5, "SET", key)
		s.value(valueBytes, seed, uint64(i))
		s.word("EX")
		s.number(100_000)
	case 7, 8:
		s.begin(2, "INCR", key)
	case 9:
		s.begin(3, "APPEND", key)
		s.value(10, seed, uint64(i))
	case 10, 11:
		s.begin(4, "HSET", key)
		s.numbered("field:", round%50)
		s.value(valueBytes, seed, uint64(i))
	case 12:
		s.begin(4, "HINCRBY", key)
		s.word("count")
		s.number(1)
	case 13: // the hash is there: case 10 of this round has the same key
		s.begin(3, "EXPIRE", key)
		s.number(100_000 + round)
	case 14:
		s.begin(3, "SADD", key)
		s.numbered("member:", i)
	case 15, 16:
		s.begin(4, "ZADD", key)
		s.number(i)
		s.numbered("member:", i%1000)
	case 17:
		s.begin(3, "LPUSH", key)
		s.value(valueBytes, seed, uint64(i))
	case 18:
		s.begin(3, "RPUSH", key)
		s.value(valueBytes, seed, uint64(i))
	default:
		s.begin(5, "XADD", key)
		s.word("*")
		s.word("field")
		s.value(valueBytes, seed, uint64(i))
	}
}

// counters are n writes of small numbers, so many percent of which are guarded: INCR in place of SET.
func counters(keys, n, guarded int) workload {
	return workload{
		n:   n,
		key: func(dst []byte, i int) []byte { return keyed(dst, "number:", i*stride%keys) },
		command: func(s *sender, key []byte, i int) {
			if i%100 < guarded {
				s.begin(2, "INCR", key)
				return
			}
			s.begin(3, "SET", key)
			s.number(i)
		},
	}
}

// allTypes fills 0.46 keys of six types for each one of keys, with five elements in all: 26 strings to 20 collections,
// most of which are small enough to be packed.
type allTypes struct{ keys int }

const (
	typesPeriod  = 23
	typesStrings = 13 // of each period
)

func (t allTypes) keyCount() int { return t.keys * 46 / 100 }

// elements is the size of collection i: 23.6 on average.
func (allTypes) elements(i int) int {
	n := 1 + i*7919%39
	if i/typesPeriod%50 == 0 {
		n *= 10
	}
	return n
}

func (t allTypes) fill(ctx context.Context, to *redistest.Cluster) error {
	return workload{n: t.keyCount(), key: func(dst []byte, i int) []byte { return keyed(dst, "key:", i) }, command: t.command}.write(ctx, to)
}

func (t allTypes) command(s *sender, key []byte, i int) {
	const seed = 6
	kind, n := i%typesPeriod, t.elements(i)
	if kind < typesStrings {
		s.begin(3, "SET", key)
		s.value(valueBytes, seed, uint64(i))
		return
	}
	switch (kind - typesStrings) / 2 {
	case 0:
		s.begin(2+2*n, "HSET", key)
		for e := range n {
			s.numbered("field:", e)
			s.value(20, seed, uint64(e))
		}
	case 1:
		s.begin(2+n, "RPUSH", key)
		for e := range n {
			s.value(20, seed, uint64(e))
		}
	case 2:
		s.begin(2+n, "SADD", key)
		for e := range n {
			s.numbered("member:", i+e)
		}
	case 3:
		s.begin(2+2*n, "ZADD", key)
		for e := range n {
			s.number(e * i)
			s.numbered("member:", e)
		}
	default:
		for e := range n {
			s.begin(5, "XADD", key)
			s.numbered("1-", e+1)
			s.word("field")
			s.value(20, seed, uint64(e))
		}
	}
}

// hugeKeysN keys of hugeKeys, five of each of four types.
const hugeKeysN = 20

// hugeBatchN elements are written by one command.
const hugeBatchN = 500

// hugeKeys fills a few keys with so many elements each.
func hugeKeys(elements int) workload {
	const seed = 7
	return workload{
		n:   hugeKeysN * max(1, elements/hugeBatchN),
		key: func(dst []byte, i int) []byte { return keyed(dst, "huge:", i%hugeKeysN) },
		command: func(s *sender, key []byte, i int) {
			n := min(hugeBatchN, elements)
			first := i / hugeKeysN * n
			switch i % 4 {
			case 0:
				s.begin(2+2*n, "HSET", key)
			case 1:
				s.begin(2+n, "RPUSH", key)
			case 2:
				s.begin(2+n, "SADD", key)
			default:
				s.begin(2+2*n, "ZADD", key)
			}
			for e := first; e < first+n; e++ {
				switch i % 4 {
				case 0:
					s.numbered("field:", e)
					s.value(40, seed, uint64(e))
				case 1:
					s.value(70, seed, uint64(e))
				case 2:
					s.value(40, seed, uint64(e))
				default:
					s.number(e * 31)
					s.value(24, seed, uint64(e))
				}
			}
		},
	}
}

// fillMixed writes keys of six types as the tests have them, for the sections of their own.
func fillMixed(ctx context.Context, source *redistest.Cluster, keys int) error {
	return load.Fill(ctx, source.Client(), load.FillConfig{Keys: keys, Seed: 1})
}
