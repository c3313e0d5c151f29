// Package command knows what each command of Redis and Valkey is: its arity, its
// flags, and which of its arguments are keys.
//
// It says what servers say or do, and holds no policy: which commands are replayed and
// which a filter lets through is for others to decide. It knows nothing of values and
// of the reply.
//
// Of each write it also says what no server tells, by hand and held against all of them
// by tests: how it can be carried out where its keys lie in several slots ([Split]),
// whether it may be repeated ([Blind]), and what it does to expiry times ([Expiry]).
// [Info.Absolute] makes a time to live a point in time.
//
// The table is generated from running servers and merged over versions, so commands
// that the server at hand does not have are known too. Where a server's specification
// cannot express where keys are, the few rules in rules.go do. What is left, such as
// commands of modules, is [ErrUnknownKeys]: then only a server can tell, by COMMAND
// GETKEYS.
//
// Everything is read-only after start and may be used from any goroutine. Indexes of
// keys come in the order of the command's specifications, which is that of COMMAND
// GETKEYS; the source of SORT comes before its destination, the destination of
// ZUNIONSTORE before its sources.
package command

// REDRIVER_REDIS_BINS lists folders of servers, newest Redis first: see internal/gen.
//go:generate go run ./internal/gen -o table.go -servers $REDRIVER_REDIS_BINS
