package command

import "github.com/redriver/redriver/redis/resp"

// rule finds the keys of a command whose specifications cannot, or name an
// argument that is none. Arity is checked before.
type rule func(args [][]byte, dst []int) ([]int, error)

var rules = map[string]rule{
	"GEORADIUS":         geoRadiusKeys,
	"GEORADIUSBYMEMBER": geoRadiusKeys,
	"MIGRATE":           migrateKeys,
	"SORT":              sortKeys,
	"SORT_RO":           firstKey,
	"XREAD":             streamsKeys,
	"XREADGROUP":        streamsKeys,
}

func firstKey(_ [][]byte, dst []int) ([]int, error) { return append(dst, 1), nil }

// sortKeys: SORT key [BY p] [LIMIT o n] [GET p]... [STORE destination]. The last
// STORE counts (sortGetKeys in redis src/db.c); the specification leaves it open.
func sortKeys(args [][]byte, dst []int) ([]int, error) {
	stored := 0
	for at := 2; at < len(args); at++ {
		switch arg := args[at]; {
		case resp.IsWord(arg, "LIMIT"):
			at += 2
		case resp.IsWord(arg, "BY"), resp.IsWord(arg, "GET"):
			at++
		case resp.IsWord(arg, "STORE") && at+1 < len(args):
			at++
			stored = at
		}
	}
	return withStored(dst, stored), nil
}

// geoRadiusKeys: GEORADIUS key x y r unit [options] [STORE k | STOREDIST k], and
// GEORADIUSBYMEMBER with one argument less. The last of several counts
// (georadiusGetKeys in redis src/db.c), the specifications would name all.
func geoRadiusKeys(args [][]byte, dst []int) ([]int, error) {
	stored := 0
	for at := 5; at+1 < len(args); at++ {
		if resp.IsWord(args[at], "STORE") || resp.IsWord(args[at], "STOREDIST") {
			at++
			stored = at
		}
	}
	return withStored(dst, stored), nil
}

func withStored(dst []int, stored int) []int {
	dst = append(dst, 1)
	if stored > 0 {
		dst = append(dst, stored)
	}
	return dst
}

// migrateKeys: MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH p]
// [AUTH2 u p] [KEYS key...]. A password may be "KEYS", and a key too.
func migrateKeys(args [][]byte, dst []int) ([]int, error) {
	for at := 6; at < len(args); at++ {
		switch arg := args[at]; {
		case resp.IsWord(arg, "AUTH"):
			at++
		case resp.IsWord(arg, "AUTH2"):
			at += 2
		case resp.IsWord(arg, "KEYS"):
			if len(args[3]) > 0 || at+1 == len(args) {
				return nil, ErrArgs
			}
			for at++; at < len(args); at++ {
				dst = append(dst, at)
			}
			return dst, nil
		}
	}
	return append(dst, 3), nil
}

// streamsKeys: XREAD [COUNT n] [BLOCK ms] STREAMS key... id..., and XREADGROUP with
// GROUP group consumer, [NOACK] and [CLAIM ms]. A group may be called STREAMS, which a
// search for the word, as the specification has it, would take for the keyword.
func streamsKeys(args [][]byte, dst []int) ([]int, error) {
	for at := 1; at < len(args); at++ {
		switch arg := args[at]; {
		case resp.IsWord(arg, "GROUP"):
			at += 2
		case resp.IsWord(arg, "BLOCK"), resp.IsWord(arg, "COUNT"), resp.IsWord(arg, "CLAIM"):
			at++
		case resp.IsWord(arg, "NOACK"):
		case resp.IsWord(arg, "STREAMS"):
			n := len(args) - at - 1
			if n == 0 || n%2 != 0 {
				return nil, ErrArgs
			}
			for i := range n / 2 {
				dst = append(dst, at+1+i)
			}
			return dst, nil
		default:
			return nil, ErrUnknownKeys // an option newer than this
		}
	}
	return nil, ErrArgs
}
