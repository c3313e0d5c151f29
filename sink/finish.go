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

const (
	finishPage = 500
	// sinksPrefix begins the names of all connections of sinks, see clientName.
	sinksPrefix = "redriver."
)

// Finished tells what Finish did: the keys it has seen, and those keys and fields of hashes whose time is exact now.
type Finished struct{ Keys, Exact, Fields int64 }

// Errors of Finish.
var (
	// ErrSinkRuns tells that a sink is still connected to a target that is to be finished.
	ErrSinkRuns = errors.New("a sink is still writing to the target")
	// ErrNothingToFinish tells that no sink has left its records at the target.
	ErrNothingToFinish = errors.New("no sink has written to this target, or it is finished already")
)

// Finish ends a copy: node by node it sets exact expiry times where they were written with a hold, and then removes what
// the sinks keep at that node, so that a node is never done twice. Before
// Redis 7.0 a server tells what is left of a time and not the time, which may come out a millisecond off.
//
// Held times are those from hold less half of MinExpiryHold on, counted from now. A user's own expiry may be as far away:
// it is changed by mistake only if Finish was interrupted within that node, or the scan shows the key, or the field, twice.
func Finish(ctx context.Context, d *topology.Dialer, seeds []string) (Finished, error) {
	top, err := topology.Find(ctx, d, seeds, nil)
	if err != nil {
		return Finished{}, fmt.Errorf("finish: look at the target: %w", err)
	}
	notes, exact := map[string]noted{}, false
	for i := range top.Shards {
		addr := top.Shards[i].Master.Addr
		n, err := finishCheck(ctx, d, addr)
		if err != nil {
			return Finished{}, fmt.Errorf("finish %s: %w", addr, err)
		}
		if n.hold >= 0 {
			notes[addr] = n
			exact = exact || n.hold == 0
		}
	}
	if len(notes) == 0 {
		return Finished{}, fmt.Errorf("finish: %w", ErrNothingToFinish)
	}
	if exact { // sinks without a hold may have switched import mode on
		if err := endImport(ctx, d, top); err != nil {
			return Finished{}, fmt.Errorf("finish: %w", err)
		}
	}
	var all Finished
	for addr, note := range notes {
		n, err := finishNode(ctx, d, addr, note)
		all.Keys += n.Keys
		all.Exact += n.Exact
		all.Fields += n.Fields
		if err != nil {
			return all, fmt.Errorf("finish %s: %w: run it again, what is done stays done", addr, err)
		}
	}
	return all, nil
}

// finishCheck makes sure that no sink is connected to the node, and reads what they have noted there.
func finishCheck(ctx context.Context, d *topology.Dialer, addr string) (noted, error) {
	if err := noSinkAt(ctx, d, addr); err != nil {
		return noted{}, err
	}
	return notesAt(ctx, d, addr)
}

// noSinkAt looks for a sink among the connections of a node.
func noSinkAt(ctx context.Context, d *topology.Dialer, addr string) error {
	client := d.Client(addr)
	defer func() { _ = client.Close() }()
	list, err := client.ClientList(ctx).Result()
	if err != nil {
		return fmt.Errorf("list clients: %w", err)
	}
	if i := strings.Index(list, "name="+sinksPrefix); i >= 0 {
		name, _, _ := strings.Cut(list[i+len("name="):], " ")
		return fmt.Errorf("%w: connection %s: stop it first", ErrSinkRuns, name)
	}
	return nil
}

// NoneWrites returns ErrSinkRuns if a sink is connected to a master of the target.
func NoneWrites(ctx context.Context, d *topology.Dialer, seeds []string) error {
	return eachMaster(ctx, d, seeds, func(addr string) (bool, error) {
		return true, noSinkAt(ctx, d, addr)
	})
}

// HoldAt reads by how much sinks have written expiry times later at a target; 0 if none has records at its first master,
// where every sink that writes to a target has some.
func HoldAt(ctx context.Context, d *topology.Dialer, seeds []string) (hold time.Duration, err error) {
	err = eachMaster(ctx, d, seeds, func(addr string) (bool, error) {
		n, err := notesAt(ctx, d, addr)
		hold = max(n.hold, 0)
		return false, err
	})
	return hold, err
}

// eachMaster calls fn for the masters of the target until it is false.
func eachMaster(ctx context.Context, d *topology.Dialer, seeds []string, fn func(addr string) (bool, error)) error {
	top, err := topology.Find(ctx, d, seeds, nil)
	if err != nil {
		return err
	}
	for i := range top.Shards {
		if top.Shards[i].Slots.IsEmpty() {
			continue
		}
		addr := top.Shards[i].Master.Addr
		more, err := fn(addr)
		if err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// noted is what the watermarks of a master say: by how much expiry times are held there, -1 without any, and in which of
// its databases.
type noted struct {
	hold time.Duration
	dbs  []int
}

// notesAt reads the watermarks of a master, in whichever database they are.
func notesAt(ctx context.Context, d *topology.Dialer, addr string) (noted, error) {
	client := d.Client(addr)
	present, err := databasesOf(ctx, client)
	_ = client.Close()
	n := noted{hold: -1}
	if err != nil {
		return n, err
	}
	filled := map[int]bool{}
	for _, db := range present {
		client := d.ClientOf(addr, db)
		maps, err := n.read(ctx, client)
		_ = client.Close()
		if err != nil {
			return n, err
		}
		for _, m := range maps {
			for _, p := range present {
				filled[p] = filled[p] || m.holds(uint32(p))
			}
		}
	}
	for _, db := range present {
		if filled[db] {
			n.dbs = append(n.dbs, db)
		}
	}
	return n, nil
}

// databasesOf lists the databases of a server that hold keys.
func databasesOf(ctx context.Context, client *redis.Client) (dbs []int, err error) {
	text, err := client.Info(ctx, "keyspace").Result()
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	return topology.ParseInfo(text).Databases(), nil
}

// read reads the watermarks of one database and returns the maps that they note.
func (n *noted) read(ctx context.Context, client *redis.Client) (maps []Databases, err error) {
	err = scanKeys(ctx, client, "redriver!w!*", func(keys []string) error {
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
			if n.hold >= 0 && n.hold != m.hold {
				return fmt.Errorf("sinks with different holds have written here (%s and %s): nobody can tell their keys apart", n.hold, m.hold)
			}
			n.hold = m.hold
			dbs, err := ParseDatabases(m.databases)
			if err != nil {
				return err
			}
			maps = append(maps, dbs)
		}
		return nil
	})
	return maps, err
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

// finishNode sets exact times in all databases of a node, and removes the sinks' own keys behind that.
func finishNode(ctx context.Context, d *topology.Dialer, addr string, n noted) (f Finished, err error) {
	ours := map[int][]string{}
	for _, db := range n.dbs {
		client := d.ClientOf(addr, db)
		ours[db], err = f.database(ctx, client, n.hold)
		_ = client.Close()
		if err != nil {
			return f, err
		}
	}
	for db, keys := range ours {
		client := d.ClientOf(addr, db)
		_, err = client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, k := range keys {
				p.Unlink(ctx, k)
			}
			return nil
		})
		_ = client.Close()
		if err != nil {
			return f, fmt.Errorf("remove the sinks' own keys: %w", err)
		}
	}
	return f, nil
}

// database sets the exact times of one database, and returns the sinks' own keys in it.
func (f *Finished) database(ctx context.Context, client *redis.Client, hold time.Duration) (ours []string, err error) {
	e, err := newExacter(ctx, client, hold)
	if err != nil {
		return nil, err
	}
	err = scanKeys(ctx, client, "", func(keys []string) error {
		users := keys[:0:0]
		for _, k := range keys {
			if own.Is([]byte(k)) {
				ours = append(ours, k)
			} else {
				users = append(users, k)
			}
		}
		f.Keys += int64(len(users))
		if hold == 0 {
			return nil
		}
		keysSet, fieldsSet, err := e.page(ctx, users)
		f.Exact += keysSet
		f.Fields += fieldsSet
		return err
	})
	return ours, err
}
