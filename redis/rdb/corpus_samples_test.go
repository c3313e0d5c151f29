package rdb

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// plainConfig is what each sample starts from. What an older server lacks is left out; names are the oldest, which the
// newer ones know too.
var plainConfig = map[string]string{
	"rdbcompression": "yes", "list-max-ziplist-size": "-2", "list-compress-depth": "0",
	"hash-max-ziplist-entries": "128", "hash-max-ziplist-value": "64", "zset-max-ziplist-entries": "128",
	"zset-max-ziplist-value": "64", "set-max-intset-entries": "512", "set-max-listpack-entries": "128",
	"set-max-listpack-value": "64", "stream-node-max-bytes": "4096", "stream-node-max-entries": "100",
}

// sample is a value that the commands of build make under the key k, in the encoding that config forces.
type sample struct {
	name   string
	config map[string]string
	build  func(s *sampler)
}

// sampler runs the commands of a sample.
type sampler struct {
	do  func(args ...any) any // fails the test on an error
	try func(args ...any) bool
	// more lines of the readable form that no command shows, in the value's order
	lines []string
}

// words is text that compresses, noise is bytes that do not.
func words(n int) string { return strings.Repeat("regenerate the signal ", n/22+1)[:n] }

func noise(n int) string {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return string(b)
}

// edgeInts are the ends of what the encodings of numbers hold: of ziplist, listpack, intset and int-encoded strings.
var edgeInts = []string{
	"0", "1", "12", "13", "-1", "63", "64", "127", "128", "-128", "-129", "255", "4095", "4096", "-4096", "-4097",
	"32767", "-32768", "32768", "-32769", "65535", "8388607", "-8388608", "8388608", "-8388609", "2147483647", "-2147483648",
	"2147483648", "-2147483649", "9223372036854775807", "-9223372036854775808",
}

// edgeStrings look like numbers and are none, or are as long as the encodings of lengths allow. The first are short.
var edgeStrings = []string{
	"a", "-", "-0", "+1", "007", " 1", "1.5", "9223372036854775808", "\x00\xff\r\n\"", strings.Repeat("b", 63), strings.Repeat("c", 64),
	strings.Repeat("d", 4095), strings.Repeat("e", 4096), strings.Repeat("f", 5000), strings.Repeat("g", 16383), strings.Repeat("h", 16384),
}

const shortEdgeStrings = 11

var edgeScores = []string{
	"inf", "-inf", "0", "-0", "1", "-1", "0.1", "3.3333333333333335", "0.30000000000000004", "1.7976931348623157e308", "5e-324",
	"1e21", "-1e-7", "9007199254740993", "123456789012", "-3.5", "1000000", "12345.678901234567",
}

func with(kv ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

// samples are all but those of streams.
func samples() []sample {
	var all []sample
	add := func(name string, config map[string]string, build func(*sampler)) {
		all = append(all, sample{name, config, build})
	}
	set := func(value string) func(*sampler) {
		return func(s *sampler) { s.do("SET", "k", value) }
	}
	push := func(items ...string) func(*sampler) {
		return func(s *sampler) {
			for _, item := range items {
				s.do("RPUSH", "k", item)
			}
		}
	}
	for _, v := range edgeInts {
		add("string-int"+v, nil, set(v))
	}
	for i, v := range edgeStrings[:shortEdgeStrings] {
		add("string-edge"+strconv.Itoa(i), nil, set(v))
	}
	add("string-empty", nil, set(""))
	add("string-lzf", nil, set(words(3000)))
	add("string-lzf-run", nil, set(strings.Repeat("z", 70000)))
	add("string-noise", nil, set(noise(300)))
	add("string-16383", with("rdbcompression", "no"), set(strings.Repeat("x", 16383)))
	add("string-16384", with("rdbcompression", "no"), set(strings.Repeat("y", 16384)))
	add("string-append", nil, func(s *sampler) { s.do("SET", "k", "12"); s.do("APPEND", "k", "34") })
	add("string-bitmap", nil, func(s *sampler) { s.do("SETBIT", "k", 4000, 1) })
	add("string-hll", nil, func(s *sampler) { s.do("PFADD", "k", "a", "b", "c") })

	add("list-ints", nil, push(edgeInts...))
	add("list-strings", with("list-max-ziplist-size", "-5"), push(edgeStrings...))
	add("list-strings-raw", with("list-max-ziplist-size", "-5", "rdbcompression", "no"), push(edgeStrings[:14]...))
	add("list-nodes", with("list-max-ziplist-size", "2"), push("a", "1", "b", "2", "", "3", words(100)))
	add("list-compressed", with("list-max-ziplist-size", "2", "list-compress-depth", "1"),
		push("a", words(300), words(200), words(150), words(100), "b", words(90), "c"))
	add("list-plain", with("list-max-ziplist-size", "-1"), push("a", words(6000), "b", noise(5000), "1"))
	add("list-plain-compressed", with("list-max-ziplist-size", "-1", "list-compress-depth", "1"),
		push("a", words(6000), words(7000), words(8000), "b"))
	add("list-prevlen5", with("list-max-ziplist-size", "-5", "rdbcompression", "no"), push(words(300), "a", "5", words(254), "b", words(253), "c"))
	add("list-shrunk", nil, func(s *sampler) {
		push(words(400), "a", "b", "c")(s)
		s.do("LPOP", "k")
		s.do("LINSERT", "k", "BEFORE", "b", "x")
	})

	addInts := func(ints ...string) func(*sampler) {
		return func(s *sampler) {
			for _, v := range ints {
				s.do("SADD", "k", v)
			}
		}
	}
	add("set-intset16", nil, addInts("1", "-3", "32767", "-32768"))
	add("set-intset32", nil, addInts("1", "-2147483648", "2147483647", "32768"))
	add("set-intset64", nil, addInts("-9223372036854775808", "9223372036854775807", "0", "2147483648"))
	add("set-intset-many", nil, func(s *sampler) {
		for i := range 300 {
			s.do("SADD", "k", i*i)
		}
	})
	add("set-small", nil, addInts(append([]string{"5", "-70000"}, edgeStrings[:shortEdgeStrings]...)...))
	add("set-hashtable", with("set-max-listpack-entries", "0"), addInts("5", "a", "-70000"))
	add("set-hashtable-ints", with("set-max-intset-entries", "0", "set-max-listpack-entries", "0"), addInts("5", "-1", "70000", "9223372036854775807"))
	add("set-long", nil, addInts(words(300), noise(100)))

	addScores := func(s *sampler) {
		for i, score := range edgeScores {
			s.do("ZADD", "k", score, fmt.Sprintf("m%d", i))
		}
		s.do("ZADD", "k", "7", "12345", "7", "-1", "8", "")
	}
	add("zset-small", nil, addScores)
	add("zset-skiplist", with("zset-max-ziplist-entries", "0"), addScores)
	add("zset-long", nil, func(s *sampler) { s.do("ZADD", "k", "1.5", words(300), "-0", noise(80)) })
	add("zset-incr", nil, func(s *sampler) {
		s.do("ZINCRBY", "k", "0.1", "a")
		s.do("ZINCRBY", "k", "0.2", "a")
		s.do("ZADD", "k", "0", "b")
		s.do("ZINCRBY", "k", "-0", "b")
	})
	add("zset-geo", nil, func(s *sampler) {
		s.do("GEOADD", "k", "13.361389", "38.115556", "Palermo", "15.087269", "37.502669", "Catania")
	})

	all = append(all, hashSamples()...)
	return append(all, streamSamples()...)
}

func hashSamples() []sample {
	fields := func(s *sampler) {
		for i, v := range edgeInts {
			s.do("HSET", "k", v, edgeStrings[i%shortEdgeStrings])
		}
		for i, v := range edgeStrings[:shortEdgeStrings] {
			s.do("HSET", "k", v, edgeInts[i])
		}
	}
	few := func(s *sampler) {
		s.do("HSET", "k", "1", "2")
		s.do("HSET", "k", "f", words(100))
		s.do("HSET", "k", "", "")
	}
	timed := func(s *sampler) {
		few(s)
		s.do("HSET", "k", "g", "x")
		s.try("HPEXPIREAT", "k", int64(4102444800123), "FIELDS", 1, "f")
		s.try("HPEXPIREAT", "k", int64(4102444800122), "FIELDS", 1, "1")
		s.try("HPEXPIREAT", "k", int64(40000000000000), "FIELDS", 1, "")
	}
	all := []sample{
		{"hash-small", nil, fields},
		{"hash-small-raw", with("rdbcompression", "no"), fields},
		{"hash-table", with("hash-max-ziplist-entries", "0"), fields},
		{"hash-long", nil, few},
		{"hash-values", with("hash-max-ziplist-value", "20000"), func(s *sampler) {
			for i, v := range edgeStrings[shortEdgeStrings:] {
				s.do("HSET", "k", i, v)
			}
		}},
		{"hash-timed-small", with("hash-max-ziplist-value", "200"), timed},
		{"hash-timed-table", with("hash-max-ziplist-entries", "0"), timed},
		{"hash-timed-all", with("hash-max-ziplist-entries", "0"), func(s *sampler) {
			s.do("HSET", "k", "a", "1")
			s.do("HSET", "k", "b", "2")
			s.try("HPEXPIREAT", "k", int64(4102444800000), "FIELDS", 2, "a", "b")
		}},
		{"hash-untimed-small", with("hash-max-ziplist-value", "200"), func(s *sampler) {
			timed(s)
			s.try("HPERSIST", "k", "FIELDS", 3, "f", "1", "")
		}},
		{"hash-untimed-table", with("hash-max-ziplist-entries", "0"), func(s *sampler) {
			timed(s)
			s.try("HPERSIST", "k", "FIELDS", 3, "f", "1", "")
		}},
		{"hash-timed-first-gone", with("hash-max-ziplist-entries", "0"), func(s *sampler) {
			timed(s) // then the earliest time kept with the hash is that of no field
			s.do("HDEL", "k", "1")
		}},
	}
	return all
}

func streamSamples() []sample {
	add := func(s *sampler, id string, fields ...any) any {
		return s.do(append([]any{"XADD", "k", id}, fields...)...)
	}
	numbered := func(s *sampler, n int) {
		for i := range n {
			add(s, fmt.Sprintf("%d-%d", 1000+i/3, 1+i%3), "f", i, "g", words(i))
		}
	}
	group := func(s *sampler) {
		s.do("XGROUP", "CREATE", "k", "g1", "0")
		s.do("XREADGROUP", "GROUP", "g1", "alice", "COUNT", 5, "STREAMS", "k", ">")
		s.do("XREADGROUP", "GROUP", "g1", "bob", "COUNT", 3, "STREAMS", "k", ">")
		s.do("XCLAIM", "k", "g1", "bob", 0, "1000-2", "1001-1", "TIME", int64(1600000000123), "RETRYCOUNT", 99)
		s.do("XACK", "k", "g1", "1000-1")
	}
	all := []sample{
		{"stream-one", nil, func(s *sampler) { add(s, "5-5", "a", "b") }},
		{"stream-many", with("stream-node-max-entries", "5"), func(s *sampler) { numbered(s, 23) }},
		{"stream-many-raw", with("stream-node-max-entries", "5", "rdbcompression", "no"), func(s *sampler) { numbered(s, 13) }},
		{"stream-fields", nil, func(s *sampler) {
			for i, v := range edgeInts {
				add(s, strconv.Itoa(1+i)+"-0", "n", v, edgeStrings[i%shortEdgeStrings], v)
			}
			add(s, "100-1", "n", "1", "x", "2")
			add(s, "100-2", "n", "1")
			add(s, "100-3", "", "")
			add(s, "100-4", "7", "8", "7", "9")
		}},
		{"stream-wide", nil, func(s *sampler) {
			for i := range 3 {
				var fields []any
				for j := range 200 {
					fields = append(fields, fmt.Sprintf("f%d", j), j)
				}
				add(s, fmt.Sprintf("7-%d", i+1), fields...)
			}
		}},
		{"stream-long", nil, func(s *sampler) {
			for i, v := range edgeStrings[shortEdgeStrings:] {
				add(s, strconv.Itoa(1+i)+"-0", "f", v)
			}
		}},
		{"stream-negative", nil, func(s *sampler) {
			add(s, "1000-5000000000", "a", "b")
			add(s, "1001-1", "a", "b")
			add(s, "1002-18446744073709551615", "a", "b")
			add(s, "1003-0", "a", "b")
			add(s, "18446744073709551615-18446744073709551614", "a", "b")
		}},
		{"stream-high", nil, func(s *sampler) {
			add(s, "9223372036854775807-9223372036854775807", "a", "b")
			add(s, "9223372036854775808-0", "a", "b")
		}},
		{"stream-deleted", with("stream-node-max-entries", "7"), func(s *sampler) {
			numbered(s, 20)
			s.do("XDEL", "k", "1000-1", "1001-2", "1003-3", "1004-1", "1006-2")
		}},
		{"stream-trimmed", with("stream-node-max-entries", "4"), func(s *sampler) {
			numbered(s, 20)
			s.do("XTRIM", "k", "MAXLEN", 9)
			s.do("XTRIM", "k", "MAXLEN", "~", 3)
		}},
		{"stream-emptied", nil, func(s *sampler) {
			add(s, "5-5", "a", "b")
			s.do("XDEL", "k", "5-5")
		}},
		{"stream-empty-group", nil, func(s *sampler) { s.do("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM") }},
		{"stream-group", nil, func(s *sampler) { numbered(s, 12); group(s) }},
		{"stream-groups", with("stream-node-max-entries", "5"), func(s *sampler) {
			numbered(s, 30)
			group(s)
			s.do("XGROUP", "CREATE", "k", "at end", "$")
			s.do("XGROUP", "CREATE", "k", "", "1001-1")
			s.do("XREADGROUP", "GROUP", "", "", "COUNT", 2, "STREAMS", "k", ">")
			s.do("XREADGROUP", "GROUP", "", "noack", "COUNT", 1, "NOACK", "STREAMS", "k", ">")
			s.try("XGROUP", "CREATECONSUMER", "k", "g1", "never")
			s.do("XGROUP", "DELCONSUMER", "k", "", "noack")
		}},
		{"stream-pending-gone", nil, func(s *sampler) {
			numbered(s, 12)
			group(s)
			s.do("XDEL", "k", "1000-2", "1001-1")
			s.do("XGROUP", "SETID", "k", "g1", "1000-1")
		}},
		{"stream-setid", nil, func(s *sampler) {
			numbered(s, 3)
			if !s.try("XSETID", "k", "2000-7", "ENTRIESADDED", 77, "MAXDELETEDID", "1500-3") {
				s.do("XSETID", "k", "2000-7")
			}
		}},
		{"stream-entries-read", nil, func(s *sampler) {
			numbered(s, 6)
			s.do("XGROUP", "CREATE", "k", "known", "1000-3")
			s.try("XGROUP", "SETID", "k", "known", "1000-3", "ENTRIESREAD", 3)
			s.do("XGROUP", "CREATE", "k", "unknown", "1000-2")
		}},
		{"stream-messages", nil, func(s *sampler) {
			if !s.try("XADD", "k", "IDMP", "producer", "first", "*", "a", "b") {
				return
			}
			s.do("DEL", "k")
			var lines []string
			s.do("XADD", "k", "1-1", "plain", "entry")
			s.do("XCFGSET", "k", "IDMP-DURATION", 77, "IDMP-MAXSIZE", 9)
			for _, m := range [][2]string{{"alice", "first"}, {"alice", "12"}, {"bob", "first"}, {"alice", "\x00\xff"}} {
				id := s.do("XADD", "k", "IDMP", m[0], m[1], "*", "a", "b")
				lines = append(lines, fmt.Sprintf("message %s %s %v", shown(m[0]), shown(m[1]), id))
			}
			s.do("XADD", "k", "IDMP", "bob", "first", "*", "a", "b") // again
			// by producer
			s.lines = []string{lines[0], lines[1], lines[3], lines[2]}
		}},
		{"stream-messages-digest", nil, func(s *sampler) {
			if s.try("XADD", "k", "IDMPAUTO", "other", "*", "a", "b") {
				s.lines = []string{"message \"other\" ? *"}
			}
		}},
	}
	return all
}
