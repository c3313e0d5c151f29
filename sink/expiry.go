package sink

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/command"
	"github.com/redriver/redriver/redis/resp"
)

// A replica never expires a key by its own clock: it waits for its master's DEL. A target does, and then what the source
// still does to the key (PERSIST, RENAME, another PEXPIRE, HSET) meets nothing: the data is lost, or recreated in part,
// as soon as the sink lags behind for longer than the key has to live. So every expiry time is written later by a hold,
// one constant for the sink's life: the source's DEL removes the key on time, and the time that is exact is the stored
// one less the hold. Finish sets it in the end.

// OverduePolicy says what happens with a write that is older than the hold when it arrives.
type OverduePolicy string

// The policies for overdue writes.
const (
	// OverdueRefuse stops before the first one. It is the default.
	OverdueRefuse OverduePolicy = "refuse"
	// OverdueAccept goes on, with a warning: a comparison finds what was lost, and can repair it.
	OverdueAccept OverduePolicy = "accept"
)

// holdMargin is for clocks that differ: those of source, sink and target.
const holdMargin = time.Hour

// overdue decides about an event that is older than the hold. A key that the target's clock has removed had expired at the
// source a hold ago, unless something was done to it before: what may meet a missing key is older than that, and nothing
// else is.
func (in *intake) overdue(e *event.Event, offset int64) error {
	late := time.Duration(in.nowMs-e.CapturedMs) * time.Millisecond
	hold := time.Duration(in.limits.holdMs) * time.Millisecond
	if hold == 0 || late <= hold-holdMargin {
		return nil
	}
	err := &OverdueError{Partition: in.partition, Offset: offset, Late: late, Hold: hold}
	if in.accept == nil {
		return err
	}
	in.accept(err)
	return nil
}

// holdExpiry returns the command with its expiry times later by holdMs, appended to dst, and true; or false if it has none.
// Conditions (NX XX GT LT) are left out: what is in the log took effect at the source.
func holdExpiry(dst []byte, args [][]byte, holdMs int64) ([]byte, bool) {
	if holdMs == 0 || len(args) < 3 {
		return dst, false
	}
	switch name := args[0]; {
	case resp.IsWord(name, "PEXPIREAT"), resp.IsWord(name, "PEXPIRE"):
		return holdKey(dst, args, string(name), 1, holdMs)
	case resp.IsWord(name, "EXPIREAT"):
		return holdKey(dst, args, "PEXPIREAT", 1000, holdMs)
	case resp.IsWord(name, "EXPIRE"):
		return holdKey(dst, args, "PEXPIRE", 1000, holdMs)
	case resp.IsWord(name, "HPEXPIREAT"), resp.IsWord(name, "HPEXPIRE"):
		return holdFields(dst, args, string(name), 1, holdMs)
	case resp.IsWord(name, "HEXPIREAT"):
		return holdFields(dst, args, "HPEXPIREAT", 1000, holdMs)
	case resp.IsWord(name, "HEXPIRE"):
		return holdFields(dst, args, "HPEXPIRE", 1000, holdMs)
	case resp.IsWord(name, "SETEX"), resp.IsWord(name, "PSETEX"):
		unit := int64(1)
		if len(name) == len("SETEX") {
			unit = 1000
		}
		ms, ok := later(args[2], unit, holdMs)
		if !ok || len(args) != 4 {
			return dst, false
		}
		dst = resp.AppendArrayHeader(dst, 4)
		dst = resp.AppendBulkString(dst, "PSETEX")
		dst = resp.AppendBulk(dst, args[1])
		dst = resp.AppendBulkInt(dst, ms)
		return resp.AppendBulk(dst, args[3]), true
	case resp.IsWord(name, "SET"):
		return holdOption(dst, args, 3, holdMs)
	case resp.IsWord(name, "GETEX"):
		return holdOption(dst, args, 2, holdMs)
	case resp.IsWord(name, "HSETEX"):
		return holdOption(dst, optionsFirst(args, 2), 2, holdMs)
	case resp.IsWord(name, "HGETEX"):
		return holdOption(dst, optionsFirst(args, 1), 2, holdMs)
	case resp.IsWord(name, "MSETEX"):
		n, err := strconv.ParseUint(string(args[1]), 10, 31)
		if err != nil {
			return dst, false
		}
		return holdOption(dst, args, 2+2*int(n), holdMs)
	case resp.IsWord(name, "RESTORE"):
		ms, ok := later(args[2], 1, holdMs)
		if !ok || string(args[2]) == "0" {
			return dst, false
		}
		return replaced(dst, args, 2, "", ms), true
	}
	return dst, false
}

// later is the time or duration in b, of that many milliseconds each, held. A time too far away to be held stays.
func later(b []byte, unit, holdMs int64) (int64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n > (math.MaxInt64-holdMs)/unit {
		return 0, false
	}
	return n*unit + holdMs, true
}

func holdKey(dst []byte, args [][]byte, name string, unit, holdMs int64) ([]byte, bool) {
	ms, ok := later(args[2], unit, holdMs)
	if !ok {
		return dst, false
	}
	dst = resp.AppendArrayHeader(dst, 3)
	dst = resp.AppendBulkString(dst, name)
	dst = resp.AppendBulk(dst, args[1])
	return resp.AppendBulkInt(dst, ms), true
}

// holdFields leaves out the conditions, which may stand before the fields or, from Redis 8.6 on, behind them.
func holdFields(dst []byte, args [][]byte, name string, unit, holdMs int64) ([]byte, bool) {
	ms, ok := later(args[2], unit, holdMs)
	first, end, found := command.Fields(args, 3, 1)
	if !ok || !found {
		return dst, false
	}
	dst = resp.AppendArrayHeader(dst, 5+end-first)
	dst = resp.AppendBulkString(dst, name)
	dst = resp.AppendBulk(dst, args[1])
	dst = resp.AppendBulkInt(dst, ms)
	for _, a := range args[first-2 : end] {
		dst = resp.AppendBulk(dst, a)
	}
	return dst, true
}

// optionsFirst puts options that stand behind the fields, as Redis 8.6 takes and replicates them, before them, where
// every version understands them.
func optionsFirst(args [][]byte, words int) [][]byte {
	first, end, ok := command.Fields(args, 2, words)
	if !ok || end == len(args) {
		return args
	}
	return slices.Concat(args[:first-2], args[end:], args[first-2:end])
}

var expiryOptions = [...]struct {
	word, held string
	unit       int64
}{{"PXAT", "PXAT", 1}, {"EXAT", "PXAT", 1000}, {"PX", "PX", 1}, {"EX", "PX", 1000}}

// holdOption holds the time behind PXAT, EXAT, PX or EX among the options that begin at from. Fields of a hash, which may
// be called so too, come behind the word FIELDS.
func holdOption(dst []byte, args [][]byte, from int, holdMs int64) ([]byte, bool) {
	for i := from; i+1 < len(args) && !resp.IsWord(args[i], "FIELDS"); i++ {
		for _, o := range expiryOptions {
			if !resp.IsWord(args[i], o.word) {
				continue
			}
			ms, ok := later(args[i+1], o.unit, holdMs)
			if !ok {
				return dst, false
			}
			return replaced(dst, args, i+1, o.held, ms), true
		}
	}
	return dst, false
}

// replaced appends the command with the number at i replaced, and the word before it if one is given.
func replaced(dst []byte, args [][]byte, i int, word string, ms int64) []byte {
	dst = resp.AppendArrayHeader(dst, len(args))
	for n, a := range args {
		switch {
		case n == i:
			dst = resp.AppendBulkInt(dst, ms)
		case n == i-1 && word != "":
			dst = resp.AppendBulkString(dst, word)
		default:
			dst = resp.AppendBulk(dst, a)
		}
	}
	return dst
}
