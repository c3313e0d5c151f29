package command

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redriver/redriver/redis/command/internal/live"
)

// fixture are the keys that examples work on. Each is given an expiry of its own, decades away, and so is field f of h.
// What a server has no type for is not there.
var fixture = []struct{ key, command string }{
	{"s", "SET s 10"},
	{"u", "SET u abc"},
	{"d", "SET d v"},
	{"l", "RPUSH l a b c"},
	{"l1", "RPUSH l1 a"},
	{"l2", "RPUSH l2 x"},
	{"t", "SADD t a b c"},
	{"t1", "SADD t1 a"},
	{"t2", "SADD t2 b c d"},
	{"z", "ZADD z 1 a 2 b 3 c"},
	{"z1", "ZADD z1 1 a"},
	{"z2", "ZADD z2 5 b"},
	{"h", "HSET h f 1 g 2 e 3"},
	{"h1", "HSET h1 f 1"},
	{"x", "XADD x 1-1 f v"},
	{"p", "PFADD p a b"},
	{"p2", "PFADD p2 c"},
	{"g", "GEOADD g 13.361389 38.115556 a 15.087269 37.502669 b"},
	{"v", "VADD v VALUES 2 1 2 e"},
	{"v1", "VADD v1 VALUES 2 1 2 e"},
}

// further makes the rest of the fixture.
var further = []string{
	"XADD x 2-1 f v", "XGROUP CREATE x grp 0", "XREADGROUP GROUP grp c COUNT 1 STREAMS x >", "VADD v VALUES 2 3 4 e2",
	"HPEXPIREAT h 4102444800000 FIELDS 1 f",
}

// missing are keys that examples name and the fixture does not have.
var missing = []string{"n", "m"}

// examples are calls that change something, in each way that the command has to treat expiries. SOON is a point in time
// some minutes away, PAST one that is over, PAYLOAD what DUMP u says.
var examples = []string{
	"APPEND s x", "BITFIELD s SET u8 0 1", "BITOP AND d s u", "BITOP AND d n m", "DECR s", "DECRBY s 2",
	"DELEX s", "DELEX s IFEQ 10", "DELIFEQ s 10", "GETDEL s", "GETEX s EX 300", "GETEX s PXAT SOON", "GETEX s PERSIST", "GETEX s EXAT 1",
	"GETSET s v", "INCR s", "INCRBY s 2", "INCRBYFLOAT s 1.5", "MSET s 1 n 2", "MSETEX 2 s 1 n 2 EX 300", "MSETEX 1 s 1",
	"MSETEX 1 s 1 KEEPTTL", "MSETEX 1 s 1 EXAT 1", "MSETNX n 1 m 2", "PSETEX s 300000 v",
	"SET s v", "SET s v EX 300", "SET s v PX 300000 XX", "SET s v PXAT SOON", "SET s v XX GET", "SET s v KEEPTTL", "SET s v PXAT PAST", "SET n v NX EX 300",
	"SETBIT s 7 1", "SETEX s 300 v", "SETNX n v", "SETRANGE s 0 x",
	"COPY s n", "COPY s d REPLACE", "DEL s u", "UNLINK s u", "EXPIRE s 300", "EXPIRE s -1", "EXPIRE s 300 LT", "EXPIREAT s 1", "EXPIREAT s 2000000000",
	"MOVE s 1", "PERSIST s", "PEXPIRE s 300000", "PEXPIRE s 0", "PEXPIREAT s SOON", "PEXPIREAT s 1",
	"RENAME s d", "RENAME s n", "RENAMENX s n", "RESTORE n 300000 PAYLOAD", "RESTORE s 0 PAYLOAD REPLACE", "RESTORE s SOON PAYLOAD REPLACE ABSTTL",
	"RESTORE s 1 PAYLOAD REPLACE ABSTTL", "RESTORE n 300000 PAYLOAD IDLETIME 5", "RESTORE-ASKING n 300000 PAYLOAD", "RESTORE-ASKING s 0 PAYLOAD REPLACE",
	"RESTORE-ASKING s 1 PAYLOAD REPLACE ABSTTL", "SORT l ALPHA STORE d", "SORT n STORE d",
	"HDEL h f", "HDEL h1 f", "HEXPIRE h 300 FIELDS 2 f g", "HEXPIRE h 0 FIELDS 1 f", "HEXPIRE h1 0 FIELDS 1 f", "HEXPIREAT h 2000000000 FIELDS 1 g",
	"HEXPIREAT h 1 FIELDS 1 f", "HEXPIREAT h1 1 FIELDS 1 f", "HGETDEL h FIELDS 1 f", "HGETDEL h1 FIELDS 1 f", "HGETEX h EX 300 FIELDS 1 g",
	"HGETEX h PERSIST FIELDS 1 f", "HGETEX h EXAT 1 FIELDS 1 f", "HGETEX h1 EXAT 1 FIELDS 1 f", "HINCRBY h f 1", "HINCRBYFLOAT h f 1.5", "HMSET h f 2",
	"HPERSIST h FIELDS 1 f", "HPEXPIRE h 300000 NX FIELDS 1 g", "HPEXPIRE h 0 FIELDS 1 f", "HPEXPIRE h1 0 FIELDS 1 f", "HPEXPIRE h 300000 FIELDS 1 g NX",
	"HPEXPIREAT h SOON FIELDS 1 f", "HPEXPIREAT h 1 FIELDS 1 f", "HPEXPIREAT h1 1 FIELDS 1 f", "HSET h f 2", "HSETEX h EX 300 FIELDS 1 g 2",
	"HSETEX h FIELDS 1 g 2 EX 300", "HSETEX h FIELDS 1 f 2", "HSETEX h FXX KEEPTTL FIELDS 1 f 2", "HSETEX h EXAT 1 FIELDS 1 f 2", "HSETEX h1 EXAT 1 FIELDS 1 f 2",
	"HSETNX h n 1", "BLMOVE l l2 LEFT LEFT 1", "BLMOVE l1 l2 LEFT LEFT 1", "BLMPOP 1 2 n l LEFT", "BLMPOP 1 1 l1 LEFT", "BLPOP n l 1", "BLPOP l1 1", "BRPOP n l 1",
	"BRPOP l1 1", "BRPOPLPUSH l l2 1", "BRPOPLPUSH l1 l2 1", "LINSERT l BEFORE a x", "LMOVE l l2 LEFT LEFT", "LMOVE l1 l2 LEFT LEFT", "LMPOP 2 n l LEFT",
	"LMPOP 1 l1 LEFT", "LPOP l", "LPOP l1", "LPUSH l x", "LPUSHX l x", "LREM l 0 a", "LREM l1 0 a", "LSET l 0 x", "LTRIM l 0 1", "LTRIM l 5 6", "RPOP l", "RPOP l1",
	"RPOPLPUSH l l2", "RPOPLPUSH l1 l2", "RPUSH l x", "RPUSHX l x", "SADD t x", "SDIFFSTORE d t t2", "SDIFFSTORE d n t", "SINTERSTORE d t t2", "SINTERSTORE d n t",
	"SMOVE t t2 a", "SMOVE t1 t2 a", "SPOP t", "SPOP t1", "SPOP t 2", "SREM t a", "SREM t1 a", "SUNIONSTORE d t t2", "SUNIONSTORE d n",
	"BZMPOP 1 2 n z MIN", "BZMPOP 1 1 z1 MIN", "BZPOPMAX n z 1", "BZPOPMAX z1 1", "BZPOPMIN n z 1", "BZPOPMIN z1 1", "GEOADD g 13 38 c",
	"GEORADIUS g 13 38 200 km STORE d", "GEORADIUS n 13 38 200 km STORE d", "GEORADIUSBYMEMBER g a 200 km STOREDIST d", "GEORADIUSBYMEMBER n a 200 km STORE d",
	"GEOSEARCHSTORE d g FROMMEMBER a BYRADIUS 200 km", "GEOSEARCHSTORE d n FROMLONLAT 1 2 BYRADIUS 200 km", "ZADD z 9 a", "ZADD z GT CH 9 a",
	"ZDIFFSTORE d 2 z z2", "ZDIFFSTORE d 1 n", "ZINCRBY z 1 a", "ZINTERSTORE d 2 z z2", "ZINTERSTORE d 2 z n", "ZMPOP 2 n z MIN", "ZMPOP 1 z1 MAX",
	"ZPOPMAX z", "ZPOPMAX z1", "ZPOPMIN z", "ZPOPMIN z1", "ZRANGESTORE d z 0 1", "ZRANGESTORE d n 0 1", "ZREM z a", "ZREM z1 a", "ZREMRANGEBYLEX z - +",
	"ZREMRANGEBYLEX z [a [a", "ZREMRANGEBYRANK z 0 0", "ZREMRANGEBYRANK z 0 -1", "ZREMRANGEBYSCORE z 1 1", "ZREMRANGEBYSCORE z 1 9", "ZUNIONSTORE d 2 z z2",
	"ZUNIONSTORE d 1 n", "XACK x grp 1-1", "XACKDEL x grp IDS 1 1-1", "XADD x 9-1 f v", "XADD x * f v", "XADD x IDMPAUTO pid * f v", "XAUTOCLAIM x grp e 0 0",
	"XCFGSET x IDMP-DURATION 10", "XCLAIM x grp e 0 1-1", "XDEL x 1-1 2-1", "XDELEX x IDS 1 1-1", "XGROUP CREATE x grp2 0", "XGROUP CREATECONSUMER x grp e",
	"XGROUP DELCONSUMER x grp c", "XGROUP DESTROY x grp", "XGROUP SETID x grp 0", "XREADGROUP GROUP grp c STREAMS x >", "XSETID x 9-9", "XTRIM x MAXLEN 0",
	"PFADD p x", "PFCOUNT p", "PFDEBUG TODENSE p", "PFDEBUG GETREG p", "PFMERGE p p2", "VADD v VALUES 2 5 6 e3", "VREM v e", "VREM v1 e", `VSETATTR v e {"a":1}`,
	"EVAL return(redis.call('set',KEYS[1],ARGV[1],'ex','300')) 1 s v", "EVAL return(redis.call('expire',KEYS[1],300)) 1 s",
}

// unseen are what no example shows: MIGRATE needs a second server, XIDMPRECORD is for servers among themselves, FCALL a
// library and EVALSHA a script that is there, and scripts may do more than one example shows.
var unseen = []string{"EVAL", "EVALSHA", "FCALL", "MIGRATE", "XIDMPRECORD"}

// renamed are in the stream under another name, with both keys: LMOVE and RPOPLPUSH.
var renamed = []string{"BLMOVE", "BRPOPLPUSH"}

// TestFactsAgainstServers runs each write on keys with expiries and compares what becomes of them with what the table
// says, and what the servers put into their streams: what changed has to be among the keys, what is to be never split
// must not come, and no time to live may be left.
func TestFactsAgainstServers(t *testing.T) {
	var mu sync.Mutex
	seen, streamed := map[string]Expiry{}, map[string]bool{} // over all servers
	eachServer(t, func(t *testing.T, version, addr string) {
		w := newEffects(t, version, addr)
		for _, example := range examples {
			name, effect, ok := w.try(t, example)
			if !ok {
				continue
			}
			mu.Lock()
			seen[name] |= effect
			mu.Unlock()
		}
		mu.Lock()
		maps.Copy(streamed, w.names)
		mu.Unlock()
		t.Logf("%d of %d examples apply, %d commands in the stream: %d relative", w.applied, len(examples), w.streamed, w.relative)
		if old := version < "redis-7" && strings.HasPrefix(version, "redis-"); old != (w.relative > 0) {
			t.Errorf("%d commands of the stream have a time to live", w.relative)
		}
	})
	for name, f := range facts {
		if info, _ := Lookup([]byte(name)); info.Keyless() || slices.Contains(unseen, name) {
			continue
		}
		if splits := f.split == SplitPerKey || f.split == SplitEmulate; splits && !streamed[name] && !slices.Contains(renamed, name) {
			t.Errorf("%s: it is in no stream: it need not be split", name)
		}
		if got, ok := seen[name]; !ok || got != f.expiry {
			t.Errorf("%s: what examples show is %09b, the table says %09b", name, got, f.expiry)
		}
	}
}

// effects is a server with a fixture.
type effects struct {
	version           string
	s                 *live.Server
	stream            *live.Stream
	payload           string
	marks             int
	applied, streamed int
	names             map[string]bool // of commands in the stream
	relative          int
}

func newEffects(t *testing.T, version, addr string) *effects {
	t.Helper()
	w := &effects{version: version, s: dial(t, addr), names: map[string]bool{}}
	var err error
	if w.stream, err = live.Follow(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stream.Close)
	w.build(t)
	payload, err := w.s.Do("DUMP", "u")
	if err != nil {
		t.Fatal(err)
	}
	w.payload = payload.(string)
	return w
}

// ownExpiry of the fixture's keys: a day of its own for each.
const dayMs = 24 * 60 * 60 * 1000

func ownExpiry(i int) int64 { return 4102444800000 + int64(i)*dayMs }

func (w *effects) build(t *testing.T) {
	t.Helper()
	all := [][]string{{"FLUSHALL"}}
	for _, f := range fixture {
		all = append(all, strings.Fields(f.command))
	}
	for _, command := range further {
		all = append(all, strings.Fields(command))
	}
	for i, f := range fixture {
		all = append(all, []string{"PEXPIREAT", f.key, strconv.FormatInt(ownExpiry(i), 10)})
	}
	if _, err := w.s.DoAll(all...); err != nil {
		t.Fatal(err)
	}
}

// state of all keys.
type state struct {
	digests []string
	ttls    []int64  // of keys: -2 missing, -1 none
	fields  [3]int64 // of f, g and e of h; zero where the server has no such thing
}

func allKeys() []string {
	var keys []string
	for _, f := range fixture {
		keys = append(keys, f.key)
	}
	return append(keys, missing...)
}

func (w *effects) look(t *testing.T) state {
	t.Helper()
	keys := allKeys()
	all := [][]string{append([]string{"DEBUG", "DIGEST-VALUE"}, keys...), {"HPTTL", "h", "FIELDS", "3", "f", "g", "e"}}
	for _, key := range keys {
		all = append(all, []string{"PTTL", key})
	}
	answers, err := w.s.DoAll(all...)
	if err != nil {
		t.Fatal(err)
	}
	var st state
	digests, _ := answers[0].([]any)
	for i := range keys {
		st.digests = append(st.digests, digests[i].(string))
		st.ttls = append(st.ttls, answers[2+i].(int64))
	}
	fields, _ := answers[1].([]any)
	for i, f := range fields {
		st.fields[i], _ = f.(int64)
	}
	return st
}

// mark returns what the stream brought since the last mark.
func (w *effects) mark(t *testing.T) [][][]byte {
	t.Helper()
	w.marks++
	name := fmt.Sprint("mark", w.marks)
	if _, err := w.s.Do("SET", name, ""); err != nil {
		t.Fatal(err)
	}
	got, err := w.stream.Until(name)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// try runs an example on a new fixture. It is not ok if the server does not know the command or form, lacks the type of
// its keys, or sees nothing to do (old ones leave the destination of GEORADIUS alone when the source is missing).
func (w *effects) try(t *testing.T, example string) (name string, effect Expiry, ok bool) {
	t.Helper()
	now := time.Now().UnixMilli()
	args := strings.Fields(strings.NewReplacer("SOON", strconv.FormatInt(now+300_000, 10), "PAST", strconv.FormatInt(now-5000, 10)).Replace(example))
	if i := slices.Index(args, "PAYLOAD"); i > 0 {
		args[i] = w.payload
	}
	w.build(t)
	before := w.look(t)
	w.mark(t)
	if _, err := w.s.Do(args...); err != nil {
		if !live.IsServerError(err) {
			t.Fatal(err)
		}
		return "", 0, false
	}
	after, sent := w.look(t), w.mark(t)
	raw := make([][]byte, len(args))
	for i, arg := range args {
		raw[i] = []byte(arg)
	}
	info, _ := Resolve(raw)
	changed := changedKeys(before, after)
	if len(changed) == 0 && len(sent) == 0 {
		return "", 0, false
	}
	w.applied++
	own := w.keysOf(t, example, raw)
	for _, key := range changed {
		if !slices.Contains(own, key) {
			t.Errorf("%s: changes %s, the table's keys are %q", example, key, own)
		}
	}
	w.checkStream(t, example, sent, changed)
	effect = effectOf(before, after, own)
	if effect&^info.Expiry != 0 {
		t.Errorf("%s: the expiries show %09b, the table says %09b", example, effect, info.Expiry)
	}
	return info.Name, effect, true
}

func (w *effects) keysOf(t *testing.T, example string, args [][]byte) (keys []string) {
	t.Helper()
	info, ok := Resolve(args)
	if !ok {
		t.Errorf("%s: %q is not in the table", example, args)
		return nil
	}
	idx, err := info.Keys(args, nil)
	if err != nil {
		t.Errorf("%s: keys of %q: %v", example, args, err)
	}
	for _, i := range idx {
		keys = append(keys, string(args[i]))
	}
	return keys
}

// checkStream: what changed is named by what is in the stream, and that is nothing that is never split, and nothing
// relative once it is made absolute.
func (w *effects) checkStream(t *testing.T, example string, sent [][][]byte, changed []string) {
	t.Helper()
	var named []string
	for _, args := range sent {
		w.streamed++
		named = append(named, w.keysOf(t, example, args)...)
		info, ok := Resolve(args)
		if !ok {
			continue // reported
		}
		w.names[info.Name] = true
		if info.Split == SplitNever && info.Name != "PFCOUNT" {
			t.Errorf("%s: %q is in the stream", example, args)
		}
		again, relative := info.Absolute(args, time.Now().UnixMilli())
		if relative {
			w.relative++
		}
		for at, word := range again {
			if name := strings.ToUpper(string(word)); at == 0 && slices.Contains(relativeNames, name) || at > 1 && (name == "EX" || name == "PX") {
				t.Errorf("%s: %q is in the stream, and is left as %q", example, args, again)
			}
		}
	}
	for _, key := range changed {
		if !slices.Contains(named, key) {
			t.Errorf("%s: changes %s, the stream speaks of %q", example, key, named)
		}
	}
}

var relativeNames = []string{"EXPIRE", "PEXPIRE", "SETEX", "PSETEX", "HEXPIRE", "HPEXPIRE"}

func changedKeys(before, after state) (changed []string) {
	for i, key := range allKeys() {
		// an expiry that stays runs down; one that is set comes near
		moved := before.ttls[i]-after.ttls[i] > dayMs/2 || after.ttls[i]-before.ttls[i] > dayMs/2 || (before.ttls[i] < 0) != (after.ttls[i] < 0)
		if before.digests[i] != after.digests[i] || moved || key == "h" && before.fields != after.fields && fieldEffect(before, after) != 0 {
			changed = append(changed, key)
		}
	}
	return changed
}

// effectOf tells what became of the expiries of the keys that changed. A digest does not know of a stream's groups: where
// none has changed the keys are all looked at.
func effectOf(before, after state, own []string) (effect Expiry) {
	changed := changedKeys(before, after)
	made := false
	for i, key := range allKeys() {
		if len(changed) > 0 && !slices.Contains(changed, key) || !slices.Contains(own, key) {
			continue
		}
		if before.ttls[i] == -2 && after.ttls[i] < 0 {
			made = made || after.ttls[i] == -1
			continue
		}
		effect |= keyEffect(i, after.ttls[i])
		if key == "h" && after.ttls[i] != -2 {
			effect |= fieldEffect(before, after)
		}
	}
	if made && effect == 0 {
		return ExpiryKept
	}
	return effect
}

func keyEffect(i int, ttl int64) Expiry {
	fromOwn := time.Now().UnixMilli() + ttl - ownExpiry(i)
	switch {
	case ttl == -2:
		return ExpiryLost
	case ttl == -1:
		return ExpiryCleared
	case i < len(fixture) && -dayMs/2 < fromOwn && fromOwn < dayMs/2:
		return ExpiryKept
	case ttl > 50*365*dayMs: // of another key
		return ExpiryTaken
	}
	return ExpirySet
}

func fieldEffect(before, after state) (effect Expiry) {
	for i, was := range before.fields {
		switch is := after.fields[i]; {
		case is == -2 && was != -2:
			effect |= FieldExpiryLost
		case is == -1 && was > 0:
			effect |= FieldExpiryCleared
		case is > 0 && was-is > dayMs/2 || is > 0 && was == -1:
			effect |= FieldExpirySet
		}
	}
	return effect
}
