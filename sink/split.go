package sink

import (
	"github.com/redriver/redriver/redis/resp"
)

const (
	// splitAboveBytes is from when on a command of many elements is written as several.
	splitAboveBytes = 1 << 20
	// splitBytes and splitElements bound each of those.
	splitBytes    = 64 << 10
	splitElements = 500
)

// splittable tells how a command can be written as several that do the same together, in one transaction: how many arguments
// stand in front, the name counted, and of how many each element is. Only plain forms: a condition or an option speaks of the
// whole. args are the first of n.
func splittable(args [][]byte, n int) (front, each int, ok bool) {
	switch name := args[0]; {
	case resp.IsWord(name, "DEL"), resp.IsWord(name, "UNLINK"):
		return 1, 1, true
	case resp.IsWord(name, "MSET"):
		return 1, 2, n%2 == 1
	case resp.IsWord(name, "SADD"), resp.IsWord(name, "SREM"), resp.IsWord(name, "ZREM"), resp.IsWord(name, "HDEL"), resp.IsWord(name, "PFADD"),
		resp.IsWord(name, "RPUSH"), resp.IsWord(name, "LPUSH"), resp.IsWord(name, "RPUSHX"), resp.IsWord(name, "LPUSHX"), resp.IsWord(name, "XDEL"):
		return 2, 1, n > 2
	case resp.IsWord(name, "HSET"), resp.IsWord(name, "HMSET"):
		return 2, 2, n > 2 && n%2 == 0
	case resp.IsWord(name, "ZADD"):
		return 2, 2, isPlainZAdd(args, n)
	}
	return 0, 0, false
}

// splitLarge writes large commands of a unit as several, so that none trips a limit of the target: on how long a query is, or
// of how many arguments (a million before Redis 7.0).
func (u *unit) splitLarge(scratch *[][]byte) {
	if len(u.commands) <= splitAboveBytes {
		return
	}
	var out []byte
	count, changed := 0, false
	for rest := u.commands; len(rest) > 0; {
		n, args, err := resp.ParseCommand(rest, (*scratch)[:0])
		if err != nil {
			return // inspect has parsed them before
		}
		*scratch = args
		front, each, ok := splittable(args, len(args))
		if n <= splitAboveBytes || !ok {
			out = append(out, rest[:n]...)
			count++
		} else {
			split, k := appendSplit(out, args, front, each)
			out, count = split, count+k
			changed = true
		}
		rest = rest[n:]
	}
	if changed {
		u.commands, u.count = out, count
	}
}

func appendSplit(dst []byte, args [][]byte, front, each int) ([]byte, int) {
	head, rest := args[:front], args[front:]
	count := 0
	for len(rest) > 0 {
		n, size := 0, 0
		for n < len(rest) && n < splitElements*each && (n == 0 || size < splitBytes) {
			for _, a := range rest[n : n+each] {
				size += len(a)
			}
			n += each
		}
		dst = resp.AppendArrayHeader(dst, front+n)
		for _, a := range head {
			dst = resp.AppendBulk(dst, a)
		}
		for _, a := range rest[:n] {
			dst = resp.AppendBulk(dst, a)
		}
		rest = rest[n:]
		count++
	}
	return dst, count
}
