package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// values makes of a snapshot's values what brings them to one target: the payload as it is where the target knows its type,
// a payload of the same value in an encoding that the target knows otherwise. Both are a single RESTORE, so that a value is
// replaced at once, and neither is ever guarded.
//
// A payload of a hash whose fields expire holds exact times. It is made anew with held ones even where the target knows the
// type: a field would expire at a sink that lags before what the source still does to it has arrived.
//
// It belongs to the goroutine of its partition. The nil *values passes payloads as they are.
type values struct {
	sink   string
	holdMs int64
	target target
	policy UnsupportedPolicy
	// rebuildBytes: values above it are rebuilt in pieces, see rebuild.go.
	rebuildBytes int
	// restoreBytes: collections above it are never loaded at once, see load.go.
	restoreBytes int
	// note is told of what is left out under the policy.
	note func(what string, key []byte)
	// probe asks the target whether it takes a payload in a slot.
	probe func(s slot.Slot, payload []byte) (bool, error)
	// staged asks the target whether a staging key is there.
	staged func(s slot.Slot, stage []byte) (bool, error)
	// dead is what the event at hand lacked first, under UnsupportedDeadLetter.
	dead *lack

	modules map[uint64]bool // module types that the target is known to take or not to take
	room    room
	digits  [20]byte
	older   translation // of the command at hand
	args    [][]byte
	dec     *rdb.Decoder
	enc     rdb.Encoder
}

// errLeftOut tells that a value is not carried, under the policies UnsupportedSkip and UnsupportedDeadLetter.
var errLeftOut = errors.New("value is left out")

// UnsupportedError tells that the target has no room for a value, and that the configuration says to stop there.
type UnsupportedError struct {
	Partition int32
	Offset    int64
	Key       []byte
	// What the target has not.
	What   string
	Target string
	Policy UnsupportedPolicy
}

func (e *UnsupportedError) Error() string {
	hint := "set target.unsupported to skip, to dead-letter, or to keep what can be kept without it, or upgrade the target"
	if e.Policy == UnsupportedKeep {
		hint = "nothing of the value could be kept without it: set target.unsupported to skip or dead-letter, or upgrade the target"
	}
	return fmt.Sprintf("apply value of key %s from partition %d offset %d: the target (%s) has no %s (%s)",
		shownKey(e.Key), e.Partition, e.Offset, e.Target, e.What, hint)
}

// Class is Stop.
func (e *UnsupportedError) Class() Class { return Stop }

// probeError is an error of the target that was asked about a value, not of the value.
type probeError struct{ error }

func (e *probeError) Unwrap() error { return e.error }

func shownKey(key []byte) string {
	if len(key) > shownKeyBytes {
		return strconv.QuoteToASCII(string(key[:shownKeyBytes])) + "..."
	}
	return strconv.QuoteToASCII(string(key))
}

// What a target may lack, in words of messages.
const (
	whatFieldExpiry = "expiry times of hash fields"
	whatProducers   = "memory of the messages that a stream's producers have sent"
)

// without decides about something that the target lacks: nil to go on without it, errLeftOut to leave out the value.
func (v *values) without(l lack, keepable bool) error {
	switch {
	case v.policy == UnsupportedSkip:
		v.note(l.what, l.key)
		return errLeftOut
	case v.policy == UnsupportedDeadLetter:
		v.note(l.what, l.key)
		if v.dead == nil {
			l.key = bytes.Clone(l.key)
			v.dead = &l
		}
		return errLeftOut
	case v.policy == UnsupportedKeep && keepable:
		v.note(l.what, l.key)
		return nil
	}
	return &UnsupportedError{Key: bytes.Clone(l.key), What: l.what, Target: v.target.String(), Policy: v.policy}
}

// takeDead is what the event at hand lacked, if it is to be a dead letter.
func (v *values) takeDead() *lack {
	if v == nil {
		return nil
	}
	l := v.dead
	v.dead = nil
	return l
}

// entry makes u the unit of an entry that is all there.
func (v *values) entry(u *unit, e *event.Event, offset int64) error {
	*u = unit{offset: offset, slot: e.Slot, key: e.Key, count: 1, blind: true}
	if own.Is(e.Key) {
		u.count, u.passedOver = 0, 1
		return nil
	}
	if v == nil {
		u.commands = appendRestore(nil, e)
		return nil
	}
	e.ExpireAtMs = held(e.ExpireAtMs, v.holdMs, math.MaxInt64)
	if text, ok := v.plain(e); ok {
		u.commands = v.room.build(setOverhead+len(e.Key)+len(text), func(dst []byte) []byte { return appendSet(dst, e, text) })
		return nil
	}
	err := v.adapt(e)
	switch {
	case errors.Is(err, errLeftOut):
		// What an earlier generation left there would be no value of this key.
		u.commands = resp.AppendCommandBytes(nil, []byte("UNLINK"), e.Key)
		return nil
	case err != nil:
		return err
	}
	u.commands = v.room.build(restoreOverhead+len(e.Key)+len(e.Value), func(dst []byte) []byte { return appendRestore(dst, e) })
	return nil
}

// plain returns the text of a string whose SET does what its RESTORE would, for less of the target's time.
func (v *values) plain(e *event.Event) (text []byte, ok bool) {
	if e.IdleSeconds >= 0 || e.Freq >= 0 || e.ExpireAtMs > 0 && !v.target.dialect.understands(602, 0) {
		return nil, false
	}
	return rdb.PlainText(e.Type, e.Value, &v.digits)
}

// room is memory for commands, in pieces of roomBytes: with the last command of one the piece is let go of.
type room struct{ free []byte }

const roomBytes = 64 << 10

// build hands out memory for about n bytes and keeps what fn appends to it.
func (r *room) build(n int, fn func(dst []byte) []byte) []byte {
	if n > roomBytes/4 {
		return fn(make([]byte, 0, n))
	}
	if n > len(r.free) {
		r.free = make([]byte, roomBytes)
	}
	b := fn(r.free[:0:n])
	if len(b) <= n { // it has not moved
		r.free = r.free[len(b):]
	}
	return slices.Clip(b)
}

// keep copies commands that stand in memory that is used again.
func (v *values) keep(commands []byte) []byte {
	if v == nil {
		return bytes.Clone(commands)
	}
	return v.room.build(len(commands), func(dst []byte) []byte { return append(dst, commands...) })
}

// held is an exact time later by the hold; 0 is none, and one too far away stays.
func held(atMs, holdMs, maxMs int64) int64 {
	if atMs <= 0 || atMs > maxMs-holdMs {
		return max(atMs, 0)
	}
	return atMs + holdMs
}

// maxFieldExpiry is the last expiry time of a hash field that servers take.
const maxFieldExpiry = 1<<48 - 1

// asItIs tells whether the target takes values of a type as they are.
func (v *values) asItIs(typ byte, f rdb.Format) bool {
	return v.target.format.Loads(typ, f) && (v.holdMs == 0 || !rdb.HasTimedFields(typ, f))
}

// adapt changes type, value and version of an entry to what the target loads.
func (v *values) adapt(e *event.Event) error {
	f := rdb.FormatOf(int(e.RDBVersion))
	if v.asItIs(e.Type, f) {
		if kind, _ := rdb.KindOf(e.Type, f); kind == rdb.ValueModule {
			if err := v.module(e, f); err != nil {
				return err
			}
		}
		e.RDBVersion = uint16(rdb.MinVersion(e.Type, f))
		return nil
	}
	if _, ok := rdb.KindOf(e.Type, f); !ok {
		what := fmt.Sprintf("type of encoding %d (of RDB version %d)", e.Type, f.Version)
		return v.without(lack{what, "unknown", e.Key}, false)
	}
	return v.encode(e, f)
}

// encode makes the value anew, in an encoding that the target loads.
func (v *values) encode(e *event.Event, f rdb.Format) error {
	if v.dec == nil {
		v.dec = rdb.NewDecoder(rdb.DecoderConfig{})
	}
	v.dec.ResetBytes(e.Type, e.Value, f)
	if err := v.enc.Reset(v.dec.Kind(), v.target.format); err != nil {
		return err
	}
	lacks := ""
	for {
		el, err := v.dec.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("decode value: %w", err)
		}
		if what := v.lacks(el); what != "" && lacks == "" {
			lacks = what
			if err := v.without(lack{what, v.dec.Kind().String(), e.Key}, true); err != nil {
				return err
			}
		}
		if el.Kind == rdb.ElementField {
			el.ExpireAtMs = v.fieldExpiry(el.ExpireAtMs)
		}
		if err := v.enc.Append(el); err != nil {
			return err
		}
	}
	e.Type, e.Value = v.enc.Value()
	e.RDBVersion = uint16(rdb.MinVersion(e.Type, v.target.format))
	return nil
}

// lacks names what of an element the target has no room for; "" for nothing. What a stream merely counts is no such thing:
// a server that does not know the number does without it.
func (v *values) lacks(el *rdb.Element) string {
	switch el.Kind {
	case rdb.ElementField:
		if el.ExpireAtMs > 0 && !v.target.format.HasFieldExpiry() {
			return whatFieldExpiry
		}
	case rdb.ElementMessage:
		if !v.target.format.HasProducers() {
			return whatProducers
		}
	default:
	}
	return ""
}

// fieldExpiry is when a field is to expire at the target.
func (v *values) fieldExpiry(atMs int64) int64 {
	if !v.target.format.HasFieldExpiry() {
		return 0
	}
	return held(atMs, v.holdMs, maxFieldExpiry)
}

// module finds out whether the target takes a module's value: only its modules can tell, so one value of each type is
// tried under a key of our own.
func (v *values) module(e *event.Event, f rdb.Format) error {
	id, err := rdb.ModuleOf(e.Value)
	if err != nil {
		return err
	}
	takes, known := v.modules[id]
	if !known {
		if takes, err = v.probe(e.Slot, rdb.AppendPayload(nil, e.Type, e.Value, rdb.MinVersion(e.Type, f))); err != nil {
			return &probeError{err}
		}
		if v.modules == nil {
			v.modules = map[uint64]bool{}
		}
		v.modules[id] = takes
	}
	if takes {
		return nil
	}
	name, version := rdb.ModuleName(id)
	return v.without(lack{fmt.Sprintf("module with the type %s, version %d", name, version), "module", e.Key}, false)
}
