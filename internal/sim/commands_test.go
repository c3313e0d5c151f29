package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
)

// A command of keys: it answers, and tells whether it changed anything.
type keyCommand struct {
	// arity counts the name; negative is the least.
	arity int
	write bool
	// keys are the arguments that are keys: first, last (negative counts from the end), step.
	first, last, step int
	run               func(e *engine, args [][]byte) (reply []byte, changed bool, err error)
}

var keyCommands = map[string]keyCommand{
	"GET": {2, false, 1, 1, 1, func(e *engine, a [][]byte) ([]byte, bool, error) {
		v, err := e.at(string(a[1]), rdb.ValueString, false)
		if err != nil || v == nil {
			return resp.AppendNull(nil), false, err
		}
		return resp.AppendBulk(nil, v.str), false, nil
	}},
	"DUMP":        {2, false, 1, 1, 1, dump},
	"MGET":        {-2, false, 1, -1, 1, mget},
	"EXISTS":      {-2, false, 1, -1, 1, exists},
	"TYPE":        {2, false, 1, 1, 1, typeOf},
	"PTTL":        {2, false, 1, 1, 1, pttl},
	"PEXPIRETIME": {2, false, 1, 1, 1, pexpiretime},
	"SET":         {-3, true, 1, 1, 1, set},
	"SETRANGE":    {4, true, 1, 1, 1, setrange},
	"APPEND": {3, true, 1, 1, 1, func(e *engine, a [][]byte) ([]byte, bool, error) {
		v, err := e.at(string(a[1]), rdb.ValueString, true)
		if err != nil {
			return nil, false, err
		}
		v.str = append(v.str, a[2]...)
		return resp.AppendInt(nil, int64(len(v.str))), true, nil
	}},
	"INCR":      {2, true, 1, 1, 1, func(e *engine, a [][]byte) ([]byte, bool, error) { return incr(e, a[1], 1) }},
	"INCRBY":    {3, true, 1, 1, 1, incrby},
	"DEL":       {-2, true, 1, -1, 1, del},
	"UNLINK":    {-2, true, 1, -1, 1, del},
	"PEXPIREAT": {-3, true, 1, 1, 1, pexpireat},
	"PERSIST": {2, true, 1, 1, 1, func(e *engine, a [][]byte) ([]byte, bool, error) {
		v := e.get(string(a[1]))
		if v == nil || v.expireAt == 0 {
			return resp.AppendInt(nil, 0), false, nil
		}
		v.expireAt = 0
		return resp.AppendInt(nil, 1), true, nil
	}},
	"RENAME":  {3, true, 1, 2, 1, rename},
	"COPY":    {-3, true, 1, 2, 1, copyKey},
	"RESTORE": {-4, true, 1, 1, 1, restore},
	"LPUSH":   {-3, true, 1, 1, 1, push},
	"RPUSH":   {-3, true, 1, 1, 1, push},
	"LPOP":    {2, true, 1, 1, 1, pop},
	"RPOP":    {2, true, 1, 1, 1, pop},
	"SADD": {-3, true, 1, 1, 1, func(e *engine, a [][]byte) ([]byte, bool, error) {
		v, err := e.at(string(a[1]), rdb.ValueSet, true)
		return count(a[2:], err, func(m string) bool {
			if v.set[m] {
				return false
			}
			v.set[m] = true
			return true
		})
	}},
	"SREM": {-3, true, 1, 1, 1, func(e *engine, a [][]byte) ([]byte, bool, error) {
		return remove(e, a, rdb.ValueSet, func(v *value, m string) bool { return drop(v.set, m) })
	}},
	"HSET":    {-4, true, 1, 1, 1, hset},
	"HINCRBY": {4, true, 1, 1, 1, hincrby},
	"HDEL": {-3, true, 1, 1, 1, func(e *engine, a [][]byte) ([]byte, bool, error) {
		return remove(e, a, rdb.ValueHash, func(v *value, m string) bool { return drop(v.hash, m) })
	}},
	"ZADD":    {-4, true, 1, 1, 1, zadd},
	"ZINCRBY": {4, true, 1, 1, 1, zincrby},
	"ZREM": {-3, true, 1, 1, 1, func(e *engine, a [][]byte) ([]byte, bool, error) {
		return remove(e, a, rdb.ValueZset, func(v *value, m string) bool { return drop(v.zset, m) })
	}},
}

// remove takes members out of a value of a kind, by the command's first key.
func remove(e *engine, a [][]byte, kind rdb.ValueKind, drop func(v *value, member string) bool) ([]byte, bool, error) {
	defer e.tidy(string(a[1]))
	v, err := e.at(string(a[1]), kind, false)
	return count(a[2:], err, func(m string) bool { return v != nil && drop(v, m) })
}

// drop tells whether the key was in the map.
func drop[V any](m map[string]V, key string) bool {
	_, ok := m[key]
	delete(m, key)
	return ok
}

// count answers for how many arguments do returned true.
func count(args [][]byte, err error, do func(string) bool) ([]byte, bool, error) {
	if err != nil {
		return nil, false, err
	}
	n := int64(0)
	for _, a := range args {
		if do(string(a)) {
			n++
		}
	}
	return resp.AppendInt(nil, n), n > 0, nil
}

// do carries a command out on the keys. ok is false for a command that it does not know.
func (e *engine) do(args [][]byte) (reply []byte, changed, ok bool) {
	c, ok := keyCommands[strings.ToUpper(string(args[0]))]
	if !ok {
		return nil, false, false
	}
	if c.arity > 0 && len(args) != c.arity || len(args) < -c.arity {
		return resp.AppendError(nil, fmt.Sprintf("ERR wrong number of arguments for '%s' command", args[0])), false, true
	}
	reply, changed, err := c.run(e, args)
	if err != nil {
		return resp.AppendError(nil, err.Error()), false, true
	}
	return reply, changed && c.write, true
}

// keysOf are the keys that a command names.
func keysOf(args [][]byte) (keys [][]byte) {
	c, ok := keyCommands[strings.ToUpper(string(args[0]))]
	if !ok {
		return nil
	}
	last := c.last
	if last < 0 {
		last += len(args)
	}
	for i := c.first; i <= last && i < len(args); i += c.step {
		keys = append(keys, args[i])
	}
	return keys
}

func mget(e *engine, a [][]byte) ([]byte, bool, error) {
	out := resp.AppendArrayHeader(nil, len(a)-1)
	for _, k := range a[1:] {
		if v := e.get(string(k)); v != nil && v.kind == rdb.ValueString {
			out = resp.AppendBulk(out, v.str)
		} else {
			out = resp.AppendNull(out)
		}
	}
	return out, false, nil
}

func exists(e *engine, a [][]byte) ([]byte, bool, error) {
	return count(a[1:], nil, func(k string) bool { return e.get(k) != nil })
}

func typeOf(e *engine, a [][]byte) ([]byte, bool, error) {
	v := e.get(string(a[1]))
	if v == nil {
		return resp.AppendSimple(nil, "none"), false, nil
	}
	return resp.AppendSimple(nil, v.kind.String()), false, nil
}

func pttl(e *engine, a [][]byte) ([]byte, bool, error) {
	v := e.get(string(a[1]))
	switch {
	case v == nil:
		return resp.AppendInt(nil, -2), false, nil
	case v.expireAt == 0:
		return resp.AppendInt(nil, -1), false, nil
	}
	return resp.AppendInt(nil, v.expireAt-nowMs()), false, nil
}

func pexpiretime(e *engine, a [][]byte) ([]byte, bool, error) {
	v := e.get(string(a[1]))
	switch {
	case v == nil:
		return resp.AppendInt(nil, -2), false, nil
	case v.expireAt == 0:
		return resp.AppendInt(nil, -1), false, nil
	}
	return resp.AppendInt(nil, v.expireAt), false, nil
}

func set(e *engine, a [][]byte) ([]byte, bool, error) {
	key, v := string(a[1]), &value{kind: rdb.ValueString, str: slices.Clone(a[2])}
	old := e.get(key)
	for i := 3; i < len(a); i++ {
		switch {
		case isWord(a[i], "NX") && old != nil, isWord(a[i], "XX") && old == nil:
			return resp.AppendNull(nil), false, nil
		case isWord(a[i], "NX"), isWord(a[i], "XX"):
		case isWord(a[i], "KEEPTTL"):
			if old != nil {
				v.expireAt = old.expireAt
			}
		case isWord(a[i], "PXAT") && i+1 < len(a):
			i++
			at, err := parseInt(a[i])
			if err != nil {
				return nil, false, err
			}
			v.expireAt = at
		default:
			return nil, false, errSyntax
		}
	}
	e.keys[key] = v
	return resp.AppendSimple(nil, "OK"), true, nil
}

func setrange(e *engine, a [][]byte) ([]byte, bool, error) {
	at, err := parseInt(a[2])
	if err != nil {
		return nil, false, err
	}
	v, err := e.at(string(a[1]), rdb.ValueString, true)
	if err != nil {
		return nil, false, err
	}
	if end := int(at) + len(a[3]); end > len(v.str) {
		v.str = append(v.str, make([]byte, end-len(v.str))...)
	}
	copy(v.str[at:], a[3])
	return resp.AppendInt(nil, int64(len(v.str))), true, nil
}

func incr(e *engine, key []byte, by int64) ([]byte, bool, error) {
	v, err := e.at(string(key), rdb.ValueString, false)
	if err != nil {
		return nil, false, err
	}
	n := int64(0)
	if v != nil {
		if n, err = parseInt(v.str); err != nil {
			return nil, false, err
		}
	} else if v, err = e.at(string(key), rdb.ValueString, true); err != nil {
		return nil, false, err
	}
	v.str = strconv.AppendInt(nil, n+by, 10)
	return resp.AppendInt(nil, n+by), true, nil
}

func incrby(e *engine, a [][]byte) ([]byte, bool, error) {
	by, err := parseInt(a[2])
	if err != nil {
		return nil, false, err
	}
	return incr(e, a[1], by)
}

func del(e *engine, a [][]byte) ([]byte, bool, error) {
	return count(a[1:], nil, func(k string) bool {
		v := e.get(k)
		delete(e.keys, k)
		return v != nil
	})
}

func pexpireat(e *engine, a [][]byte) ([]byte, bool, error) {
	at, err := parseInt(a[2])
	if err != nil || len(a) > 3 {
		return nil, false, errSyntax
	}
	v := e.get(string(a[1]))
	if v == nil {
		return resp.AppendInt(nil, 0), false, nil
	}
	if at <= nowMs() && !e.passive {
		delete(e.keys, string(a[1]))
	} else {
		v.expireAt = at
	}
	return resp.AppendInt(nil, 1), true, nil
}

func rename(e *engine, a [][]byte) ([]byte, bool, error) {
	v := e.get(string(a[1]))
	if v == nil {
		return nil, false, errNoKey
	}
	delete(e.keys, string(a[1]))
	e.keys[string(a[2])] = v
	return resp.AppendSimple(nil, "OK"), true, nil
}

func copyKey(e *engine, a [][]byte) ([]byte, bool, error) {
	replace := len(a) == 4 && isWord(a[3], "REPLACE")
	if len(a) > 3 && !replace {
		return nil, false, errSyntax
	}
	v := e.get(string(a[1]))
	if v == nil || e.get(string(a[2])) != nil && !replace {
		return resp.AppendInt(nil, 0), false, nil
	}
	e.keys[string(a[2])] = v.clone()
	return resp.AppendInt(nil, 1), true, nil
}

func dump(e *engine, a [][]byte) ([]byte, bool, error) {
	v := e.get(string(a[1]))
	if v == nil {
		return resp.AppendNull(nil), false, nil
	}
	typ, b := v.encode(new(rdb.Encoder))
	return resp.AppendBulk(nil, rdb.AppendPayload(nil, typ, b, rdbVersion)), false, nil
}

func restore(e *engine, a [][]byte) ([]byte, bool, error) {
	ttl, err := parseInt(a[2])
	if err != nil {
		return nil, false, err
	}
	replace, absolute := false, false
	for i := 4; i < len(a); i++ {
		switch {
		case isWord(a[i], "REPLACE"):
			replace = true
		case isWord(a[i], "ABSTTL"):
			absolute = true
		case isWord(a[i], "IDLETIME"), isWord(a[i], "FREQ"):
			i++
		default:
			return nil, false, errSyntax
		}
	}
	if !replace && e.get(string(a[1])) != nil {
		return nil, false, errBusyKey
	}
	typ, b, version, err := rdb.SplitPayload(a[3])
	if err != nil || version > rdbVersion {
		return nil, false, fmt.Errorf("ERR DUMP payload version or checksum are wrong")
	}
	v, err := decodeValue(typ, b, version)
	if err != nil {
		return nil, false, fmt.Errorf("ERR Bad data format")
	}
	if v.expireAt = ttl; ttl != 0 && !absolute {
		v.expireAt += nowMs()
	}
	e.keys[string(a[1])] = v
	if v.expireAt != 0 && v.expireAt <= nowMs() && !e.passive {
		delete(e.keys, string(a[1]))
	}
	return resp.AppendSimple(nil, "OK"), true, nil
}
