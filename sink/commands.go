package sink

import (
	"errors"
	"strings"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
)

// command is what a command of the log is at the target until the next call: nil for itself. held is the command with its expiry
// times held, empty if it has none. Under the policies UnsupportedSkip and UnsupportedDeadLetter it may be nothing.
func (v *values) command(args [][]byte, held []byte) (*translation, error) {
	if v == nil {
		return nil, nil
	}
	restores := len(args) > 3 && resp.IsWord(args[0], "RESTORE")
	if !restores && !v.target.dialect.isOld() {
		return nil, nil
	}
	if len(held) > 0 {
		var err error
		if _, args, err = resp.ParseCommand(held, v.args[:0]); err != nil {
			return nil, err
		}
		v.args = args
	}
	t := &v.older
	if restores {
		return v.restore(t, args)
	}
	if !v.target.dialect.translate(t, args) {
		return nil, nil
	}
	if t.lacks == "" {
		return t, nil
	}
	key := args[1]
	if resp.IsWord(args[0], "XGROUP") && len(args) > 2 {
		key = args[2]
	}
	err := v.without(lack{t.lacks, strings.ToUpper(string(args[0])), key}, t.keepable)
	if errors.Is(err, errLeftOut) {
		t.reset(t.d)
		return t, nil
	}
	return t, err
}

// restore adapts the payload of a RESTORE that a user ran at the source, as if it came in a snapshot.
func (v *values) restore(t *translation, args [][]byte) (*translation, error) {
	typ, value, version, err := rdb.SplitPayload(args[3])
	if err != nil {
		return nil, nil //nolint:nilerr // the target says what is wrong with it
	}
	t.reset(v.target.dialect)
	e := event.Event{Key: args[1], Type: typ, Value: value, RDBVersion: uint16(version)}
	err = v.adapt(&e)
	if errors.Is(err, errLeftOut) {
		t.addArgs([]byte("UNLINK"), args[1])
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	if e.Type == typ && int(e.RDBVersion) == version {
		return nil, nil
	}
	args[3] = rdb.AppendPayload(nil, e.Type, e.Value, int(e.RDBVersion))
	t.addArgs(args...)
	t.sameKind = true
	return t, nil
}
