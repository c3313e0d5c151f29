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

// Errors of Finish.
var (
	// ErrSinkRuns tells that a sink is still connected to a target that is to be finished.
	ErrSinkRuns = errors.New("a sink is still writing to the target")
	// ErrNothingToFinish tells that no sink has left its records at the target.
	ErrNothingToFinish = errors.New("no sink has written to this target, or it is finished already")
)

// Finish ends a copy: node by node it sets exact expiry times where they were written with a hold, and then removes what
// the sinks keep at that node, so that a node is never done twice. It needs Redis 7.0.
//
// Held times are those from hold less half of MinExpiryHold on, counted from now. A user's own expiry may be as far away:
// it is changed by mistake only if Finish was interrupted within that node, or the scan shows the key twice.
func Finish(ctx context.Context, d *topology.Dialer, seeds []string) (Finished, error) {
	top, err := topology.Discover(ctx, d, seeds)
	if err != nil {
		return Finished{}, fmt.Errorf("finish: look at the target: %w", err)
	}
	holds := map[string]time.Duration{}
	for i := range top.Shards {
		addr := top.Shards[i].Master.Addr
		hold, err := finishCheck(ctx, d, addr)
		if err != nil {
			return Finished{}, fmt.Errorf("finish %s: %w", addr, err)
		}
		if hold >= 0 {
			holds[addr] = hold
		}
	}
	if len(holds) == 0 {
		return Finished{}, fmt.Errorf("finish: %w", ErrNothingToFinish)
	}
	var all Finished
	for addr, hold := range holds {
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

// finishCheck makes sure that no sink is connected to the node, and reads by how much expiry times there are held; -1 if
// no sink has records there.
func finishCheck(ctx context.Context, d *topology.Dialer, addr string) (time.Duration, error) {
	client := d.Client(addr)
	defer func() { _ = client.Close() }()
	list, err := client.ClientList(ctx).Result()
	if err != nil {
		return 0, fmt.Errorf("list clients: %w", err)
	}
	if err := noSinkIn(list); err != nil {
		return 0, err
	}
	return holdAt(ctx, client)
}

// noSinkIn looks for a sink in what CLIENT LIST answers.
func noSinkIn(list string) error {
	if i := strings.Index(list, "name="+sinksPrefix); i >= 0 {
		name, _, _ := strings.Cut(list[i+len("name="):], " ")
		return fmt.Errorf("%w: connection %s: stop it first", ErrSinkRuns, name)
	}
	return nil
}

// NoneWrites returns ErrSinkRuns if a sink is connected to a master of the target.
func NoneWrites(ctx context.Context, d *topology.Dialer, seeds []string) error {
	return eachMaster(ctx, d, seeds, func(client *redis.Client) (bool, error) {
		list, err := client.ClientList(ctx).Result()
		if err != nil {
			return false, fmt.Errorf("list clients: %w", err)
		}
		return true, noSinkIn(list)
	})
}

// HoldAt reads by how much sinks have written expiry times later at a target; 0 if none has records at its first master,
// where every sink that writes to a target has some.
func HoldAt(ctx context.Context, d *topology.Dialer, seeds []string) (hold time.Duration, err error) {
	err = eachMaster(ctx, d, seeds, func(client *redis.Client) (bool, error) {
		hold, err = holdAt(ctx, client)
		hold = max(hold, 0)
		return false, err
	})
	return hold, err
}

// eachMaster calls fn for the masters of a cluster, or for a single server, until it is false.
func eachMaster(ctx context.Context, d *topology.Dialer, seeds []string, fn func(*redis.Client) (bool, error)) error {
	addrs := seeds[:1]
	top, err := topology.Discover(ctx, d, seeds)
	if err == nil {
		addrs = nil
		for i := range top.Shards {
			if !top.Shards[i].Slots.IsEmpty() {
				addrs = append(addrs, top.Shards[i].Master.Addr)
			}
		}
	} else if !errors.Is(err, topology.ErrNotCluster) {
		return err
	}
	for _, addr := range addrs {
		client := d.Client(addr)
		more, err := fn(client)
		_ = client.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// holdAt reads the hold that the watermarks of a master note; -1 without one.
func holdAt(ctx context.Context, client *redis.Client) (time.Duration, error) {
	hold := time.Duration(-1)
	err := scanKeys(ctx, client, "redriver!w!*", func(keys []string) error {
		for _, k := range keys {
			if !own.Is([]byte(k)) {
				continue
			}
			text, err := client.Get(ctx, k).Result()
			if err != nil {
				return fmt.Errorf("read watermark: %w", err)
			}
			m, err := parseWatermark(text)
			if err != nil {
				return err
			}
			if hold >= 0 && hold != m.hold {
				return fmt.Errorf("sinks with different holds have written here (%s and %s): nobody can tell their keys apart", hold, m.hold)
			}
			hold = m.hold
		}
		return nil
	})
	return hold, err
}

func scanKeys(ctx context.Context, client *redis.Client, match string, fn func(keys []string) error) error {
	for cursor := uint64(0); ; {
		keys, next, err := client.Scan(ctx, cursor, match, finishPage).Result()
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if err := fn(keys); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func finishNode(ctx context.Context, client *redis.Client, hold time.Duration) (f Finished, err error) {
	script := redis.NewScript(exact)
	if err := script.Load(ctx, client).Err(); err != nil {
		return f, fmt.Errorf("load script: %w", err)
	}
	from := time.Now().Add(hold - MinExpiryHold/2).UnixMilli()
	var ours []string
	err = scanKeys(ctx, client, "", func(keys []string) error {
		var done []*redis.Cmd
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, k := range keys {
				switch {
				case own.Is([]byte(k)):
					ours = append(ours, k)
				case hold > 0:
					done = append(done, script.EvalSha(ctx, p, []string{k}, from, hold.Milliseconds()))
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("set expiry times: %w", err)
		}
		for _, c := range done {
			n, err := c.Int64()
			if err != nil {
				return fmt.Errorf("set expiry times: %w", err)
			}
			f.Exact += n
		}
		f.Keys += int64(len(keys))
		return nil
	})
	if err != nil {
		return f, err
	}
	f.Keys -= int64(len(ours))
	_, err = client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, k := range ours {
			p.Unlink(ctx, k)
		}
		return nil
	})
	if err != nil {
		return f, fmt.Errorf("remove the sinks' own keys: %w", err)
	}
	return f, nil
}
