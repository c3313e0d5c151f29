package load

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// CrossConfig says what a Cross writes.
type CrossConfig struct {
	Seed      uint64
	Prefix    string
	Keys      int      // names of each type in each database; 0: 12
	Databases int      // 0: one, and then nothing that speaks of databases is written
	Rate      int      // operations a second; 0: as fast as they are answered
	Without   []string // commands left out
}

// Cross writes what only a server outside a cluster takes: commands and transactions whose keys lie in several slots and
// in several databases. What becomes of a key depends on others, so a copy that has them in another order shows it.
type Cross struct {
	cfg  CrossConfig
	conn *redis.Conn
	r    *rand.Rand
	done atomic.Int64
	bad  atomic.Pointer[error]
}

// NewCross takes a connection of its own from the client.
func NewCross(client *redis.Client, cfg CrossConfig) *Cross {
	cfg.Keys, cfg.Databases = cmp.Or(cfg.Keys, 12), cmp.Or(cfg.Databases, 1)
	return &Cross{cfg: cfg, conn: client.Conn(), r: rand.New(rand.NewPCG(cfg.Seed, 0xc505))}
}

// Done is how many commands were answered.
func (c *Cross) Done() int64 { return c.done.Load() }

// Err is the first error that was no answer of the server.
func (c *Cross) Err() error {
	if err := c.bad.Load(); err != nil {
		return *err
	}
	return nil
}

// Run writes until ctx is done. Answers that are errors (no such key, another type) are as good as any.
func (c *Cross) Run(ctx context.Context) {
	defer func() { _ = c.conn.Close() }()
	writing := context.WithoutCancel(ctx)
	start := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if c.cfg.Rate > 0 && !pause(ctx, time.Until(start.Add(time.Duration(n)*time.Second/time.Duration(c.cfg.Rate)))) {
			return
		}
		p := c.conn.Pipeline()
		if c.cfg.Databases > 1 {
			p.Do(writing, "SELECT", c.db())
		}
		if c.r.IntN(5) == 0 {
			p = c.transaction(writing, p)
		} else {
			c.add(writing, p, false)
		}
		cmds, err := p.Exec(writing)
		var reply redis.Error
		if err != nil && !errors.As(err, &reply) {
			c.bad.CompareAndSwap(nil, &err)
			return
		}
		c.done.Add(int64(len(cmds)))
	}
}

func (c *Cross) db() int { return c.r.IntN(c.cfg.Databases) }

func (c *Cross) key(typ string) string {
	return c.cfg.Prefix + typ + strconv.Itoa(c.r.IntN(c.cfg.Keys))
}

func (c *Cross) value() string { return strconv.Itoa(c.r.IntN(1000)) }

// transaction is a MULTI whose commands may be of several databases.
func (c *Cross) transaction(ctx context.Context, p redis.Pipeliner) redis.Pipeliner {
	p.Do(ctx, "MULTI")
	for range 2 + c.r.IntN(4) {
		if c.cfg.Databases > 1 && c.r.IntN(3) == 0 {
			p.Do(ctx, "SELECT", c.db())
		}
		c.add(ctx, p, true)
	}
	p.Do(ctx, "EXEC")
	return p
}

func (c *Cross) add(ctx context.Context, p redis.Pipeliner, inside bool) {
	args := c.command(inside)
	if !slices.Contains(c.cfg.Without, args[0].(string)) {
		p.Do(ctx, args...)
	}
}

func (c *Cross) command(inside bool) []any {
	k, v := c.key, c.value
	type list = []any
	some := []func() list{
		func() list { return list{"MSET", k("s"), v(), k("s"), v(), k("s"), v()} },
		func() list { return list{"MSETNX", k("s"), v(), k("s"), v()} },
		func() list { return list{"DEL", k("s"), k("h"), k("l")} },
		func() list { return list{"UNLINK", k("set"), k("z")} },
		func() list { return list{"INCRBY", k("s"), v()} },
		func() list { return list{"APPEND", k("s"), v()} },
		func() list { return list{"HSET", k("h"), "f" + v(), v()} },
		func() list { return list{"PEXPIRE", k("h"), 3_600_000} },
		func() list { return list{"RENAME", k("h"), k("h")} },
		func() list { return list{"RENAMENX", k("s"), k("s")} },
		func() list { return list{"COPY", k("h"), k("h")} },
		func() list { return list{"COPY", k("z"), k("z"), "REPLACE"} },
		func() list { return list{"SADD", k("set"), v(), v(), v()} },
		func() list { return list{"SUNIONSTORE", k("set"), k("set"), k("set")} },
		func() list { return list{"SDIFFSTORE", k("set"), k("set"), k("set")} },
		func() list { return list{"SINTERSTORE", k("set"), k("set"), k("set")} },
		func() list { return list{"SMOVE", k("set"), k("set"), v()} },
		func() list { return list{"SPOP", k("set"), 2} },
		func() list { return list{"RPUSH", k("l"), v(), v()} },
		func() list { return list{"LMOVE", k("l"), k("l"), "LEFT", "RIGHT"} },
		func() list { return list{"RPOPLPUSH", k("l"), k("l")} },
		func() list { return list{"LTRIM", k("l"), 0, 40} },
		func() list { return list{"SORT", k("l"), "STORE", k("l")} },
		func() list { return list{"ZADD", k("z"), v(), "m" + v()} },
		func() list { return list{"ZUNIONSTORE", k("z"), 2, k("z"), k("z"), "WEIGHTS", 1, 2} },
		func() list { return list{"ZINTERSTORE", k("z"), 2, k("z"), k("z")} },
		func() list { return list{"ZRANGESTORE", k("z"), k("z"), 0, 20} },
		func() list { return list{"PFADD", k("hll"), v(), v()} },
		func() list { return list{"PFMERGE", k("hll"), k("hll"), k("hll")} },
		func() list { return list{"BITOP", "XOR", k("bit"), k("bit"), k("s")} },
		func() list { return list{"SETBIT", k("bit"), c.r.IntN(400), 1} },
		func() list { return list{"GEOADD", k("geo"), c.r.IntN(90), c.r.IntN(80), "m" + v()} },
		func() list {
			return list{"GEOSEARCHSTORE", k("geo"), k("geo"), "FROMLONLAT", 40, 40, "BYRADIUS", 3000, "km"}
		},
	}
	if c.cfg.Databases > 1 && c.r.IntN(6) == 0 {
		switch n := c.r.IntN(60); {
		case n == 0:
			return list{"FLUSHDB"}
		case n == 1 && !inside:
			return list{"FLUSHALL"}
		case n < 6:
			return list{"SWAPDB", c.db(), c.db()}
		case n < 30:
			return list{"MOVE", k("s"), c.db()}
		default:
			return list{"COPY", k("set"), k("set"), "DB", c.db(), "REPLACE"}
		}
	}
	return some[c.r.IntN(len(some))]()
}
