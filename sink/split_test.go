package sink

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redriver/redriver/redis/resp"
)

func TestSplitLarge(t *testing.T) {
	const n = 40_000
	for _, c := range []struct {
		front, options string
		pair, whole    bool
	}{
		{front: "SADD k"},
		{front: "rpush k"},
		{front: "LPUSH k"},
		{front: "DEL"},
		{front: "HDEL k"},
		{front: "XDEL k"},
		{front: "HSET k", pair: true},
		{front: "MSET", pair: true},
		{front: "ZADD k", pair: true},
		{front: "ZADD k NX", pair: true, whole: true},
		{front: "GEOADD k", pair: true, whole: true},
		{front: "SINTERSTORE d", whole: true},
	} {
		args := strings.Fields(c.front)
		front := len(args)
		for i := range n {
			if c.pair {
				args = append(args, strconv.Itoa(i))
			}
			args = append(args, fmt.Sprintf("%030d", i))
		}
		wire := resp.AppendCommand(nil, "SET", "a", "1")
		wire = resp.AppendCommand(wire, args...)
		wire = resp.AppendCommand(wire, "INCR", "n")
		u := &unit{commands: wire, blind: true}
		var scratch scratch
		if err := u.inspect(3, 0, nil, &scratch); err != nil {
			t.Fatal(err)
		}
		u.splitLarge(&scratch.args)
		if c.whole {
			if u.count != 3 || string(u.commands) != string(wire) {
				t.Errorf("%s was split", c.front)
			}
			continue
		}
		var got []string
		count := 0
		for rest := u.commands; len(rest) > 0; count++ {
			k, parsed, err := resp.ParseCommand(rest, nil)
			if err != nil || k > 2*splitBytes {
				t.Fatalf("%s: command of %d bytes, %v", c.front, k, err)
			}
			if len(parsed) > 3 {
				for i, word := range strings.Fields(c.front) {
					if string(parsed[i]) != word {
						t.Fatalf("%s: begins with %q", c.front, parsed[:front])
					}
				}
				for _, a := range parsed[front:] {
					got = append(got, string(a))
				}
			}
			rest = rest[k:]
		}
		if count != u.count || count < 10 || strings.Join(got, " ") != strings.Join(args[front:], " ") {
			t.Errorf("%s: %d commands, counted %d, %d of %d elements", c.front, count, u.count, len(got), len(args)-front)
		}
	}
}
