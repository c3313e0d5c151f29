package command

import (
	"slices"
	"strconv"

	"github.com/redriver/redriver/redis/resp"
)

// absoluteRule is Absolute for one command. Arity is checked before.
type absoluteRule func(args [][]byte, nowMs int64) ([][]byte, bool)

// absoluteRules has every command that takes a time to live. Before 7.0 servers replicate them as they came, or as SET
// with PX and PEXPIRE (6.2); since then they replicate points in time alone.
var absoluteRules = map[string]absoluteRule{
	"EXPIRE":         absoluteExpire(seconds),
	"GETEX":          absoluteGetEx,
	"HEXPIRE":        absoluteFieldExpire(seconds),
	"HGETEX":         absoluteHash(1),
	"HPEXPIRE":       absoluteFieldExpire(milliseconds),
	"HSETEX":         absoluteHash(2),
	"MSETEX":         absoluteMSetEx,
	"PEXPIRE":        absoluteExpire(milliseconds),
	"PSETEX":         absoluteSetEx(milliseconds),
	"RESTORE":        absoluteRestore,
	"RESTORE-ASKING": absoluteRestore,
	"SET":            absoluteSet,
	"SETEX":          absoluteSetEx(seconds),
}

const (
	milliseconds int64 = 1
	seconds      int64 = 1000
)

// Absolute returns the command that args call with its time to live, if it has one, as the point in time that it means
// for a server whose clock says nowMs (Unix time in milliseconds) when it executes the command: EXPIRE becomes
// PEXPIREAT, SETEX becomes SET with PXAT, RESTORE is given ABSTTL. Everything else stays, conditions too. It reports
// whether it changed anything; args are never written to, and the result shares what did not change.
//
// The command is taken to be one that a server has carried out:
//
//   - A point in time that is not in the future removes what the command names: the result is DEL, or HDEL of the
//     fields. So servers replicate EXPIRE k -1 themselves. With a condition, of which only a server can say which
//     fields meet it, HEXPIRE stays one, with a time that has passed.
//   - Times overflow as they do in Redis 5 and 6.0, by wrapping around, which can bring them into the past; later
//     servers refuse such a time to live.
//   - What no server accepts (a time to live that is no number) stays as it is.
//
// Scripts that are replicated as such are out of reach.
func (i *Info) Absolute(args [][]byte, nowMs int64) ([][]byte, bool) {
	if i.absolute == nil || !i.arityFits(len(args)) {
		return args, false
	}
	return i.absolute(args, nowMs)
}

// point is when something ends that has ttl of that unit left.
func point(ttl []byte, unit, nowMs int64) (atMs int64, ok bool) {
	n, err := strconv.ParseInt(string(ttl), 10, 64)
	return n*unit + nowMs, err == nil
}

func number(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

func removal(name string, keys ...[]byte) ([][]byte, bool) {
	return append([][]byte{[]byte(name)}, keys...), true
}

// absoluteExpire: EXPIRE key ttl [NX | XX | GT | LT].
func absoluteExpire(unit int64) absoluteRule {
	return func(args [][]byte, nowMs int64) ([][]byte, bool) {
		at, ok := point(args[2], unit, nowMs)
		switch {
		case !ok:
			return args, false
		case at <= nowMs:
			return removal("DEL", args[1])
		}
		out := slices.Clone(args)
		out[0], out[2] = []byte("PEXPIREAT"), number(at)
		return out, true
	}
}

// absoluteSetEx: SETEX key ttl value.
func absoluteSetEx(unit int64) absoluteRule {
	return func(args [][]byte, nowMs int64) ([][]byte, bool) {
		at, ok := point(args[2], unit, nowMs)
		switch {
		case !ok:
			return args, false
		case at <= nowMs:
			return removal("DEL", args[1])
		}
		return [][]byte{[]byte("SET"), args[1], args[3], []byte("PXAT"), number(at)}, true
	}
}

// absoluteRestore: RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]; a ttl of 0 is none.
func absoluteRestore(args [][]byte, nowMs int64) ([][]byte, bool) {
	for at := 4; at < len(args); at++ {
		switch {
		case resp.IsWord(args[at], "ABSTTL"):
			return args, false
		case resp.IsWord(args[at], "IDLETIME"), resp.IsWord(args[at], "FREQ"):
			at++
		}
	}
	at, ok := point(args[2], milliseconds, nowMs)
	switch {
	case !ok || at == nowMs:
		return args, false
	case at < nowMs:
		return removal("DEL", args[1])
	}
	out := append(slices.Clone(args), []byte("ABSTTL"))
	out[2] = number(at)
	return out, true
}

// absoluteSet: SET key value [NX | XX | IFEQ value | ...] [GET] [EX ttl | PX ttl | ...], options in any order.
func absoluteSet(args [][]byte, nowMs int64) ([][]byte, bool) {
	out, past := absoluteOptions(args, options{from: 3}, nowMs)
	if past {
		return removal("DEL", args[1])
	}
	return out, !same(out, args)
}

// absoluteGetEx: GETEX key [EX ttl | PX ttl | ...].
func absoluteGetEx(args [][]byte, nowMs int64) ([][]byte, bool) {
	out, past := absoluteOptions(args, options{from: 2}, nowMs)
	if past {
		return removal("DEL", args[1])
	}
	return out, !same(out, args)
}

// absoluteMSetEx: MSETEX numkeys [key value]... [NX | XX] [EX ttl | PX ttl | ...].
func absoluteMSetEx(args [][]byte, nowMs int64) ([][]byte, bool) {
	n, ok := parseCount(args[1], len(args)/2)
	if !ok {
		return args, false
	}
	out, past := absoluteOptions(args, options{from: 2 + 2*n}, nowMs)
	if past && n > 0 && 2+2*n <= len(args) {
		var keys [][]byte
		for k := range n {
			keys = append(keys, args[2+2*k])
		}
		return removal("DEL", keys...)
	}
	return out, !same(out, args)
}

// absoluteHash: HSETEX key [FNX | FXX] [EX ttl | PX ttl | ...] FIELDS n [field value]..., and HGETEX with fields alone.
// Redis 8.6 takes the options behind the fields too, and replicates them so.
func absoluteHash(each int) absoluteRule {
	return func(args [][]byte, nowMs int64) ([][]byte, bool) {
		out, past := absoluteOptions(args, options{from: 2, fieldArgs: each}, nowMs)
		if first, end, ok := Fields(args, 2, each); past && ok {
			return fieldsRemoval(args, first, end, each)
		}
		return out, !same(out, args)
	}
}

// absoluteFieldExpire: HEXPIRE key ttl [NX | XX | GT | LT] FIELDS n field..., in Redis 8.6 with the condition behind the
// fields too.
func absoluteFieldExpire(unit int64) absoluteRule {
	return func(args [][]byte, nowMs int64) ([][]byte, bool) {
		at, ok := point(args[2], unit, nowMs)
		first, end, found := Fields(args, 3, 1)
		if !ok || !found {
			return args, false
		}
		if unconditional := len(args) == 5+end-first; unconditional && at <= nowMs {
			return fieldsRemoval(args, first, end, 1)
		}
		out := slices.Clone(args)
		out[0], out[2] = []byte("HPEXPIREAT"), number(at)
		return out, true
	}
}

// Fields finds FIELDS n, which stands at from or later, and what belongs to it: args[first:end] has each arguments for
// each of n fields.
func Fields(args [][]byte, from, each int) (first, end int, ok bool) {
	for at := from; at+1 < len(args); at++ {
		if !resp.IsWord(args[at], "FIELDS") {
			continue
		}
		first = at + 2
		n, ok := parseCount(args[at+1], (len(args)-first)/each)
		return first, first + n*each, ok && n > 0
	}
	return 0, 0, false
}

func fieldsRemoval(args [][]byte, first, end, each int) ([][]byte, bool) {
	names := [][]byte{args[1]}
	for ; first < end; first += each {
		names = append(names, args[first])
	}
	return removal("HDEL", names...)
}

// options says how the options of a command are to be read.
type options struct {
	from      int // where they begin
	fieldArgs int // how many arguments each field behind FIELDS n has; 0: the command has no fields
}

// absoluteOptions returns args with EX and PX among the options made PXAT, or args themselves if there is neither, and
// whether that time has passed. Of several the last one counts (SET k v EX 1 EX 2 is accepted by all servers).
func absoluteOptions(args [][]byte, o options, nowMs int64) (out [][]byte, past bool) {
	out = args
	for i := o.from; i < len(args); i++ {
		unit := int64(0)
		switch word := args[i]; {
		case resp.IsWord(word, "EX"):
			unit = seconds
		case resp.IsWord(word, "PX"):
			unit = milliseconds
		case resp.IsWord(word, "FIELDS") && o.fieldArgs > 0:
			if _, end, ok := Fields(args, i, o.fieldArgs); ok {
				i = end - 1
			}
		case resp.IsWord(word, "EXAT"), resp.IsWord(word, "PXAT"),
			resp.IsWord(word, "IFEQ"), resp.IsWord(word, "IFNE"), resp.IsWord(word, "IFDEQ"), resp.IsWord(word, "IFDNE"):
			i++
		}
		if unit == 0 || i+1 >= len(args) {
			continue
		}
		at, ok := point(args[i+1], unit, nowMs)
		if !ok {
			return args, false
		}
		if same(out, args) {
			out = slices.Clone(args)
		}
		out[i], out[i+1] = []byte("PXAT"), number(at)
		past = at <= nowMs
		i++
	}
	return out, past
}

// same reports whether both are one slice, not a copy of it.
func same(a, b [][]byte) bool { return len(a) == len(b) && &a[0] == &b[0] }
