package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redriver/redriver/redis/slot"
)

// workload changes keys of a deployment: few keys, many kinds of change, every write visible in what follows.
type workload struct {
	d    *deployment
	rng  *rand.Rand
	tags []string
	// expiries: keys get times; renames and copies are done.
	expiries bool
	// valueBytes is how large values are now and then.
	valueBytes int
	writes     int
}

func newWorkload(d *deployment, rng *rand.Rand) *workload {
	l := &workload{d: d, rng: rng, expiries: true, valueBytes: 2000}
	for i := range 12 {
		l.tags = append(l.tags, strconv.Itoa(i*37+rng.IntN(30)))
	}
	return l
}

func words(s ...string) [][]byte {
	out := make([][]byte, len(s))
	for i := range s {
		out[i] = []byte(s[i])
	}
	return out
}

// burst does n units.
func (l *workload) burst(n int) {
	for range n {
		tag := l.tags[l.rng.IntN(len(l.tags))]
		m := l.d.masterOf(slot.Of([]byte("{" + tag + "}")))
		l.writes++
		switch k := l.rng.IntN(100); {
		case k < 12:
			unit := make([][][]byte, 2+l.rng.IntN(4))
			for i := range unit {
				unit[i] = l.command(tag)
			}
			m.write(unit...)
		default:
			m.write(l.command(tag))
		}
	}
}

// command is one command on keys of a tag.
func (l *workload) command(tag string) [][]byte {
	r := l.rng
	key := func(kind string) string { return fmt.Sprintf("{%s}%s%d", tag, kind, r.IntN(3)) }
	field := func() string { return "f" + strconv.Itoa(r.IntN(8)) }
	text := func() string { return strconv.Itoa(l.writes) }
	switch k := r.IntN(100); {
	case k < 18:
		return words("INCR", key("n"))
	case k < 28:
		return words("APPEND", key("a"), text()+",")
	case k < 34:
		return words("SET", key("s"), text())
	case k < 36:
		return [][]byte{[]byte("SET"), []byte(key("s")), make([]byte, r.IntN(l.valueBytes))}
	case k < 44:
		return words("HSET", key("h"), field(), text())
	case k < 48:
		return words("HDEL", key("h"), field())
	case k < 53:
		return words("HINCRBY", key("h"), "n", "1")
	case k < 61:
		return words("RPUSH", key("l"), text())
	case k < 64:
		return words("LPOP", key("l"))
	case k < 68:
		return words("SADD", key("t"), field())
	case k < 71:
		return words("SREM", key("t"), field())
	case k < 75:
		return words("ZADD", key("z"), text(), field())
	case k < 77:
		return words("ZINCRBY", key("z"), "1", field())
	case k < 79:
		return words("ZREM", key("z"), field())
	case k < 85:
		return words(among(r, "DEL", "UNLINK"), key(among(r, "n", "a", "s", "h", "l", "t", "z")))
	case k < 90 && l.expiries:
		return words("PEXPIREAT", key(among(r, "n", "a", "s", "h", "l")), l.soon())
	case k < 92 && l.expiries:
		return words("SET", key("s"), text(), "PXAT", l.soon())
	case k < 94 && l.expiries:
		return words("PERSIST", key(among(r, "n", "a", "s", "h", "l")))
	case k < 96:
		kind := among(r, "n", "a", "l")
		return words("RENAME", key(kind), key(kind))
	case k < 98:
		kind := among(r, "n", "a", "h")
		return words("COPY", key(kind), key(kind), "REPLACE")
	}
	return words("SETRANGE", key("a"), strconv.Itoa(r.IntN(20)), text())
}

// soon is a time at which a key expires: within the run, or long after it.
func (l *workload) soon() string {
	return strconv.FormatInt(nowMs()+among(l.rng, int64(200), 2000, 10_000, 3_600_000), 10)
}

// run does bursts until the time is over.
func (l *workload) run(lasts time.Duration) {
	end := time.Now().Add(lasts)
	for time.Now().Before(end) {
		l.burst(1 + l.rng.IntN(6))
		time.Sleep(time.Duration(1+l.rng.IntN(60)) * time.Millisecond)
	}
}
