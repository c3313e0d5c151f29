package resp

import "math"

// Defaults of [Config].
const (
	DefaultBufferBytes  = 64 << 10
	DefaultMaxBulkBytes = 512 << 20     // proto-max-bulk-len of a server
	DefaultMaxArgs      = math.MaxInt32 // what a server accepts (processMultibulkBuffer in redis src/networking.c)
	DefaultMaxDepth     = 32
)

// Config bounds what is read. Zero values mean the defaults.
type Config struct {
	// BufferBytes is the first size of the buffer, and its size again some reads after
	// a large command has passed. Below 4 KiB it counts as 4 KiB.
	BufferBytes int
	// MaxBulkBytes bounds one argument or one bulk reply. A master ignores its own
	// proto-max-bulk-len in what it replicates (a value can grow by APPEND), so a
	// link may want more than the default.
	MaxBulkBytes int
	// MaxArgs bounds the arguments of a command, or the elements of a reply, nested
	// ones included.
	MaxArgs int
	// MaxDepth bounds the nesting of replies.
	MaxDepth int
	// RefuseInline makes inline commands an error, as a replica does: a master never
	// sends them, so one in its stream is a desynchronisation.
	RefuseInline bool
}

func (c Config) withDefaults() Config {
	if c.BufferBytes <= 0 {
		c.BufferBytes = DefaultBufferBytes
	}
	c.BufferBytes = max(c.BufferBytes, minReadBytes)
	if c.MaxBulkBytes <= 0 {
		c.MaxBulkBytes = DefaultMaxBulkBytes
	}
	c.MaxBulkBytes = min(c.MaxBulkBytes, math.MaxInt/4) // positions cannot overflow
	if c.MaxArgs <= 0 || c.MaxArgs > math.MaxInt32 {
		c.MaxArgs = DefaultMaxArgs
	}
	if c.MaxDepth <= 0 {
		c.MaxDepth = DefaultMaxDepth
	}
	return c
}
