package sink

import (
	"math"
	"strconv"

	"github.com/redriver/redriver/redis/resp"
)

// dialect is what a target understands. The log has what the source replicates: commands and options that an older target
// never heard of, though it can have the same effect by others.
type dialect struct {
	valkey  bool
	version int // major*100 + minor; 0: not known, and then everything is taken to be understood
}

// understands tells whether the target is from that version on. Valkey began with what Redis 7.2 had.
func (d dialect) understands(redis, valkey int) bool {
	switch {
	case d.version == 0:
		return true
	case d.valkey:
		return redis <= 702 || valkey > 0 && d.version >= valkey
	}
	return d.version >= redis
}

// Scripts for what an old target has no single command for. redis.replicate_commands is what lets a script before Redis 5
// read before it writes, and later ones ignore; all of them run inside the unit's transaction.
const (
	scriptKeepTTL = `redis.replicate_commands()
local ttl = redis.call('PTTL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl) end`
	scriptMove = `redis.replicate_commands()
local item = redis.call(ARGV[1], KEYS[1])
if item then redis.call(ARGV[2], KEYS[2], item) end`
	scriptCopy = `redis.replicate_commands()
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then ttl = 0 end
redis.call('RESTORE', KEYS[2], ttl, redis.call('DUMP', KEYS[1]), 'REPLACE')`
	scriptZAdd = `redis.replicate_commands()
for i = 3, #ARGV, 2 do
  local new, old = tonumber(ARGV[i]), redis.call('ZSCORE', KEYS[1], ARGV[i + 1])
  if old then old = tonumber(old) end
  if (not old and ARGV[1] ~= 'XX') or (old and ((ARGV[2] == 'GT' and new > old) or (ARGV[2] == 'LT' and new < old))) then
    redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end`
)

// translation gathers the commands that stand for one of the log.
type translation struct {
	d dialect
	// dst has the commands, n how many.
	dst []byte
	n   int
	// lacks says what the target has not; dst is what can be kept without it.
	lacks    string
	keepable bool
	// sameKind: the command is the same but for its payload.
	sameKind bool
}

// reset begins another translation, in memory that has been used before.
func (t *translation) reset(d dialect) {
	dst := t.dst[:0]
	if cap(dst) > keepScratchBytes {
		dst = nil
	}
	*t = translation{d: d, dst: dst}
}

func (t *translation) add(words ...string) {
	t.dst = resp.AppendCommand(t.dst, words...)
	t.n++
}

func (t *translation) addArgs(args ...[]byte) {
	t.dst = resp.AppendCommandBytes(t.dst, args...)
	t.n++
}

// without notes what the target lacks, and whether the rest of the command may stand without it.
func (t *translation) without(what string, keepable bool) {
	t.lacks, t.keepable = what, keepable
}

// What a target may lack of commands.
const (
	whatStoreCommand  = "command of this name"
	whatTrimByID      = "trimming of streams by ID"
	whatReferences    = "way to remove entries from a stream's groups too"
	whatIdleConsumers = "consumers without pending entries"
	whatFieldKeepTTL  = "way to set hash fields that keep their expiry"
)

// since is from when on a command or a form of it is understood; valkey 0: never so far.
type since struct{ redis, valkey int }

func (d dialect) knows(s since) bool { return d.understands(s.redis, s.valkey) }

var (
	sinceKeepTTL      = since{600, 702}
	since62           = since{602, 702}
	since70           = since{700, 702}
	sinceFieldExpiry  = since{704, 900}
	sinceHSetEx       = since{800, 900}
	sinceHGetDel      = since{800, 901}
	sinceStreamRefs   = since{802, 0}
	sinceBitOps       = since{802, 0}
	sinceMSetEx       = since{804, 901}
	sinceConditionals = since{804, 801} // of SET and DEL on the value; what is in the log has taken effect
)

// isOld tells whether there is a command that the target might not understand.
func (d dialect) isOld() bool {
	return d.version != 0 && (!d.knows(sinceMSetEx) || !d.knows(sinceBitOps))
}

// translate writes into t what stands for a command at an older target. It returns false for a command that the target
// understands as it is. Conditions are left out where they are the trouble: what is in the log took effect at the source.
func (d dialect) translate(t *translation, args [][]byte) bool {
	var upper [24]byte
	if !d.isOld() || len(args) < 2 || len(args[0]) > len(upper) {
		return false
	}
	t.reset(d)
	name := upper[:copy(upper[:], args[0])]
	for i, c := range name {
		if 'a' <= c && c <= 'z' {
			name[i] = c - ('a' - 'A')
		}
	}
	f := translators[string(name)]
	return f != nil && f(t, args)
}

// translators return false for a form that the target understands.
var translators = map[string]func(*translation, [][]byte) bool{
	"SET": (*translation).set, "MSETEX": (*translation).msetEx, "DELEX": (*translation).del, "DELIFEQ": (*translation).del,
	"EXPIREAT": (*translation).expire, "PEXPIREAT": (*translation).expire, "EXPIRE": (*translation).expire, "PEXPIRE": (*translation).expire,
	"LMOVE": (*translation).move, "BLMOVE": (*translation).move,
	"LPOP": (*translation).pop, "RPOP": (*translation).pop,
	"COPY":        (*translation).copy,
	"ZADD":        (*translation).zadd,
	"ZRANGESTORE": (*translation).newStore, "ZDIFFSTORE": (*translation).newStore, "GEOSEARCHSTORE": (*translation).newStore,
	"BITOP":      (*translation).bitop,
	"XADD":       (*translation).xadd,
	"XTRIM":      (*translation).xtrim,
	"XGROUP":     (*translation).xgroup,
	"XSETID":     (*translation).xsetid,
	"XDELEX":     (*translation).xdelex,
	"XACKDEL":    (*translation).xackdel,
	"HSETEX":     (*translation).hsetEx,
	"HGETDEL":    (*translation).hgetDel,
	"HPEXPIREAT": (*translation).fieldExpiry, "HEXPIREAT": (*translation).fieldExpiry, "HPEXPIRE": (*translation).fieldExpiry,
	"HEXPIRE": (*translation).fieldExpiry, "HPERSIST": (*translation).fieldExpiry, "HGETEX": (*translation).fieldExpiry,
}

// set takes SET key value with options.
func (t *translation) set(args [][]byte) bool {
	if len(args) < 4 {
		return false
	}
	key, value := args[1], args[2]
	trouble, keep := false, false
	var at []byte
	for i := 3; i < len(args); i++ {
		switch o := args[i]; {
		case resp.IsWord(o, "PXAT"), resp.IsWord(o, "EXAT"):
			trouble = trouble || !t.d.knows(since62)
			if i++; i == len(args) {
				return false
			}
			at = args[i]
			if resp.IsWord(o, "EXAT") {
				at = millis(at)
			}
		case resp.IsWord(o, "KEEPTTL"):
			trouble, keep = trouble || !t.d.knows(sinceKeepTTL), true
		case resp.IsWord(o, "GET"):
			trouble = trouble || !t.d.knows(since62)
		case resp.IsWord(o, "IFEQ"), resp.IsWord(o, "IFNE"), resp.IsWord(o, "IFDEQ"), resp.IsWord(o, "IFDNE"):
			trouble = trouble || !t.d.knows(sinceConditionals)
			i++
		case resp.IsWord(o, "PX"), resp.IsWord(o, "EX"):
			i++
			if !trouble {
				continue
			}
			return false // relative: as it came
		}
	}
	if !trouble {
		return false
	}
	t.setValue(key, value, keep)
	if at != nil {
		t.add("PEXPIREAT", string(key), string(at))
	}
	return true
}

func (t *translation) setValue(key, value []byte, keepTTL bool) {
	switch {
	case keepTTL && t.d.knows(sinceKeepTTL):
		t.add("SET", string(key), string(value), "KEEPTTL")
	case keepTTL:
		t.add("EVAL", scriptKeepTTL, "1", string(key), string(value))
	default:
		t.addArgs([]byte("SET"), key, value)
	}
}

// millis turns seconds into milliseconds; what is no number stays, and the target says so.
func millis(seconds []byte) []byte {
	n, err := strconv.ParseInt(string(seconds), 10, 64)
	if err != nil || n > math.MaxInt64/1000 || n < math.MinInt64/1000 {
		return seconds
	}
	return strconv.AppendInt(nil, n*1000, 10)
}

// msetEx takes MSETEX n key value ... with options.
func (t *translation) msetEx(args [][]byte) bool {
	if t.d.knows(sinceMSetEx) {
		return false
	}
	n, err := strconv.Atoi(string(args[1]))
	if err != nil || n < 1 || len(args) < 2+2*n {
		return false
	}
	var at []byte
	keep := false
	for i := 2 + 2*n; i < len(args); i++ {
		switch o := args[i]; {
		case resp.IsWord(o, "KEEPTTL"):
			keep = true
		case i+1 < len(args) && (resp.IsWord(o, "PXAT") || resp.IsWord(o, "EXAT")):
			i++
			if at = args[i]; resp.IsWord(o, "EXAT") {
				at = millis(at)
			}
		}
	}
	for i := 2; i < 2+2*n; i += 2 {
		t.setValue(args[i], args[i+1], keep)
		if at != nil {
			t.add("PEXPIREAT", string(args[i]), string(at))
		}
	}
	return true
}

func (t *translation) del(args [][]byte) bool {
	if t.d.knows(sinceConditionals) && !t.d.valkey {
		return false
	}
	t.addArgs([]byte("DEL"), args[1])
	return true
}

// expire leaves out NX, XX, GT and LT.
func (t *translation) expire(args [][]byte) bool {
	if t.d.knows(since70) || len(args) < 4 {
		return false
	}
	t.addArgs(args[:3]...)
	return true
}

// move takes LMOVE and BLMOVE from to LEFT|RIGHT LEFT|RIGHT.
func (t *translation) move(args [][]byte) bool {
	if t.d.knows(since62) || len(args) < 5 {
		return false
	}
	pop, push := "LPOP", "LPUSH"
	if resp.IsWord(args[3], "RIGHT") {
		pop = "RPOP"
	}
	if resp.IsWord(args[4], "RIGHT") {
		push = "RPUSH"
	}
	if pop == "RPOP" && push == "LPUSH" {
		t.addArgs([]byte("RPOPLPUSH"), args[1], args[2])
		return true
	}
	t.add("EVAL", scriptMove, "2", string(args[1]), string(args[2]), pop, push)
	return true
}

// pop takes LPOP and RPOP with a count.
func (t *translation) pop(args [][]byte) bool {
	if t.d.knows(since62) || len(args) != 3 {
		return false
	}
	n, err := strconv.ParseInt(string(args[2]), 10, 64)
	if err != nil || n < 1 {
		return false
	}
	if resp.IsWord(args[0], "LPOP") {
		t.add("LTRIM", string(args[1]), strconv.FormatInt(n, 10), "-1")
	} else {
		t.add("LTRIM", string(args[1]), "0", strconv.FormatInt(-n-1, 10))
	}
	return true
}

func (t *translation) copy(args [][]byte) bool {
	if t.d.knows(since62) || len(args) < 3 {
		return false
	}
	t.add("EVAL", scriptCopy, "2", string(args[1]), string(args[2]))
	return true
}

// zadd takes the conditions GT and LT, which speak of each member by itself.
func (t *translation) zadd(args [][]byte) bool {
	if t.d.knows(since62) {
		return false
	}
	words := []string{"EVAL", scriptZAdd, "1", string(args[1]), "-", ""}
	i := 2
	for ; i < len(args); i++ {
		switch o := args[i]; {
		case resp.IsWord(o, "GT"):
			words[5] = "GT"
		case resp.IsWord(o, "LT"):
			words[5] = "LT"
		case resp.IsWord(o, "XX"):
			words[4] = "XX"
		case !resp.IsWord(o, "NX") && !resp.IsWord(o, "CH"):
			if words[5] == "" {
				return false
			}
			for _, a := range args[i:] {
				words = append(words, string(a))
			}
			t.add(words...)
			return true
		}
	}
	return false
}

func (t *translation) newStore([][]byte) bool {
	if t.d.knows(since62) {
		return false
	}
	t.without(whatStoreCommand, false)
	return true
}

func (t *translation) bitop(args [][]byte) bool {
	for _, old := range []string{"AND", "OR", "XOR", "NOT"} {
		if resp.IsWord(args[1], old) {
			return false
		}
	}
	if t.d.knows(sinceBitOps) {
		return false
	}
	t.without(whatStoreCommand, false)
	return true
}
