package command

import (
	"errors"
	"slices"
)

// Info is what is known about a command. It must not be changed.
type Info struct {
	// Name is in upper case; a subcommand's has both words, "XGROUP CREATE".
	Name string
	// Arity counts arguments with the name, and both words of a subcommand.
	// Negative: at least so many.
	Arity int
	// Write is the server's flag of that name: the command may change data. EVAL and
	// its kin lack it although a script may write, PUBLISH lacks it although it is
	// replicated (FlagMayReplicate), and so does a command that has subcommands: ask
	// the subcommand.
	Write bool
	Flags Flags
	Group string // as in COMMAND DOCS: "string", "stream", ...
	// First, Last and Step are the old description of keys, 0 where there is none. It is
	// incomplete where FlagMovablekeys is set, and names the channel of SPUBLISH.
	First, Last, Step int
	KeySpecs          []KeySpec
	Subcommands       []Info

	// Split, Blind and Expiry are known of writes, and of what may be replicated with keys (scripts, PFCOUNT); zero
	// for all others, and for the command of subcommands: ask the subcommand.
	Split  Split
	Blind  Blind
	Expiry Expiry

	rule     rule         // finds the keys in place of KeySpecs, if not nil
	absolute absoluteRule // makes its expiry absolute, nil if it cannot be relative
}

// Flags are a server's flags of a command, named as COMMAND names them.
type Flags uint64

// The flags.
const (
	FlagWrite Flags = 1 << iota
	FlagReadonly
	FlagDenyoom
	FlagModule
	FlagAdmin
	FlagPubsub
	FlagNoscript
	FlagBlocking
	FlagLoading
	FlagStale
	FlagSkipMonitor
	FlagSkipSlowlog
	FlagSkipCommandlog
	FlagAsking
	FlagFast
	FlagNoAuth
	FlagMayReplicate
	FlagNoMandatoryKeys
	FlagNoAsyncLoading
	FlagNoMulti
	FlagMovablekeys
	FlagAllowBusy
	FlagRandom        // before 7.0
	FlagSortForScript // before 7.0
)

// Has reports whether all of these flags are set.
func (f Flags) Has(flags Flags) bool { return f&flags == flags }

// Lookup finds a command by its name, in any case. A subcommand is found by both
// words, "XGROUP CREATE", or by [Resolve].
func Lookup(name []byte) (*Info, bool) {
	var upper [maxNameLen]byte
	n, ok := appendUpper(&upper, 0, name)
	if !ok {
		return nil, false
	}
	info, ok := index[string(upper[:n])]
	return info, ok
}

// Resolve finds the command that these arguments call: the subcommand, if the
// command has any and the second argument names one, otherwise the command.
func Resolve(args [][]byte) (*Info, bool) {
	if len(args) == 0 {
		return nil, false
	}
	info, ok := Lookup(args[0])
	if !ok || len(args) == 1 || len(info.Subcommands) == 0 {
		return info, ok
	}
	if sub, ok := info.sub(args[1]); ok {
		return sub, true
	}
	return info, true
}

// All yields the commands in order of their names, subcommands after their command.
func All(yield func(*Info) bool) { all(table, yield) }

func all(infos []Info, yield func(*Info) bool) bool {
	for i := range infos {
		if !yield(&infos[i]) || !all(infos[i].Subcommands, yield) {
			return false
		}
	}
	return true
}

func (i *Info) sub(word []byte) (*Info, bool) {
	var upper [maxNameLen]byte
	n := copy(upper[:], i.Name)
	n += copy(upper[n:], " ")
	n, ok := appendUpper(&upper, n, word)
	if !ok {
		return nil, false
	}
	info, ok := index[string(upper[:n])]
	return info, ok
}

// maxNameLen is more than any name has; a test proves it.
const maxNameLen = 64

func appendUpper(dst *[maxNameLen]byte, n int, word []byte) (int, bool) {
	if len(word) > maxNameLen-n {
		return 0, false
	}
	for _, c := range word {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst[n] = c
		n++
	}
	return n, true
}

// index has every command and subcommand by name.
var index = newIndex(table)

func newIndex(infos []Info) map[string]*Info {
	out := make(map[string]*Info, 2*len(infos))
	all(infos, func(i *Info) bool {
		i.rule, i.absolute = rules[i.Name], absoluteRules[i.Name]
		if slices.Contains(mayReplicate, i.Name) {
			i.Flags |= FlagMayReplicate
		}
		f := facts[i.Name]
		i.Split, i.Blind, i.Expiry = f.split, f.blind, f.expiry
		out[i.Name] = i
		return true
	})
	return out
}

var (
	// ErrNoKeys says that the command, with these arguments, has no keys.
	ErrNoKeys = errors.New("command has no keys")
	// ErrUnknownKeys says that the table cannot tell: COMMAND GETKEYS can.
	ErrUnknownKeys = errors.New("keys of command are unknown")
	// ErrArgs says that a server would refuse the command: too few or too many
	// arguments, or a count of keys that does not fit.
	ErrArgs = errors.New("arguments do not fit command")
)
