package rdb

// Kind says which field of an [Item] is set.
type Kind uint8

// Kinds of items, with the field that holds each.
const (
	KindEntry     Kind = iota + 1 // Entry
	KindAux                       // Aux
	KindSelectDB                  // DB
	KindResizeDB                  // ResizeDB
	KindSlotInfo                  // SlotInfo
	KindFunction                  // Function
	KindModuleAux                 // ModuleAux
)

// String names the kind as logs and test failures show it.
func (k Kind) String() string {
	switch k {
	case KindEntry:
		return "entry"
	case KindAux:
		return "aux"
	case KindSelectDB:
		return "select-db"
	case KindResizeDB:
		return "resize-db"
	case KindSlotInfo:
		return "slot-info"
	case KindFunction:
		return "function"
	case KindModuleAux:
		return "module-aux"
	}
	return "none"
}

// Opcodes of the stream (src/rdb.h). 243 means slot import under VALKEY and key metadata of modules under REDIS, so it
// has no name of its own.
const (
	opEOF         = 255
	opSelectDB    = 254
	opExpireSec   = 253
	opExpireMs    = 252
	opResizeDB    = 251
	opAux         = 250
	opFreq        = 249
	opIdle        = 248
	opModuleAux   = 247
	opFunctionPre = 246 // release candidates of 7.0, refused by Redis itself
	opSlotInfo    = 244
	op243         = 243
	op242         = 242

	// OpFunction is the opcode of a function library, and the type byte of its part in a FUNCTION RESTORE payload.
	OpFunction = 245
)

// Item is one element of the stream. Only the field that Kind names is set.
//
// All byte slices are the Reader's and valid until its next call of Next.
type Item struct {
	Kind      Kind
	Entry     Entry
	Aux       Aux
	DB        int // the database of the entries that follow
	ResizeDB  ResizeDB
	SlotInfo  SlotInfo
	Function  []byte // the library as an RDB string, still encoded: what follows the opcode
	ModuleAux ModuleAux
}

// Entry is one key of a snapshot.
type Entry struct {
	DB         int
	Key        []byte // decoded
	Type       byte   // of the value's encoding, as RESTORE wants it
	Value      []byte // as in the stream, never decoded; of a value that was cut, its end
	ExpireAtMs int64  // Unix time; 0: none
	Idle       int64  // seconds since last use; -1: not in the stream
	Freq       int    // LFU counter, 0 ... 255; -1: not in the stream
	Handed     int64  // so many bytes of the value went to Config.OnPiece before Value; 0: Value is whole
}

// Aux is a named fact about the snapshot, such as redis-ver or repl-stream-db.
type Aux struct {
	Key, Value []byte // decoded
}

// ResizeDB announces how many keys the selected database has. It is a hint: a server may write it before it knows.
type ResizeDB struct {
	KeyCount, ExpireCount uint64
}

// SlotInfo announces the size of a slot whose entries follow (Redis 7.4 and later, cluster mode).
type SlotInfo struct {
	Slot                  uint16
	KeyCount, ExpireCount uint64
}

// ModuleAux is what a module keeps outside of keys.
type ModuleAux struct {
	ModuleID uint64 // see ModuleName
	Data     []byte // what follows the opcode, from the id to the module's end mark
}

// moduleCharset are the 64 characters of a module type's name (src/module.c).
const moduleCharset = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// ModuleName gives the nine-letter name of a module type and its encoding version from a module id: 54 bits of name,
// 10 bits of version.
func ModuleName(id uint64) (name string, version int) {
	var b [9]byte
	for i := range b {
		b[i] = moduleCharset[id>>(64-6*(i+1))&63]
	}
	return string(b[:]), int(id & 1023)
}
