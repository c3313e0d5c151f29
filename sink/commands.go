package sink

import (
	"errors"
	"strings"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
)

// command is what a command of the log is at the target: false for itself. held is the command with its expiry times held,
// nil if it has none. Under the policies UnsupportedSkip and UnsupportedDeadLetter it may be nothing.
func (v *values) command(args [][]byte, held []byte) (t translation, ok bool, err error) {
	if v == nil {
		return translation{}, false, nil
	}
	restores := len(args) > 3 && resp.IsWord(args[0], "RESTORE")
	if !restores && !v.target.dialect.isOld() {
		return translation{}, false, nil
	}
	if held != nil {
		if _, args, err = resp.ParseCommand(held, nil); err != nil {
			return translation{}, false, err
		}
	}
	if restores {
		return v.restore(args)
	}
	t, ok = v.target.dialect.translate(nil, args)
	if !ok || t.lacks == "" {
		return t, ok, nil
	}
	key := args[1]
	if resp.IsWord(args[0], "XGROUP") && len(args) > 2 {
		key = args[2]
	}
	err = v.without(lack{t.lacks, strings.ToUpper(string(args[0])), key}, t.keepable)
	if errors.Is(err, errLeftOut) {
		return translation{}, true, nil
	}
	return t, true, err
}

// restore adapts the payload of a RESTORE that a user ran at the source, as if it came in a snapshot.
func (v *values) restore(args [][]byte) (t translation, ok bool, err error) {
	typ, value, version, err := rdb.SplitPayload(args[3])
	if err != nil {
		return translation{}, false, nil //nolint:nilerr // the target says what is wrong with it
	}
	e := event.Event{Key: args[1], Type: typ, Value: value, RDBVersion: uint16(version)}
	err = v.adapt(&e)
	if errors.Is(err, errLeftOut) {
		t.addArgs([]byte("UNLINK"), args[1])
		return t, true, nil
	}
	if err != nil {
		return translation{}, false, err
	}
	if e.Type == typ && int(e.RDBVersion) == version {
		return translation{}, false, nil
	}
	args[3] = rdb.AppendPayload(nil, e.Type, e.Value, int(e.RDBVersion))
	t.addArgs(args...)
	t.sameKind = true
	return t, true, nil
}
