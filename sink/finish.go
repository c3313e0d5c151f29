package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/topology"
)

// exact sets one key's exact expiry time, in one step, so that it cannot meet a client that writes the key meanwhile.
const exact = `local t = redis.call('PEXPIRETIME', KEYS[1])
if t >= tonumber(ARGV[1]) then redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', t - tonumber(ARGV[2]))) return 1 end
return 0`

const (
	finishPage = 500
	// sinksPrefix begins the names of all connections of sinks, see clientName.
	sinksPrefix = "redriver."
)

// Finished tells what Finish did.
type Finished struct{ Keys, Exact int64 }

// ErrSinkRuns tells that a sink is still connected to a target that is to be finished.
var ErrSinkRuns = errors.New("a sink is still writing to the target")

// Finish ends a copy: it sets exact expiry times at a target that was written with a hold. Held times are those from hold
// less half of MinExpiryHold on, counted from now: no exact one is so far away unless its user asked for years, and a
// second run finds none. It needs Redis 7.0.
func Finish(ctx context.Context, d *topology.Dialer, seeds []string, hold time.Duration) (Finished, error) {
	if hold < MinExpiryHold {
		return Finished{}, fmt.Errorf("finish: a hold of %s, want at least %s", hold, MinExpiryHold)
	}
	top, err := topology.Discover(ctx, d, seeds)
	if err != nil {
		return Finished{}, fmt.Errorf("finish: look at the target: %w", err)
	}
	for i := range top.Shards {
		if err := noSinkAt(ctx, d, top.Shards[i].Master.Addr); err != nil {
			return Finished{}, err
		}
	}
	var all Finished
	for i := range top.Shards {
		addr := top.Shards[i].Master.Addr
		client := d.Client(addr)
		n, err := finishNode(ctx, client, hold)
		_ = client.Close()
		all.Keys += n.Keys
		all.Exact += n.Exact
		if err != nil {
			return all, fmt.Errorf("finish %s: %w: run it again, what is done stays done", addr, err)
		}
	}
	return all, nil
}

func noSinkAt(ctx context.Context, d *topology.Dialer, addr string) error {
	client := d.Client(addr)
	defer func() { _ = client.Close() }()
	list, err := client.ClientList(ctx).Result()
	if err != nil {
		return fmt.Errorf("finish: list clients of %s: %w", addr, err)
	}
	if i := strings.Index(list, "name="+sinksPrefix); i >= 0 {
		name, _, _ := strings.Cut(list[i+len("name="):], " ")
		return fmt.Errorf("finish: %w: connection %s at %s: stop it first", ErrSinkRuns, name, addr)
	}
	return nil
}

func finishNode(ctx context.Context, client *redis.Client, hold time.Duration) (Finished, error) {
	var f Finished
	script := redis.NewScript(exact)
	if err := script.Load(ctx, client).Err(); err != nil {
		return f, fmt.Errorf("load script: %w", err)
	}
	from := time.Now().Add(hold - MinExpiryHold/2).UnixMilli()
	for cursor := uint64(0); ; {
		keys, next, err := client.Scan(ctx, cursor, "", finishPage).Result()
		if err != nil {
			return f, fmt.Errorf("scan: %w", err)
		}
		var done []*redis.Cmd
		_, err = client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, k := range keys {
				if !own.Is([]byte(k)) {
					done = append(done, script.EvalSha(ctx, p, []string{k}, from, hold.Milliseconds()))
				}
			}
			return nil
		})
		if err != nil {
			return f, fmt.Errorf("set expiry times: %w", err)
		}
		for _, c := range done {
			n, err := c.Int64()
			if err != nil {
				return f, fmt.Errorf("set expiry times: %w", err)
			}
			f.Exact += n
		}
		f.Keys += int64(len(done))
		if cursor = next; cursor == 0 {
			return f, nil
		}
	}
}
