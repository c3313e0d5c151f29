package rdb

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
)

// startServer runs a server of the test's own and returns a client and the server's folder.
func startServer(t *testing.T, args ...string) (*redis.Client, string) {
	t.Helper()
	server := testkit.New(t).Server("", append([]string{"--activerehashing", "no"}, args...)...)
	c := server.NewClient(func(o *redis.Options) { o.Protocol = 2 })
	t.Cleanup(func() { c.Close() })
	return c, filepath.Dir(server.LogPath())
}

// populate writes every type in every encoding the server has. What an older server lacks is left out.
func populate(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx := t.Context()
	do := func(args ...any) {
		t.Helper()
		if err := c.Do(ctx, args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatalf("%.100q: %v", fmt.Sprint(args...), err)
		}
	}
	try := func(args ...any) {
		t.Helper()
		if err := c.Do(ctx, args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Logf("left out: %.40q: %.60v", fmt.Sprint(args...), err)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return string(b)
	}
	for i, v := range []string{
		"", "x", "0", "-1", "127", "-128", "32767", "-32768", "65536", "2147483647", "-2147483648",
		"2147483648", "9223372036854775807", "3.25", random(20), random(63), random(64), random(16383), random(16384),
		random(300 << 10), strings.Repeat("a", 10000), strings.Repeat("abcdefgh", 200), random(3 << 20),
	} {
		do("SET", fmt.Sprintf("string:%d", i), v)
	}
	for _, k := range []string{"", "7", "-300", "70000", strings.Repeat("key", 50), random(100), random(70 << 10), "new\r\nline"} {
		do("SET", k, "key is special")
	}
	for i := range 3000 {
		do("SET", fmt.Sprintf("many:%d", i), i)
	}
	member := func(i int) any {
		switch i % 4 {
		case 0:
			return i * i * i
		case 1:
			return fmt.Sprintf("m%d", i)
		case 2:
			return strings.Repeat(strconv.Itoa(i), 40)
		}
		return random(70)
	}
	for _, n := range []int{1, 5, 200, 3000} {
		for i := range n {
			id := strconv.Itoa(n)
			do("RPUSH", "list:"+id, member(i))
			do("SADD", "set:"+id, member(i))
			do("SADD", "intset:"+id, i*i*i*i-5)
			do("ZADD", "zset:"+id, float64(i)*1.5-7, member(i))
			do("HSET", "hash:"+id, fmt.Sprintf("f%d", i), member(i))
			do("RPUSH", "list-short:"+id, i)
			do("SADD", "set-short:"+id, fmt.Sprintf("s%d", i))
			do("ZADD", "zset-short:"+id, i, i)
			do("HSET", "hash-short:"+id, i, i)
		}
	}
	do("SADD", "intset:16", 1, 2, -3)
	do("SADD", "intset:32", 1, 100000)
	do("SADD", "intset:64", 1, int64(1)<<40)
	do("ZADD", "zset:inf", "inf", "a", "-inf", "b", "0", "c")
	do("RPUSH", "list:plain", random(100<<10), "small", random(5000), strings.Repeat("z", 50000))
	do("SETBIT", "bitmap", 80000, 1)
	do("PFADD", "hll", "a", "b", "c")

	for i := range 500 {
		do("XADD", "stream", fmt.Sprintf("%d-%d", 1000+i/3, 1+i%3), "f", i, "g", member(i))
	}
	for i := 0; i < 500; i += 7 {
		do("XDEL", "stream", fmt.Sprintf("%d-%d", 1000+i/3, 1+i%3))
	}
	do("XADD", "stream:one", "5-5", "a", "b")
	do("XADD", "stream:empty", "5-5", "a", "b")
	do("XDEL", "stream:empty", "5-5")
	do("XGROUP", "CREATE", "stream:empty", "g", "$")
	do("XTRIM", "stream", "MAXLEN", "400")
	for _, g := range []string{"g1", "g2", "idle"} {
		do("XGROUP", "CREATE", "stream", g, "0")
	}
	do("XREADGROUP", "GROUP", "g1", "c1", "COUNT", 100, "STREAMS", "stream", ">")
	do("XREADGROUP", "GROUP", "g1", "c2", "COUNT", 50, "STREAMS", "stream", ">")
	do("XREADGROUP", "GROUP", "g2", "c1", "COUNT", 10, "STREAMS", "stream", ">")
	do("XACK", "stream", "g1", "1010-1", "1011-2", "1012-1")
	do("XDEL", "stream", "1020-1", "1020-2") // pending, but gone
	try("XGROUP", "CREATECONSUMER", "stream", "g2", "never")
	do("XCLAIM", "stream", "g1", "c2", 0, "1030-1", "RETRYCOUNT", 99)
	try("XADD", "stream:idmp", "IDMP", "producer", "message-1", "*", "a", "b")
	try("XADD", "stream:idmp", "IDMP", "producer", "message-2", "*", "a", "b")
	try("XADD", "stream:idmp", "IDMPAUTO", "other", "*", "a", "b")

	for _, k := range []string{"hash:5", "hash-short:5", "hash:3000", "hash-short:3000"} {
		try("HPEXPIRE", k, 10000000, "FIELDS", 2, "f1", "1")
		try("HPEXPIRE", k, 20000000, "FIELDS", 2, "f4", "4")
	}
	do("PEXPIREAT", "string:1", int64(4102444800123))
	do("EXPIRE", "list:200", 100000)
	do("EXPIRE", "stream", 100000)
	try("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	try("FUNCTION", "LOAD", "#!lua name=big\n--"+strings.Repeat("comment ", 200)+"\nredis.register_function('g', function() return 1 end)")

	pipe := c.Pipeline()
	pipe.Do(ctx, "SELECT", 3)
	pipe.Do(ctx, "SET", "in3", "x")
	pipe.Do(ctx, "LPUSH", "list3", "x")
	pipe.Do(ctx, "SELECT", 0)
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestLiveDump reads RDBs of a real server: for every key the payload must be DUMP's answer byte for byte.
func TestLiveDump(t *testing.T) {
	c, dir := startServer(t)
	ctx := t.Context()
	populate(t, c)
	// One connection: databases are selected on it.
	conn := c.Conn()
	defer conn.Close()

	for _, run := range []struct {
		name   string
		config [][2]string
	}{
		{"plain", nil},
		{"uncompressed, LRU", [][2]string{{"rdbcompression", "no"}, {"maxmemory-policy", "allkeys-lru"}}},
		{"LFU", [][2]string{{"rdbcompression", "yes"}, {"maxmemory-policy", "allkeys-lfu"}}},
		{"compressed lists", [][2]string{{"list-compress-depth", "1"}, {"maxmemory-policy", "noeviction"}}},
	} {
		t.Run(run.name, func(t *testing.T) {
			for _, kv := range run.config {
				if err := c.ConfigSet(ctx, kv[0], kv[1]).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Save(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
			if err != nil {
				t.Fatal(err)
			}
			r := NewReader(bytes.NewReader(b), Config{})
			items, err := readAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if r.Consumed() != int64(len(b)) {
				t.Errorf("consumed %d of %d", r.Consumed(), len(b))
			}
			checkItems(t, conn, r, items)
		})
	}
}

func checkItems(t *testing.T, conn *redis.Conn, r *Reader, items []Item) {
	t.Helper()
	ctx := t.Context()
	policy := conn.ConfigGet(ctx, "maxmemory-policy").Val()["maxmemory-policy"]
	types := map[byte]int{}
	counts := map[int]int64{}
	kinds := map[Kind]int{}
	db := -1
	var functions []byte
	for _, it := range items {
		kinds[it.Kind]++
		if it.Kind == KindFunction {
			functions = append(append(functions, OpFunction), it.Function...)
		}
		if it.Kind != KindEntry {
			continue
		}
		e := it.Entry
		types[e.Type]++
		counts[e.DB]++
		if e.DB != db {
			db = e.DB
			if err := conn.Select(ctx, db).Err(); err != nil {
				t.Fatal(err)
			}
		}
		want, err := conn.Dump(ctx, string(e.Key)).Result()
		if err != nil {
			t.Fatalf("dump %s: %v", quoteKey(e.Key), err)
		}
		if got := AppendPayload(nil, e.Type, e.Value, r.Version()); string(got) != want {
			t.Errorf("key %s, type %d: payload differs: %d bytes, dump has %d (%.60x ... %x)\n%.60x ... %x", quoteKey(e.Key), e.Type,
				len(got), len(want), got, got[len(got)-10:], want, want[len(want)-10:])
		}
		at := int64(0)
		if left := conn.PTTL(ctx, string(e.Key)).Val(); left > 0 {
			at = time.Now().Add(left).UnixMilli()
		}
		if d := at - e.ExpireAtMs; d < -100 || d > 100 {
			t.Errorf("key %s: expires at %d, server says %d", quoteKey(e.Key), e.ExpireAtMs, at)
		}
		if (e.Idle >= 0) != (policy == "allkeys-lru") || (e.Freq >= 0) != (policy == "allkeys-lfu") {
			t.Errorf("key %s: idle %d, freq %d under %s", quoteKey(e.Key), e.Idle, e.Freq, policy)
		}
	}
	for db, n := range counts {
		conn.Select(ctx, db)
		if size := conn.DBSize(ctx).Val(); size != n {
			t.Errorf("database %d: %d entries, server has %d", db, n, size)
		}
	}
	if len(counts) != 2 {
		t.Errorf("entries per database: %v", counts)
	}
	if want, err := conn.FunctionDump(ctx).Result(); err == nil {
		if got := AppendPayload(nil, functions[0], functions[1:], r.Version()); string(got) != want {
			t.Errorf("functions differ: %d bytes, dump has %d", len(got), len(want))
		}
	}
	t.Logf("version %d, valkey %v, kinds %v, entries per type %v", r.Version(), r.Valkey(), kinds, types)
}

// TestLiveCluster reads the RDB of a server in cluster mode, which since Redis 7.4 announces slots, and without a
// checksum. It needs Redis 7.0.
func TestLiveCluster(t *testing.T) {
	c, dir := startServer(t, "--rdbchecksum", "no", "--cluster-enabled", "yes")
	ctx := t.Context()
	if err := c.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); c.Set(ctx, "k", "v", 0).Err() != nil; {
		if time.Now().After(deadline) {
			t.Fatal(c.Set(ctx, "k", "v", 0).Err())
		}
		time.Sleep(10 * time.Millisecond)
	}
	for i := range 500 {
		if err := c.Set(ctx, fmt.Sprintf("k%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Save(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(bytes.NewReader(b), Config{})
	items, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	entries, slots, announced := 0, 0, uint64(0)
	for _, it := range items {
		switch it.Kind {
		case KindEntry:
			entries++
		case KindSlotInfo:
			slots++
			announced += it.SlotInfo.KeyCount
		default: // not counted
		}
	}
	if entries != 501 || slots > 0 && announced != 501 {
		t.Errorf("%d entries, %d keys announced in %d slots", entries, announced, slots)
	}
	t.Logf("version %d, %d entries, %d slots announced", r.Version(), entries, slots)
}
