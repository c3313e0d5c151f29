package sink

import (
	"strconv"

	"github.com/redriver/redriver/redis/command"
	"github.com/redriver/redriver/redis/resp"
)

// xadd takes XADD key options id field value ...
func (t *translation) xadd(args [][]byte) bool {
	out := [][]byte{args[0], args[1]}
	changed := false
	i := 2
options:
	for ; i < len(args); i++ {
		switch o := args[i]; {
		case resp.IsWord(o, "NOMKSTREAM"):
			if !t.d.knows(since62) {
				changed = true
				continue
			}
		case resp.IsWord(o, "KEEPREF"):
			if !t.d.knows(sinceStreamRefs) {
				changed = true
				continue
			}
		case resp.IsWord(o, "DELREF"), resp.IsWord(o, "ACKED"):
			if !t.d.knows(sinceStreamRefs) {
				changed = true
				t.without(whatReferences, true)
				continue
			}
		case resp.IsWord(o, "IDMPAUTO"), resp.IsWord(o, "IDMP"):
			if !t.d.understands(806, 0) {
				changed = true
				if i++; resp.IsWord(o, "IDMP") {
					i++
				}
				continue
			}
		case resp.IsWord(o, "MINID"):
			if !t.d.knows(since62) {
				t.without(whatTrimByID, false)
				return true
			}
			fallthrough
		case resp.IsWord(o, "MAXLEN"), resp.IsWord(o, "LIMIT"):
			n := 2
			if i+1 < len(args) && (resp.IsWord(args[i+1], "=") || resp.IsWord(args[i+1], "~")) {
				n = 3
			}
			if i+n > len(args) {
				return false
			}
			if resp.IsWord(o, "LIMIT") && !t.d.knows(since62) {
				changed = true
			} else {
				out = append(out, args[i:i+n]...)
			}
			i += n - 1
			continue
		default:
			break options
		}
		out = append(out, args[i])
	}
	if !changed {
		return false
	}
	t.addArgs(append(out, args[i:]...)...)
	return true
}

// xtrim takes XTRIM key MAXLEN|MINID ...
func (t *translation) xtrim(args [][]byte) bool {
	if len(args) > 2 && resp.IsWord(args[2], "MINID") && !t.d.knows(since62) {
		t.without(whatTrimByID, false)
		return true
	}
	if t.d.knows(sinceStreamRefs) {
		return false
	}
	var out [][]byte
	changed := false
	for _, a := range args {
		switch {
		case resp.IsWord(a, "KEEPREF"):
			changed = true
		case resp.IsWord(a, "DELREF"), resp.IsWord(a, "ACKED"):
			changed = true
			t.without(whatReferences, true)
		default:
			out = append(out, a)
		}
	}
	if changed {
		t.addArgs(out...)
	}
	return changed
}

// xgroup leaves out how much a group has read, and consumers that only their creation tells of.
func (t *translation) xgroup(args [][]byte) bool {
	switch {
	case resp.IsWord(args[1], "CREATECONSUMER") && !t.d.knows(since62):
		t.without(whatIdleConsumers, true)
		return true
	case !t.d.knows(since70) && len(args) > 2 && resp.IsWord(args[len(args)-2], "ENTRIESREAD"):
		t.addArgs(args[:len(args)-2]...)
		return true
	}
	return false
}

func (t *translation) xsetid(args [][]byte) bool {
	if t.d.knows(since70) || len(args) < 4 {
		return false
	}
	t.addArgs(args[:3]...)
	return true
}

// xdelex takes XDELEX key [KEEPREF|DELREF|ACKED] IDS n id ...
func (t *translation) xdelex(args [][]byte) bool {
	if t.d.knows(sinceStreamRefs) {
		return false
	}
	ids, ok := t.idsOf(args, 2)
	if ok {
		t.addArgs(append([][]byte{[]byte("XDEL"), args[1]}, ids...)...)
	}
	return ok
}

// xackdel takes XACKDEL key group [KEEPREF|DELREF|ACKED] IDS n id ...
func (t *translation) xackdel(args [][]byte) bool {
	if t.d.knows(sinceStreamRefs) || len(args) < 3 {
		return false
	}
	ids, ok := t.idsOf(args, 3)
	if ok {
		t.addArgs(append([][]byte{[]byte("XACK"), args[1], args[2]}, ids...)...)
		t.addArgs(append([][]byte{[]byte("XDEL"), args[1]}, ids...)...)
	}
	return ok
}

func (t *translation) idsOf(args [][]byte, at int) ([][]byte, bool) {
	for i := at; i+1 < len(args); i++ {
		switch {
		case resp.IsWord(args[i], "DELREF"), resp.IsWord(args[i], "ACKED"):
			t.without(whatReferences, true)
		case resp.IsWord(args[i], "IDS"):
			n, err := strconv.Atoi(string(args[i+1]))
			if err != nil || n < 1 || i+2+n > len(args) {
				return nil, false
			}
			return args[i+2 : i+2+n], true
		}
	}
	return nil, false
}

// hgetDel takes HGETDEL key FIELDS n field ..., which Valkey sends as it came.
func (t *translation) hgetDel(args [][]byte) bool {
	first, end, ok := command.Fields(args, 2, 1)
	if t.d.knows(sinceHGetDel) || !ok {
		return false
	}
	t.addArgs(append([][]byte{[]byte("HDEL"), args[1]}, args[first:end]...)...)
	return true
}

// hsetEx takes HSETEX key options FIELDS n field value ...
func (t *translation) hsetEx(args [][]byte) bool {
	first := optionsFirst(args, 2)
	if t.d.knows(sinceHSetEx) {
		if t.d.understands(806, 0) || sameArgs(first, args) {
			return false
		}
		t.addArgs(first...)
		return true
	}
	args = first
	from, end, ok := command.Fields(args, 2, 2)
	if !ok {
		return false
	}
	set := [][]byte{[]byte("HSET"), args[1]}
	set = append(set, args[from:end]...)
	var at []byte
	for i := 2; i < from-2; i++ {
		switch o := args[i]; {
		case resp.IsWord(o, "KEEPTTL"):
			t.without(whatFieldKeepTTL, true)
		case i+3 < from && (resp.IsWord(o, "PXAT") || resp.IsWord(o, "EXAT")):
			i++
			if at = args[i]; resp.IsWord(o, "EXAT") {
				at = millis(at)
			}
		}
	}
	t.addArgs(set...)
	if at == nil {
		return true
	}
	if !t.d.knows(sinceFieldExpiry) {
		t.without(whatFieldExpiry, true)
		return true
	}
	fields := [][]byte{[]byte("HPEXPIREAT"), args[1], at, []byte("FIELDS"), args[from-1]}
	for i := from; i < end; i += 2 {
		fields = append(fields, args[i])
	}
	t.addArgs(fields...)
	return true
}

// fieldExpiry is what only speaks of the expiry of fields. A form with its options behind the fields is understood by
// Redis 8.6 alone.
func (t *translation) fieldExpiry(args [][]byte) bool {
	if !t.d.knows(sinceFieldExpiry) {
		t.without(whatFieldExpiry, true)
		return true
	}
	first := optionsFirst(args, 1)
	if t.d.understands(806, 0) || sameArgs(first, args) {
		return false
	}
	t.addArgs(first...)
	return true
}

// sameArgs tells whether optionsFirst has left the arguments as they were.
func sameArgs(a, b [][]byte) bool { return &a[0] == &b[0] }
