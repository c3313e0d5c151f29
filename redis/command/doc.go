// Package command knows what each command of Redis and Valkey is: its arity, its
// flags, and which of its arguments are keys.
//
// It says what servers say, and holds no policy: which commands are replayed, which
// are safe to repeat, which a filter lets through is for others to decide. It knows
// nothing of values and of the reply.
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
