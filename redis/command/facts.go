package command

// Split is how a write can be carried out where its keys lie in several slots, as they may when it comes from a server
// that is no cluster and goes to one that is.
type Split uint8

const (
	// SplitNone is for what names one key or none, whatever its arguments: there is nothing to split.
	SplitNone Split = iota
	// SplitPerKey is for writes of which each key, with the arguments that belong to it and the options, is a command of
	// its own, and all of them together leave what the whole would have left. A condition on all keys (MSETEX NX, XX) is
	// left out then: it held, or the command would not be in a stream.
	SplitPerKey
	// SplitEmulate is for writes where what becomes of one key depends on others, or the command's condition does
	// (MSETNX, which is MSET once it is in a stream). They have to be put together from other commands, and from values
	// of keys in other slots.
	SplitEmulate
	// SplitNever is for writes of which there is no telling what they do to which key without running them (scripts), and
	// for those in whose place servers put what they did into the stream, with one key: BLPOP is LPOP there, XREADGROUP is
	// XCLAIM, MIGRATE is DEL, PFCOUNT of several keys changes none. Then it does not come to splitting.
	SplitNever
)

// Blind says whether a write may be repeated without a record of what is applied: whether a run of such writes, replayed
// in order from an earlier point on any later state, ends in the state it ended in the first time. The sink's allow-list
// of options and its test on real servers are the authority; this is the same by command.
type Blind uint8

const (
	// BlindNever is for what is guarded in every form.
	BlindNever Blind = iota
	// BlindForms is for what is blind in some forms: SET key value, alone or with EXAT or PXAT; ZADD without options;
	// RESTORE with REPLACE whose expiry is 0 or ABSTTL.
	BlindForms
	// BlindAlways is for what is blind in every form.
	BlindAlways
)

// Expiry is what a write may do to expiry times: one flag for each thing that it does in some form, on some state.
type Expiry uint16

const (
	// ExpiryKept says that a key that is changed keeps its expiry; one that is made has none.
	ExpiryKept Expiry = 1 << iota
	// ExpiryCleared says that what is written has none, whatever the key had before.
	ExpiryCleared
	// ExpirySet says that it comes from the arguments.
	ExpirySet
	// ExpiryTaken says that it is that of another key of the command, none if that has none.
	ExpiryTaken
	// ExpiryLost says that a key can go, and its expiry with it: removed, renamed, expired at once, emptied of its last
	// element, or overwritten by an empty result.
	ExpiryLost
	// FieldExpiryCleared says that a field of a hash has none afterwards. A field that this flag and the next two do not
	// speak of keeps its expiry.
	FieldExpiryCleared
	// FieldExpirySet says that a field's expiry comes from the arguments.
	FieldExpirySet
	// FieldExpiryLost says that a field can go, and its expiry with it.
	FieldExpiryLost
)

// Of what is written over a key, and of what can take the last element away.
const (
	overwrites = ExpiryCleared | ExpiryLost
	removes    = ExpiryKept | ExpiryLost
)

// Has reports whether all of these flags are set.
func (e Expiry) Has(flags Expiry) bool { return e&flags == flags }

type writeFacts struct {
	split  Split
	blind  Blind
	expiry Expiry
}

// facts are what no server says of its writes. Tests hold them against every server: expiries and keys by running each
// command on keys that have expiries, the rest by what servers put into their streams.
//
// In the stream two commands take an expiry along that they keep at the server itself: INCRBYFLOAT before Redis 6 (it
// is SET there, without KEEPTTL) and HINCRBYFLOAT in Redis 7.4 and 8.0 (HSET).
var facts = map[string]writeFacts{
	// strings
	"APPEND":      {expiry: ExpiryKept},
	"BITFIELD":    {expiry: ExpiryKept},
	"BITOP":       {SplitEmulate, BlindNever, overwrites},
	"DECR":        {expiry: ExpiryKept},
	"DECRBY":      {expiry: ExpiryKept},
	"DELEX":       {expiry: ExpiryLost},
	"DELIFEQ":     {expiry: ExpiryLost},
	"GETDEL":      {expiry: ExpiryLost},
	"GETEX":       {expiry: ExpirySet | ExpiryCleared | ExpiryLost},
	"GETSET":      {expiry: ExpiryCleared},
	"INCR":        {expiry: ExpiryKept},
	"INCRBY":      {expiry: ExpiryKept},
	"INCRBYFLOAT": {expiry: ExpiryKept},
	"MSET":        {SplitPerKey, BlindAlways, ExpiryCleared},
	"MSETEX":      {SplitPerKey, BlindNever, ExpirySet | ExpiryCleared | ExpiryKept | ExpiryLost},
	"MSETNX":      {SplitEmulate, BlindNever, ExpiryKept},
	"PSETEX":      {expiry: ExpirySet},
	"SET":         {SplitNone, BlindForms, ExpirySet | ExpiryCleared | ExpiryKept | ExpiryLost},
	"SETBIT":      {SplitNone, BlindAlways, ExpiryKept},
	"SETEX":       {expiry: ExpirySet},
	"SETNX":       {expiry: ExpiryKept},
	"SETRANGE":    {SplitNone, BlindAlways, ExpiryKept},

	// keys of any type
	"COPY":           {SplitEmulate, BlindNever, ExpiryTaken},
	"DEL":            {SplitPerKey, BlindAlways, ExpiryLost},
	"EXPIRE":         {expiry: ExpirySet | ExpiryLost},
	"EXPIREAT":       {expiry: ExpirySet | ExpiryLost},
	"MIGRATE":        {SplitNever, BlindNever, ExpiryLost},
	"MOVE":           {expiry: ExpiryLost},
	"PERSIST":        {expiry: ExpiryCleared},
	"PEXPIRE":        {expiry: ExpirySet | ExpiryLost},
	"PEXPIREAT":      {expiry: ExpirySet | ExpiryLost},
	"RENAME":         {SplitEmulate, BlindNever, ExpiryTaken | ExpiryLost},
	"RENAMENX":       {SplitEmulate, BlindNever, ExpiryTaken | ExpiryLost},
	"RESTORE":        {SplitNone, BlindForms, ExpirySet | overwrites},
	"RESTORE-ASKING": {expiry: ExpirySet | overwrites},
	"SORT":           {SplitEmulate, BlindNever, overwrites},
	"UNLINK":         {SplitPerKey, BlindAlways, ExpiryLost},

	// hashes
	"HDEL":         {expiry: removes | FieldExpiryLost},
	"HEXPIRE":      {expiry: removes | FieldExpirySet | FieldExpiryLost},
	"HEXPIREAT":    {expiry: removes | FieldExpirySet | FieldExpiryLost},
	"HGETDEL":      {expiry: removes | FieldExpiryLost},
	"HGETEX":       {expiry: removes | FieldExpirySet | FieldExpiryCleared | FieldExpiryLost},
	"HINCRBY":      {expiry: ExpiryKept},
	"HINCRBYFLOAT": {expiry: ExpiryKept},
	"HMSET":        {SplitNone, BlindAlways, ExpiryKept | FieldExpiryCleared},
	"HPERSIST":     {expiry: ExpiryKept | FieldExpiryCleared},
	"HPEXPIRE":     {expiry: removes | FieldExpirySet | FieldExpiryLost},
	"HPEXPIREAT":   {expiry: removes | FieldExpirySet | FieldExpiryLost},
	"HSET":         {SplitNone, BlindAlways, ExpiryKept | FieldExpiryCleared},
	"HSETEX":       {expiry: removes | FieldExpirySet | FieldExpiryCleared | FieldExpiryLost},
	"HSETNX":       {expiry: ExpiryKept},

	// lists
	"BLMOVE":     {SplitEmulate, BlindNever, removes},
	"BLMPOP":     {SplitNever, BlindNever, removes},
	"BLPOP":      {SplitNever, BlindNever, removes},
	"BRPOP":      {SplitNever, BlindNever, removes},
	"BRPOPLPUSH": {SplitEmulate, BlindNever, removes},
	"LINSERT":    {expiry: ExpiryKept},
	"LMOVE":      {SplitEmulate, BlindNever, removes},
	"LMPOP":      {SplitNever, BlindNever, removes},
	"LPOP":       {expiry: removes},
	"LPUSH":      {expiry: ExpiryKept},
	"LPUSHX":     {expiry: ExpiryKept},
	"LREM":       {expiry: removes},
	"LSET":       {SplitNone, BlindAlways, ExpiryKept},
	"LTRIM":      {expiry: removes},
	"RPOP":       {expiry: removes},
	"RPOPLPUSH":  {SplitEmulate, BlindNever, removes},
	"RPUSH":      {expiry: ExpiryKept},
	"RPUSHX":     {expiry: ExpiryKept},

	// sets and sorted sets
	"BZMPOP":            {SplitNever, BlindNever, removes},
	"BZPOPMAX":          {SplitNever, BlindNever, removes},
	"BZPOPMIN":          {SplitNever, BlindNever, removes},
	"GEOADD":            {expiry: ExpiryKept},
	"GEORADIUS":         {SplitEmulate, BlindNever, overwrites},
	"GEORADIUSBYMEMBER": {SplitEmulate, BlindNever, overwrites},
	"GEOSEARCHSTORE":    {SplitEmulate, BlindNever, overwrites},
	"SADD":              {SplitNone, BlindAlways, ExpiryKept},
	"SDIFFSTORE":        {SplitEmulate, BlindNever, overwrites},
	"SINTERSTORE":       {SplitEmulate, BlindNever, overwrites},
	"SMOVE":             {SplitEmulate, BlindNever, removes},
	"SPOP":              {expiry: removes},
	"SREM":              {expiry: removes},
	"SUNIONSTORE":       {SplitEmulate, BlindNever, overwrites},
	"ZADD":              {SplitNone, BlindForms, ExpiryKept},
	"ZDIFFSTORE":        {SplitEmulate, BlindNever, overwrites},
	"ZINCRBY":           {expiry: ExpiryKept},
	"ZINTERSTORE":       {SplitEmulate, BlindNever, overwrites},
	"ZMPOP":             {SplitNever, BlindNever, removes},
	"ZPOPMAX":           {expiry: removes},
	"ZPOPMIN":           {expiry: removes},
	"ZRANGESTORE":       {SplitEmulate, BlindNever, overwrites},
	"ZREM":              {expiry: removes},
	"ZREMRANGEBYLEX":    {expiry: removes},
	"ZREMRANGEBYRANK":   {expiry: removes},
	"ZREMRANGEBYSCORE":  {expiry: removes},
	"ZUNIONSTORE":       {SplitEmulate, BlindNever, overwrites},

	// streams: an empty one stays
	"XACK":                  {expiry: ExpiryKept},
	"XACKDEL":               {expiry: ExpiryKept},
	"XADD":                  {expiry: ExpiryKept},
	"XAUTOCLAIM":            {expiry: ExpiryKept},
	"XCFGSET":               {expiry: ExpiryKept},
	"XCLAIM":                {expiry: ExpiryKept},
	"XDEL":                  {expiry: ExpiryKept},
	"XDELEX":                {expiry: ExpiryKept},
	"XGROUP CREATE":         {expiry: ExpiryKept},
	"XGROUP CREATECONSUMER": {expiry: ExpiryKept},
	"XGROUP DELCONSUMER":    {expiry: ExpiryKept},
	"XGROUP DESTROY":        {expiry: ExpiryKept},
	"XGROUP SETID":          {expiry: ExpiryKept},
	"XIDMPRECORD":           {expiry: ExpiryKept},
	"XREADGROUP":            {SplitNever, BlindNever, ExpiryKept},
	"XSETID":                {expiry: ExpiryKept},
	"XTRIM":                 {expiry: ExpiryKept},

	// HyperLogLogs and vector sets
	"PFADD":    {expiry: ExpiryKept},
	"PFCOUNT":  {SplitNever, BlindNever, ExpiryKept},
	"PFDEBUG":  {expiry: ExpiryKept},
	"PFMERGE":  {SplitEmulate, BlindNever, ExpiryKept},
	"VADD":     {expiry: ExpiryKept},
	"VREM":     {expiry: removes},
	"VSETATTR": {expiry: ExpiryKept},

	// scripts may do anything
	"EVAL":    {SplitNever, BlindNever, anyExpiry},
	"EVALSHA": {SplitNever, BlindNever, anyExpiry},
	"FCALL":   {SplitNever, BlindNever, anyExpiry},

	// without keys
	"CLUSTER FLUSHSLOT": {expiry: ExpiryLost},
	"FLUSHALL":          {expiry: ExpiryLost},
	"FLUSHDB":           {expiry: ExpiryLost},
	"FUNCTION DELETE":   {},
	"FUNCTION FLUSH":    {},
	"FUNCTION LOAD":     {},
	"FUNCTION RESTORE":  {},
	"SWAPDB":            {},
	"TRIMSLOTS":         {expiry: ExpiryLost},
}

const anyExpiry = FieldExpiryLost<<1 - 1

// mayReplicate are the commands that servers replicate although they are no writes. Only Redis 6.2 says so of them (and
// of SCRIPT, which it still replicates); later ones keep the flag to themselves.
var mayReplicate = []string{"EVAL", "EVALSHA", "FCALL", "PFCOUNT", "PUBLISH", "SCRIPT", "SPUBLISH"}
