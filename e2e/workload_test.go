package e2e_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// everyWrite has every write command there is, and its options, a group for each type: lines of words, run in order.
// K stands for the group's own tag, so that keys of one line share a slot; $N for N hundred bytes; @T for a time far away
// in milliseconds, @S for one in seconds. What a server does not know it refuses, and the line does not count there.
var everyWrite = []struct{ name, lines string }{
	{"strings", `
		SET K:s v
		SET K:int 42
		SET K:long $50
		SET K:ex v EX 86400
		SET K:px v PX 86400000
		SET K:exat v EXAT @S
		SET K:pxat v PXAT @T
		SET K:nx v NX
		SET K:nx w NX
		SET K:xx v
		SET K:xx w XX GET
		SET K:keep v PXAT @T
		SET K:keep w KEEPTTL
		SETNX K:setnx v
		SETEX K:setex 86400 v
		PSETEX K:psetex 86400000 v
		MSET K:m1 a K:m2 b K:m3 c
		MSETNX K:n1 a K:n2 b
		MSETEX 2 K:e1 a K:e2 b PXAT @T
		APPEND K:s more
		SETRANGE K:s 20 far
		INCR K:int
		INCRBY K:int 10
		DECR K:int
		DECRBY K:int 3
		INCRBYFLOAT K:float 1.1
		INCRBYFLOAT K:float 2.2e3
		GETSET K:getset a
		GETSET K:getset b
		SET K:getdel v
		GETDEL K:getdel
		SET K:getex v
		GETEX K:getex PXAT @T
		GETEX K:getex PERSIST
		SET K:delex v
		DELEX K:delex
		SETBIT K:bits 1000 1
		BITFIELD K:bits SET u8 16 200 INCRBY i5 100 1 OVERFLOW SAT INCRBY u2 102 3
		BITOP AND K:and K:bits K:s
		BITOP NOT K:not K:bits
		SET K:copied v PXAT @T
		COPY K:copied K:copy
		SET K:renamed v
		RENAME K:renamed K:newname
		SET K:r2 v
		RENAMENX K:r2 K:newname2
		PFADD K:hll a b c
		PFADD K:hll2 c d e
		PFMERGE K:hll3 K:hll K:hll2`},
	{"lists", `
		RPUSH K:l a b c d e f g h
		LPUSH K:l z y x
		RPUSHX K:l i
		LPUSHX K:l w
		LINSERT K:l BEFORE c between
		LSET K:l 0 first
		LREM K:l 1 d
		LTRIM K:l 0 8
		LPOP K:l
		RPOP K:l
		LPOP K:l 2
		RPOPLPUSH K:l K:other
		LMOVE K:l K:other LEFT RIGHT
		BLPOP K:l 1
		BRPOP K:l 1
		RPUSH K:l2 1 2 3 4 5
		BRPOPLPUSH K:l2 K:other 1
		BLMOVE K:l2 K:other LEFT LEFT 1
		LMPOP 1 K:l2 LEFT COUNT 1
		BLMPOP 1 1 K:l2 RIGHT COUNT 1
		RPUSH K:n 3 1 2
		SORT K:n STORE K:sorted
		RPUSH K:big $100 $100 $100
		RPUSH K:expiring a
		PEXPIREAT K:expiring @T`},
	{"sets", `
		SADD K:s a b c d e f
		SADD K:int 1 2 3 100000 99999999999
		SREM K:s a
		SADD K:t d e f g h
		SMOVE K:s K:t b
		SPOP K:t
		SPOP K:t 2
		SINTERSTORE K:inter K:s K:t
		SUNIONSTORE K:union K:s K:t
		SDIFFSTORE K:diff K:s K:t
		SADD K:expiring a
		EXPIREAT K:expiring @S`},
	{"sorted sets", `
		ZADD K:z 1 a 2.5 b -3 c 1e300 d inf e -inf f 3.0000000000000004 g
		ZADD K:z NX 9 new
		ZADD K:z XX 8 a
		ZADD K:z GT CH 10 a
		ZADD K:z LT 0.1 b
		ZADD K:z INCR 1.5 c
		ZINCRBY K:z 2 c
		ZREM K:z d
		ZADD K:y 1 a 2 b 3 c 4 h 5 i 6 j 7 k 8 l
		ZPOPMIN K:y
		ZPOPMAX K:y 2
		BZPOPMIN K:y 1
		BZPOPMAX K:y 1
		ZMPOP 1 K:y MIN
		ZADD K:x 1 a 2 b 3 c 4 d 5 e 6 f
		ZREMRANGEBYRANK K:x 0 0
		ZREMRANGEBYSCORE K:x 2 2
		ZADD K:lex 0 a 0 b 0 c
		ZREMRANGEBYLEX K:lex [a [a
		ZUNIONSTORE K:union 2 K:z K:x WEIGHTS 2 3 AGGREGATE MAX
		ZINTERSTORE K:inter 2 K:z K:x
		ZDIFFSTORE K:diff 2 K:z K:x
		ZRANGESTORE K:range K:z 0 2
		GEOADD K:geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
		GEORADIUS K:geo 15 37 200 km STORE K:near
		GEOSEARCHSTORE K:near2 K:geo FROMLONLAT 15 37 BYRADIUS 200 km
		PEXPIREAT K:lex @T`},
	{"hashes", `
		HSET K:h f v g w
		HMSET K:h a 1 b 2
		HSETNX K:h f no
		HSETNX K:h new yes
		HINCRBY K:h a 41
		HINCRBYFLOAT K:h b 0.5
		HDEL K:h g
		HSET K:big f $90
		HSET K:gone f v
		HDEL K:gone f
		PEXPIREAT K:big @T`},
	{"hash fields that expire", `
		HSET K:h a 1 b 2 c 3 d 4 e 5 f 6
		HEXPIRE K:h 86400 FIELDS 1 a
		HPEXPIRE K:h 86400000 FIELDS 1 b
		HEXPIREAT K:h @S FIELDS 1 c
		HPEXPIREAT K:h @T FIELDS 2 d e
		HPERSIST K:h FIELDS 1 e
		HSETEX K:x PXAT @T FIELDS 2 a 1 b 2
		HGETEX K:h PXAT @T FIELDS 1 f
		HGETDEL K:x FIELDS 1 b
		HPEXPIREAT K:h 1 FIELDS 1 b`},
	{"streams", `
		XADD K:s 1-1 f v g w
		XADD K:s 1-2 f v g x
		XADD K:s 2-0 other fields and values
		XADD K:s 3-0 f $20
		XADD K:s NOMKSTREAM 4-0 f v
		XADD K:s MAXLEN 4 5-0 f v
		XDEL K:s 2-0
		XTRIM K:s MAXLEN 3
		XTRIM K:s MINID 2-0
		XADD K:g 1-1 f v
		XADD K:g 1-2 f v
		XADD K:g 1-3 f v
		XADD K:g 1-4 f v
		XGROUP CREATE K:g one 0
		XGROUP CREATE K:g two 1-2
		XGROUP CREATE K:made three $ MKSTREAM
		XREADGROUP GROUP one c1 COUNT 2 STREAMS K:g >
		XREADGROUP GROUP one c2 COUNT 1 STREAMS K:g >
		XACK K:g one 1-1
		XCLAIM K:g one c2 0 1-2 TIME 1700000000000 RETRYCOUNT 7 JUSTID
		XCLAIM K:g one c2 0 1-3 TIME 1700000000000 RETRYCOUNT 3 JUSTID
		XAUTOCLAIM K:g one c3 0 1-3 COUNT 1 JUSTID
		XCLAIM K:g one c3 0 1-3 TIME 1700000000000 RETRYCOUNT 3 JUSTID
		XGROUP CREATECONSUMER K:g one idle
		XGROUP CREATECONSUMER K:g one away
		XGROUP DELCONSUMER K:g one away
		XGROUP SETID K:g two 1-3
		XGROUP CREATE K:g gone 0
		XGROUP DESTROY K:g gone
		XSETID K:g 9-9
		XADD K:d 1-1 f v
		XADD K:d 1-2 f v
		XDELEX K:d FIELDS 1 1-1
		XADD K:empty 1-1 f v
		XDEL K:empty 1-1
		PEXPIREAT K:d @T`},
	{"keys", `
		SET K:a v
		SET K:b v
		SET K:c v
		SET K:d v
		DEL K:a K:nothing
		UNLINK K:b
		EXPIRE K:c 86400
		PEXPIRE K:d 86400000
		SET K:e v
		PEXPIREAT K:e @T
		PERSIST K:e
		SET K:f v
		EXPIRE K:f 86400 NX
		EXPIRE K:f 90000 XX
		EXPIRE K:f 99000 GT
		EXPIRE K:f 95000 LT
		SET K:past v
		PEXPIREAT K:past 1
		TOUCH K:e
		RESTORE K:restored 0 "\x00\x05hello\x06\x00\xf5\x9f\xb7\xf6\x90\x61\x1c\x99"
		RESTORE K:restored 0 "\x00\x05hello\x06\x00\xf5\x9f\xb7\xf6\x90\x61\x1c\x99" REPLACE
		EVAL "redis.call('SET', KEYS[1], ARGV[1]); return redis.call('INCR', KEYS[2])" 2 K:script K:counter value
		EVAL "return redis.call('SPOP', KEYS[1])" 1 K:none`},
}

// writeEverything runs all groups under a name, and returns how many lines the server knew.
func writeEverything(t *testing.T, c redis.UniversalClient, name string) (known int) {
	t.Helper()
	for i, group := range everyWrite {
		tag := fmt.Sprintf("{%s-%d}", name, i)
		for line := range strings.Lines(group.lines) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			args := wordsOf(t, line, tag)
			cmd := redis.NewCmd(t.Context(), args...)
			cmd.SetFirstKeyPos(int8(keyAt(args, tag)))
			err := c.Process(t.Context(), cmd)
			switch {
			case err == nil, errors.Is(err, redis.Nil):
				known++
			case isUnknown(err):
			default:
				t.Fatalf("%s: %q: %v", group.name, line, err)
			}
		}
	}
	// A transaction, and one that moves things between keys.
	tag := "{" + name + "-multi}"
	_, err := c.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Set(t.Context(), tag+":a", "1", 0)
		p.Incr(t.Context(), tag+":a")
		p.RPush(t.Context(), tag+":l", "x", "y")
		p.Rename(t.Context(), tag+":a", tag+":b")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// isUnknown: the server is too old for a command, or for an option of it.
func isUnknown(err error) bool {
	text := strings.ToLower(err.Error())
	for _, s := range []string{"unknown command", "unknown subcommand", "syntax error", "wrong number of arguments", "unsupported option", "not an integer", "unrecognized", "invalid expire", "bad data format", "invalid stream id", "not a valid float"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

func wordsOf(t *testing.T, line, tag string) []any {
	t.Helper()
	var args []any
	for line != "" {
		var w string
		if line[0] == '"' {
			end := strings.Index(line[1:], `"`) + 2
			w, line = line[1:end-1], line[end:]
			var b strings.Builder
			for i := 0; i < len(w); i++ {
				if strings.HasPrefix(w[i:], `\x`) {
					var n int
					if _, err := fmt.Sscanf(w[i+2:i+4], "%02x", &n); err != nil {
						t.Fatal(err)
					}
					b.WriteByte(byte(n))
					i += 3
				} else {
					b.WriteByte(w[i])
				}
			}
			w = b.String()
		} else {
			w, line, _ = strings.Cut(line, " ")
			switch {
			case w == "@T":
				w = "4000000000123"
			case w == "@S":
				w = "4000000000"
			case strings.HasPrefix(w, "K:"):
				w = tag + w[1:]
			case len(w) > 1 && w[0] == '$':
				var n int
				if _, err := fmt.Sscanf(w, "$%d", &n); err != nil {
					t.Fatal(err)
				}
				w = strings.Repeat("0123456789", 10*n)
			}
		}
		line = strings.TrimLeft(line, " ")
		args = append(args, w)
	}
	return args
}

func keyAt(args []any, tag string) int {
	for i, a := range args {
		if strings.HasPrefix(fmt.Sprint(a), tag) {
			return i
		}
	}
	return 0
}
