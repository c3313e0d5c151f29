package command

import "github.com/redriver/redriver/redis/resp"

// KeySpec says where keys are: where to begin, and how to go on from there
// (struct keySpec in redis src/server.h).
type KeySpec struct {
	Flags KeyFlags

	Begin   Begin
	Index   int    // BeginIndex: the position
	Keyword string // BeginKeyword: keys begin after this word, in upper case
	From    int    // BeginKeyword: search from here; negative: backwards from the end

	Find Find
	// FindRange: position of the last key, counted from the first; if negative, from
	// the end of the arguments.
	Last int
	// FindRange, with Last -1: only the first 1/Limit of the arguments are keys.
	Limit   int
	NumAt   int // FindKeyNum: position of the number of keys, counted from the beginning
	FirstAt int // FindKeyNum: position of the first key, likewise
	Step    int // from key to key
}

// Begin is how a KeySpec begins.
type Begin uint8

// Beginnings.
const (
	BeginIndex Begin = iota
	BeginKeyword
	BeginUnknown
)

// Find is how a KeySpec goes on.
type Find uint8

// Continuations.
const (
	FindRange Find = iota
	FindKeyNum
	FindUnknown
)

// KeyFlags say what is done with the keys of a KeySpec, named as COMMAND names them.
type KeyFlags uint16

// The flags of keys.
const (
	KeyRO     KeyFlags = 1 << iota // read
	KeyRW                          // changed
	KeyOW                          // overwritten, whatever it was
	KeyRM                          // removed
	KeyAccess                      // its value is returned, copied or used
	KeyUpdate
	KeyInsert
	KeyDelete
	KeyNotKey        // no key, but goes where a key of that name would go
	KeyIncomplete    // not all keys are found this way
	KeyVariableFlags // the flags depend on the arguments
)

// Keyless reports whether the command has no keys, whatever its arguments.
func (i *Info) Keyless() bool {
	for _, s := range i.KeySpecs {
		if s.Flags&KeyNotKey == 0 {
			return false
		}
	}
	for n := range i.Subcommands {
		if !i.Subcommands[n].Keyless() {
			return false
		}
	}
	return true
}

// Keys appends to dst the positions in args of all keys; args[0] is the command's
// name. Without an error there is at least one. The errors are [ErrNoKeys],
// [ErrUnknownKeys] and [ErrArgs]; then dst comes back as it was. On a command with
// subcommands it answers for the subcommand that args name.
//
// As with COMMAND GETKEYS, keys a server makes up from patterns (SORT ... BY, GET) and
// those a script does not declare are not among them. A position can come twice.
func (i *Info) Keys(args [][]byte, dst []int) ([]int, error) {
	if len(i.Subcommands) > 0 && len(args) > 1 {
		sub, ok := i.sub(args[1])
		if !ok {
			return dst, ErrUnknownKeys
		}
		i = sub
	}
	if !i.arityFits(len(args)) {
		return dst, ErrArgs
	}
	find := i.rule
	if find == nil {
		find = i.bySpecs
	}
	out, err := find(args, dst)
	if err != nil {
		return dst, err
	}
	if len(out) == len(dst) {
		return dst, ErrNoKeys
	}
	return out, nil
}

// KeysWithin reports whether all keys of the command, and all that [Info.Absolute] has to see, stand among its first n
// arguments, name included, however many follow.
func (i *Info) KeysWithin(n int) bool {
	if len(i.Subcommands) > 0 || i.rule != nil || i.absolute != nil || i.Arity > n || -i.Arity > n {
		return false
	}
	for _, s := range i.KeySpecs {
		if s.Flags&KeyNotKey != 0 {
			continue
		}
		if s.Flags&KeyIncomplete != 0 || s.Begin != BeginIndex || s.Find != FindRange || s.Last < 0 || s.Index+s.Last >= n {
			return false
		}
	}
	return true
}

func (i *Info) arityFits(n int) bool {
	if i.Arity < 0 {
		return n >= -i.Arity
	}
	return n == i.Arity
}

func (i *Info) bySpecs(args [][]byte, dst []int) (_ []int, err error) {
	for n := range i.KeySpecs {
		s := &i.KeySpecs[n]
		if s.Flags&KeyNotKey != 0 {
			continue
		}
		if s.Flags&KeyIncomplete != 0 || s.Begin == BeginUnknown || s.Find == FindUnknown {
			return nil, ErrUnknownKeys
		}
		if dst, err = s.keys(args, dst); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// keys follows getKeysUsingKeySpecs in redis src/db.c.
func (s *KeySpec) keys(args [][]byte, dst []int) ([]int, error) {
	begin := s.Index
	if s.Begin == BeginKeyword {
		if begin = s.afterKeyword(args); begin == 0 {
			return dst, nil
		}
	}
	first, ok := begin, true
	var last int
	switch {
	case s.Find == FindKeyNum:
		first, last, ok = s.counted(args, begin)
		if ok && last < first {
			return dst, nil // a count of 0
		}
	case s.Last >= 0:
		last = first + s.Last
	case s.Limit > 0:
		last = first + (len(args)-first)/s.Limit + s.Last
	default:
		last = len(args) + s.Last
	}
	if s.Find == FindRange && s.Last < 0 && first == len(args) {
		return dst, nil // PFMERGE destination, without sources; GETKEYS refuses it
	}
	if !ok || first >= len(args) || last >= len(args) || last < first {
		return nil, ErrArgs
	}
	for at := first; at <= last; at += max(s.Step, 1) {
		dst = append(dst, at)
	}
	return dst, nil
}

// counted returns the positions of the first and last key after a number of keys.
func (s *KeySpec) counted(args [][]byte, begin int) (first, last int, ok bool) {
	if begin+s.NumAt >= len(args) {
		return 0, 0, false
	}
	n, ok := parseCount(args[begin+s.NumAt], len(args))
	first = begin + s.FirstAt
	return first, first + (n-1)*max(s.Step, 1), ok
}

// afterKeyword returns the position after the keyword, 0 if it is not there.
func (s *KeySpec) afterKeyword(args [][]byte) int {
	if s.From > 0 {
		for at := s.From; at < len(args); at++ {
			if resp.IsWord(args[at], s.Keyword) {
				return at + 1
			}
		}
		return 0
	}
	for at := len(args) + s.From; at > 1; at-- {
		if resp.IsWord(args[at], s.Keyword) {
			return at + 1
		}
	}
	return 0
}

// parseCount reads a number of 0 to limit.
func parseCount(b []byte, limit int) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int(c-'0'); n > limit {
			return 0, false
		}
	}
	return n, len(b) > 0
}
