package command

import (
	"errors"
	"strconv"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// ErrIndivisible says that a command is more than the sum of what it does to each key.
var ErrIndivisible = errors.New("command cannot be divided by slot")

// Divided is what one slot gets of a command.
type Divided struct {
	Slot slot.Slot
	Args [][]byte // aliases the command's
}

// Divide cuts a write of several keys into one command for each of their slots, in the order of their first keys. They
// leave together what the whole would have left, if it took effect: conditions on all keys are left out. It does so for
// commands of SplitPerKey, and for MSETNX; for others the error is [ErrIndivisible].
func Divide(args [][]byte) ([]Divided, error) {
	var d divider
	switch {
	case len(args) < 2:
		return nil, ErrArgs
	case resp.IsWord(args[0], "DEL"), resp.IsWord(args[0], "UNLINK"):
		for _, k := range args[1:] {
			p := d.of(k, args[0])
			p.Args = append(p.Args, k)
		}
	case resp.IsWord(args[0], "MSET"), resp.IsWord(args[0], "MSETNX"):
		if len(args)%2 == 0 {
			return nil, ErrArgs
		}
		for i := 1; i < len(args); i += 2 {
			p := d.of(args[i], []byte("MSET"))
			p.Args = append(p.Args, args[i], args[i+1])
		}
	case resp.IsWord(args[0], "MSETEX"):
		return divideMSetEx(args)
	default:
		return nil, ErrIndivisible
	}
	return d.all, nil
}

// divideMSetEx: MSETEX numkeys [key value]... [NX | XX] [expiry].
func divideMSetEx(args [][]byte) ([]Divided, error) {
	n, ok := parseCount(args[1], len(args))
	options := 2 + 2*n
	if !ok || n == 0 || options > len(args) {
		return nil, ErrArgs
	}
	var d divider
	for i := 2; i < options; i += 2 {
		p := d.of(args[i], args[0], nil)
		p.Args = append(p.Args, args[i], args[i+1])
	}
	for i := range d.all {
		p := &d.all[i]
		p.Args[1] = strconv.AppendInt(nil, int64(len(p.Args)-2)/2, 10)
		for _, o := range args[options:] {
			if !resp.IsWord(o, "NX") && !resp.IsWord(o, "XX") {
				p.Args = append(p.Args, o)
			}
		}
	}
	return d.all, nil
}

type divider struct{ all []Divided }

// of returns the command of the key's slot, made of head if it is new.
func (d *divider) of(key []byte, head ...[]byte) *Divided {
	s := slot.Of(key)
	for i := range d.all {
		if d.all[i].Slot == s {
			return &d.all[i]
		}
	}
	d.all = append(d.all, Divided{Slot: s, Args: append(make([][]byte, 0, 2*len(head)+2), head...)})
	return &d.all[len(d.all)-1]
}
