package load

import (
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// operation adds commands to the batch of a Writer.
type operation struct {
	name   string
	weight int
	do     func(*Writer)
}

var operations = []operation{
	{"string", 20, (*Writer).stringOp},
	{"bits", 6, (*Writer).bitsOp},
	{"list", 14, (*Writer).listOp},
	{"hash", 14, (*Writer).hashOp},
	{"set", 12, (*Writer).setOp},
	{"zset", 12, (*Writer).zsetOp},
	{"stream", 12, (*Writer).streamOp},
	{"expiry", 8, (*Writer).expiryOp},
	{"delete", 5, (*Writer).deleteOp},
	{"rename", 4, (*Writer).renameOp},
	{"store", 4, (*Writer).storeOp},
	{"sketch", 4, (*Writer).sketchOp},
	{"multi", 4, (*Writer).multiOp},
	{"script", 3, (*Writer).scriptOp},
	{"script-undeclared", 2, (*Writer).undeclaredOp},
	{"any-type", 2, (*Writer).anyTypeOp},
}

var types = []string{"str", "int", "bit", "list", "hash", "set", "zset", "stream", "hll", "geo", "ring"}

// maxLen is what lists and streams are trimmed to.
const maxLen = 100

func (w *Writer) space() string {
	if w.cfg.Shared == "" || w.cfg.Prefix != "" && w.r.IntN(2) == 0 {
		return w.cfg.Prefix
	}
	return w.cfg.Shared
}

// key picks a key of a type: plain, with a hash tag, or binary.
func (w *Writer) key(typ string) string {
	s, i := w.space(), w.r.IntN(w.cfg.Keys)
	switch n := w.r.IntN(10); {
	case n < 5:
		return w.tagged(s, i, typ)
	case n < 9:
		return s + typ + ":" + strconv.Itoa(i)
	default:
		return s + typ + "\x00\r\n\xff{" + string([]byte{byte(i), byte(i >> 8), 0xfe})
	}
}

func (w *Writer) tagged(space string, i int, typ string) string {
	return "{" + space + strconv.Itoa(i) + "}:" + typ
}

// pair picks two keys of a type that share a slot.
func (w *Writer) pair(typ string) (string, string) {
	k := w.tagged(w.space(), w.r.IntN(w.cfg.Keys), typ)
	return k, k + ":2"
}

func (w *Writer) val() string { return value(w.r, 40) }

func (w *Writer) name() string { return "n" + strconv.Itoa(w.r.IntN(50)) }

func (w *Writer) ttl() time.Duration { return time.Duration(1+w.r.IntN(120_000)) * time.Millisecond }

func (w *Writer) stringOp() {
	k, n := w.key("str"), w.key("int")
	switch w.r.IntN(14) {
	case 0:
		w.p.Incr(w.ctx, n)
	case 1:
		w.p.IncrBy(w.ctx, n, w.r.Int64N(1000)-500)
	case 2:
		w.p.Decr(w.ctx, n)
	case 3:
		w.p.Append(w.ctx, k, w.val())
	case 4:
		w.p.Set(w.ctx, k, w.val(), 0)
	case 5:
		w.p.Set(w.ctx, k, w.val(), w.ttl().Truncate(time.Second)+time.Second) // EX
	case 6:
		w.p.Set(w.ctx, k, w.val(), w.ttl()) // PX
	case 7:
		w.p.Set(w.ctx, k, w.val(), redis.KeepTTL)
	case 8:
		w.p.Do(w.ctx, "setnx", k, w.val()) // SetNX would send SET NX
	case 9:
		w.p.SetRange(w.ctx, k, int64(w.r.IntN(100)), w.val())
	case 10:
		w.p.GetDel(w.ctx, k)
	case 11:
		w.p.GetEx(w.ctx, k, w.ttl())
	case 12:
		w.p.IncrByFloat(w.ctx, w.key("float"), w.r.NormFloat64())
	default:
		a, b := w.pair("str")
		w.p.MSet(w.ctx, a, w.val(), b, w.val())
	}
}

func (w *Writer) bitsOp() {
	a, b := w.pair("bit")
	switch w.r.IntN(5) {
	case 0:
		w.p.SetBit(w.ctx, a, int64(w.r.IntN(800)), w.r.IntN(2))
	case 1:
		w.p.SetBit(w.ctx, b, int64(w.r.IntN(800)), 1)
	case 2:
		w.p.BitOpXor(w.ctx, a, a, b)
	case 3:
		w.p.BitOpNot(w.ctx, b, a)
	default:
		w.p.BitField(w.ctx, a, "incrby", "u8", w.r.IntN(100), 7)
	}
}

func (w *Writer) listOp() {
	k := w.key("list")
	switch w.r.IntN(9) {
	case 0, 1:
		w.p.RPush(w.ctx, k, w.val(), w.val())
	case 2:
		w.p.LPush(w.ctx, k, w.val())
	case 3:
		w.p.LPop(w.ctx, k)
	case 4:
		w.p.LTrim(w.ctx, k, 0, maxLen-1)
	case 5:
		w.p.LSet(w.ctx, k, 0, w.val())
	case 6:
		w.p.LRem(w.ctx, k, 1, w.val())
	case 7:
		a, b := w.pair("ring")
		w.p.RPush(w.ctx, a, w.val())
		w.p.LMove(w.ctx, a, b, "left", "right")
		w.p.LTrim(w.ctx, b, -maxLen, -1)
	default:
		w.p.RPopCount(w.ctx, k, 2)
	}
}

func (w *Writer) hashOp() {
	k := w.key("hash")
	switch w.r.IntN(6) {
	case 0, 1:
		w.p.HSet(w.ctx, k, w.name(), w.val(), w.name(), w.val())
	case 2:
		w.p.HIncrBy(w.ctx, k, "count", int64(w.r.IntN(10)))
	case 3:
		w.p.HDel(w.ctx, k, w.name(), w.name())
	case 4:
		w.p.HSetNX(w.ctx, k, w.name(), w.val())
	default:
		w.p.HIncrByFloat(w.ctx, k, "sum", w.r.Float64())
	}
}

func (w *Writer) setOp() {
	k := w.key("set")
	switch w.r.IntN(6) {
	case 0, 1:
		w.p.SAdd(w.ctx, k, w.name(), w.val())
	case 2:
		w.p.SAdd(w.ctx, k, w.r.IntN(1000))
	case 3:
		w.p.SRem(w.ctx, k, w.name(), w.name())
	case 4:
		w.p.SPop(w.ctx, k)
	default:
		a, b := w.pair("set")
		w.p.SMove(w.ctx, a, b, w.name())
		w.p.SPopN(w.ctx, b, 3)
	}
}

func (w *Writer) zsetOp() {
	k := w.key("zset")
	switch w.r.IntN(7) {
	case 0, 1:
		w.p.ZAdd(w.ctx, k, redis.Z{Score: score(w.r), Member: w.name()}, redis.Z{Score: score(w.r), Member: w.val()})
	case 2:
		w.p.ZIncrBy(w.ctx, k, w.r.NormFloat64(), w.name())
	case 3:
		w.p.ZRem(w.ctx, k, w.name(), w.name())
	case 4:
		w.p.ZPopMin(w.ctx, k)
	case 5:
		w.p.ZAddArgs(w.ctx, k, redis.ZAddArgs{GT: true, Members: []redis.Z{{Score: score(w.r), Member: w.name()}}})
	default:
		w.p.ZRemRangeByRank(w.ctx, k, maxLen, -1)
	}
}

func (w *Writer) streamOp() {
	k := w.key("stream")
	var e entryID
	if len(w.recent) > 0 {
		e = w.recent[w.r.IntN(len(w.recent))]
	}
	n := w.r.IntN(12)
	if e.id == "" && n >= 8 {
		n = 0
	}
	switch n {
	case 0, 1, 2:
		w.p.XAdd(w.ctx, &redis.XAddArgs{Stream: k, Values: []any{"f", w.val(), w.name(), w.val()}})
	case 3:
		w.p.XAdd(w.ctx, &redis.XAddArgs{Stream: k, MaxLen: maxLen, Approx: w.r.IntN(2) == 0, Values: []any{"f", w.val()}})
	case 4:
		w.p.XTrimMaxLen(w.ctx, k, maxLen)
	case 5:
		w.p.XGroupCreateMkStream(w.ctx, k, "g"+strconv.Itoa(w.r.IntN(2)), "0")
	case 6, 7:
		w.p.XReadGroup(w.ctx, &redis.XReadGroupArgs{
			Group: "g" + strconv.Itoa(w.r.IntN(2)), Consumer: "c" + strconv.Itoa(w.r.IntN(3)),
			Streams: []string{k, ">"}, Count: 5, Block: -1, NoAck: w.r.IntN(5) == 0,
		})
	case 8:
		w.p.XDel(w.ctx, e.key, e.id)
	case 9, 10:
		w.p.XAck(w.ctx, e.key, "g"+strconv.Itoa(w.r.IntN(2)), e.id)
	default:
		w.p.XClaimJustID(w.ctx, &redis.XClaimArgs{Stream: e.key, Group: "g0", Consumer: "c9", Messages: []string{e.id}})
	}
}

func (w *Writer) expiryOp() {
	k := w.key(types[w.r.IntN(len(types))])
	switch w.r.IntN(6) {
	case 0:
		w.p.Expire(w.ctx, k, w.ttl().Truncate(time.Second)+time.Second)
	case 1:
		w.p.PExpire(w.ctx, k, w.ttl())
	case 2:
		w.p.PExpire(w.ctx, k, time.Duration(1+w.r.IntN(500))*time.Millisecond) // expires while we look
	case 3:
		w.p.PExpireAt(w.ctx, k, time.Now().Add(w.ttl()))
	case 4:
		w.p.ExpireXX(w.ctx, k, time.Minute)
	default:
		w.p.Persist(w.ctx, k)
	}
}

func (w *Writer) deleteOp() {
	k := w.key(types[w.r.IntN(len(types))])
	switch w.r.IntN(4) {
	case 0:
		w.p.Unlink(w.ctx, k)
	case 1:
		a, b := w.pair(types[w.r.IntN(len(types))])
		w.p.Del(w.ctx, a, b)
	case 2:
		w.p.PExpireAt(w.ctx, k, time.UnixMilli(1)) // a deletion too
	default:
		w.p.Del(w.ctx, k)
	}
}

func (w *Writer) renameOp() {
	a, b := w.pair(types[w.r.IntN(len(types))])
	if w.r.IntN(2) == 0 {
		a, b = b, a
	}
	switch w.r.IntN(4) {
	case 0:
		w.p.Copy(w.ctx, a, b, 0, false)
	case 1:
		w.p.Copy(w.ctx, a, b, 0, true)
	case 2:
		w.p.RenameNX(w.ctx, a, b)
	default:
		w.p.Rename(w.ctx, a, b)
	}
}

func (w *Writer) storeOp() {
	typ := "set"
	if w.r.IntN(2) == 0 {
		typ = "zset"
	}
	a, b := w.pair(typ)
	to := a + ":stored"
	switch n := w.r.IntN(3); {
	case typ == "set" && n == 0:
		w.p.SInterStore(w.ctx, to, a, b)
	case typ == "set" && n == 1:
		w.p.SDiffStore(w.ctx, to, a, b)
	case typ == "set":
		w.p.Sort(w.ctx, a, &redis.Sort{Alpha: true})
		w.p.SortStore(w.ctx, a, a+":sorted", &redis.Sort{Alpha: true})
	case n == 0:
		w.p.ZUnionStore(w.ctx, to, &redis.ZStore{Keys: []string{a, b}, Weights: []float64{1, 0.5}})
	case n == 1:
		w.p.ZInterStore(w.ctx, to, &redis.ZStore{Keys: []string{a, b}, Aggregate: "max"})
	default:
		w.p.ZRangeStore(w.ctx, to, redis.ZRangeArgs{Key: a, Start: 0, Stop: 10})
	}
}

func (w *Writer) sketchOp() {
	switch w.r.IntN(4) {
	case 0, 1:
		w.p.PFAdd(w.ctx, w.key("hll"), w.val(), w.val())
	case 2:
		a, b := w.pair("hll")
		w.p.PFMerge(w.ctx, a, b)
	default:
		w.p.GeoAdd(w.ctx, w.key("geo"), &redis.GeoLocation{Name: w.name(), Longitude: w.r.Float64()*360 - 180, Latitude: w.r.Float64()*170 - 85})
	}
}

// multiOp writes several keys of a slot in MULTI/EXEC. It has a connection of its own for a moment, beside the batch.
func (w *Writer) multiOp() {
	a, b := w.pair("str")
	l, _ := w.pair("list")
	same := a + ":count"
	v, v2, v3 := w.val(), w.val(), w.val()
	ttl := w.ttl()
	w.later = append(w.later, func() ([]redis.Cmder, error) {
		return w.client.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Set(w.ctx, a, v, 0)
			p.Set(w.ctx, b, v, ttl)
			p.Incr(w.ctx, same)
			p.Append(w.ctx, a, v2)
			return nil
		})
	}, func() ([]redis.Cmder, error) {
		return w.client.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
			p.RPush(w.ctx, l, v3)
			p.LTrim(w.ctx, l, -maxLen, -1)
			return nil
		})
	})
}

// The scripts are effects of their arguments only, so that servers that replicate scripts themselves agree.
const (
	declaredScript = `redis.call('INCR', KEYS[1])
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('LTRIM', KEYS[2], -50, -1)
if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return redis.call('LLEN', KEYS[2])`

	undeclaredScript = `redis.call('INCR', KEYS[1])
for i = 1, #ARGV, 2 do
  redis.pcall('SET', ARGV[i], ARGV[i + 1])
  redis.pcall('APPEND', ARGV[i] .. ':{' .. ARGV[i] .. '}', 'x')
end
return #ARGV`
)

func (w *Writer) scriptOp() {
	k := w.tagged(w.space(), w.r.IntN(w.cfg.Keys), "script")
	ttl := 0
	if w.r.IntN(3) == 0 {
		ttl = 1 + w.r.IntN(60_000)
	}
	w.p.Eval(w.ctx, declaredScript, []string{k + ":n", k + ":l"}, w.val(), ttl)
}

// undeclaredOp writes keys of several slots from one script, of which it declares one. Redis 7 lets it, in a cluster
// as long as the node has them all.
func (w *Writer) undeclaredOp() {
	keys := w.neighbours(4)
	args := make([]any, 0, 2*len(keys))
	for _, k := range keys[1:] {
		args = append(args, k+":{"+k+"}", w.val())
	}
	w.p.Eval(w.ctx, undeclaredScript, keys[:1], args...)
}

// anyTypeOp changes the type of a key, or is refused for it.
func (w *Writer) anyTypeOp() {
	k := w.key("any")
	switch w.r.IntN(6) {
	case 0:
		w.p.Set(w.ctx, k, w.val(), 0)
	case 1:
		w.p.HSet(w.ctx, k, w.name(), w.val())
	case 2:
		w.p.RPush(w.ctx, k, w.val())
	case 3:
		w.p.SAdd(w.ctx, k, w.val())
	case 4:
		w.p.Del(w.ctx, k)
	default:
		w.p.ZAdd(w.ctx, k, redis.Z{Score: score(w.r), Member: w.name()})
	}
}
