package sink

import (
	"strconv"

	"github.com/redriver/redriver/redis/resp"
)

// isBlind reports whether a command is on the allow-list of writes that converge: a run of such commands, replayed in
// order from any earlier point on any later state, ends in the state it ended in the first time. It needs no checkpoint.
//
// The list is what TestBlind proves on a real server, no more. Not on it, although they look harmless:
//
//   - PEXPIREAT, PERSIST, SET KEEPTTL and whatever else touches only a key's expiry: a key vanishes, expiry and all, when
//     it loses its last element, and no command tells. HSET k f; PEXPIREAT k T; HDEL k f; HSET k g replayed on its own
//     result ends with T.
//   - HDEL, SREM, ZREM: the same vanishing takes along an expiry that was set before the run. k has fields f and g and
//     expires at T; HDEL k f; HSET k f; HDEL k g replayed on its own result loses T.
//   - relative expiry times, which count from when they are replayed.
//   - conditions (NX XX GT LT), increments, and all that reads before it writes.
func isBlind(args [][]byte) bool {
	if len(args) < 2 {
		return false
	}
	var upper [16]byte
	if len(args[0]) > len(upper) {
		return false
	}
	name := upper[:copy(upper[:], args[0])]
	for i, c := range name {
		if 'a' <= c && c <= 'z' {
			name[i] = c - ('a' - 'A')
		}
	}
	switch string(name) {
	case "DEL", "UNLINK", "HSET", "HMSET", "SADD", "MSET", "SETRANGE", "SETBIT", "LSET":
		return true
	case "SET":
		return isBlindSet(args)
	case "ZADD":
		return isPlainZAdd(args, len(args))
	case "RESTORE":
		return isBlindRestore(args)
	}
	return false
}

// isBlindSet: SET key value, or with an absolute expiry time and nothing else.
func isBlindSet(args [][]byte) bool {
	switch len(args) {
	case 3:
		return true
	case 5:
		return resp.IsWord(args[3], "PXAT") || resp.IsWord(args[3], "EXAT")
	}
	return false
}

// isPlainZAdd: ZADD key score member ..., so that the third argument is a number and no option. args are the first of n.
func isPlainZAdd(args [][]byte, n int) bool {
	if len(args) < 3 || n < 4 || n%2 != 0 {
		return false
	}
	_, err := strconv.ParseFloat(string(args[2]), 64)
	return err == nil
}

// isBlindRestore: with REPLACE, and without an expiry or with an absolute one.
func isBlindRestore(args [][]byte) bool {
	if len(args) < 5 {
		return false
	}
	replace, absolute := false, string(args[2]) == "0"
	for i := 4; i < len(args); i++ {
		switch {
		case resp.IsWord(args[i], "REPLACE"):
			replace = true
		case resp.IsWord(args[i], "ABSTTL"):
			absolute = true
		case resp.IsWord(args[i], "IDLETIME"), resp.IsWord(args[i], "FREQ"):
			i++
		default:
			return false
		}
	}
	return replace && absolute
}
