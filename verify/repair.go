package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
)

// repairName is the name in the staging keys of a repair.
const repairName = "verify"

// repair copies what differs from the source to the target, and looks at it again. What is equal then counts as repaired.
func (c *comparison) repair(ctx context.Context) error {
	c.mu.Lock()
	refs := slices.Collect(maps.Keys(c.found))
	if n := len(c.spare); n > 0 && len(c.found) >= c.opt.MaxRecheck {
		c.notice("more keys differ than are kept: repair again for those beyond")
	}
	c.mu.Unlock()
	was := map[ref][]Difference{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Workers)
	for n, r := range refs {
		c.mu.Lock()
		st := c.found[r]
		diffs := st.diffs
		was[r] = diffs
		c.mu.Unlock()
		g.Go(func() error {
			m := c.mender(r, uint64(n))
			err := c.patiently(gctx, func() error { return m.mend(gctx, diffs) })
			if _, one := errors.AsType[*cannotRepairError](err); one {
				c.notice(fmt.Sprintf("repair %s: %v", short(r.key), err))
				return nil
			}
			if err != nil {
				return fmt.Errorf("repair %s: %w", short(r.key), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.mu.Lock()
	for _, st := range c.found {
		st.looks, st.unchanged = 0, false
	}
	c.mu.Unlock()
	if err := c.recheck(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for r, diffs := range was {
		if _, left := c.found[r]; left {
			continue
		}
		c.repaired++
		for _, d := range diffs {
			d.Repaired = true
			if c.opt.Each != nil {
				c.opt.Each(d)
			}
		}
	}
	for _, st := range c.found { // it was not of use, and that is no write in flight
		st.looks, st.unchanged = 2, true
	}
	return nil
}

// cannotRepairError says that the target cannot hold a value; the others can be repaired for all that.
type cannotRepairError struct{ text string }

func (e *cannotRepairError) Error() string { return e.text }

// mender copies one key.
type mender struct {
	c        *comparison
	from, to *reader
	key      string
	size     int64  // in memory, -1 when unknown
	stage    string // where a value is built that cannot be restored
}

func (c *comparison) mender(r ref, n uint64) *mender {
	return &mender{
		c: c, key: r.key, from: &reader{c.from, c.from.client(r.pair.From)}, to: &reader{c.to, c.to.client(r.pair.To)},
		stage: string(own.StagingKey(repairName, n, slot.Of([]byte(r.key)))),
	}
}

// mend makes the target's key what the source's is.
func (m *mender) mend(ctx context.Context, diffs []Difference) error {
	typ, err := m.from.c.Type(ctx, m.key).Result()
	if err != nil {
		return err
	}
	if typ == "none" {
		return m.to.c.Unlink(ctx, m.key).Err()
	}
	expiry, err := m.expiry(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(diffs, func(d Difference) bool { return d.Kind != Expiry }) {
		return m.setExpiry(ctx, m.to.c, m.key, expiry)
	}
	if m.size, err = m.from.c.MemoryUsage(ctx, m.key).Result(); err != nil {
		if !refused(err) && !isNil(err) {
			return err
		}
		m.size = -1
	}
	opaque := lengthCommand(typ) == "" // its payload is all that is known of it
	small := m.size >= 0 && m.size < m.c.opt.LargeBytes && m.from.offer.dump
	if opaque || small && (typ != "hash" || m.c.opt.ExpiryHold == 0) {
		done, err := m.restore(ctx, expiry)
		if done || err != nil {
			return err
		}
	}
	if opaque {
		return &cannotRepairError{"the target does not restore this value of type " + typ}
	}
	err = m.rebuild(ctx, typ, expiry)
	if err != nil {
		_ = m.to.c.Unlink(context.WithoutCancel(ctx), m.stage).Err() // best effort: it counts nowhere
	}
	return err
}

// expiry is when the target's key has to expire, 0: never.
func (m *mender) expiry(ctx context.Context) (int64, error) {
	meta, err := m.from.metaAway(ctx, m.from.db(), m.key)
	if err != nil || meta.expiry == 0 {
		return 0, err
	}
	return meta.expiry + m.c.opt.ExpiryHold.Milliseconds(), nil
}

func (s *reader) db() int {
	if c, ok := s.c.(*redis.Client); ok {
		return c.Options().DB
	}
	return 0
}

func (m *mender) setExpiry(ctx context.Context, c redis.Cmdable, key string, at int64) error {
	if at == 0 {
		return c.Persist(ctx, key).Err()
	}
	return c.PExpireAt(ctx, key, time.UnixMilli(at)).Err()
}

// restore copies the payload; false if the target does not take it.
func (m *mender) restore(ctx context.Context, expiry int64) (bool, error) {
	payload, err := m.from.c.Dump(ctx, m.key).Result()
	if isNil(err) {
		return true, m.to.c.Unlink(ctx, m.key).Err()
	}
	if err != nil {
		return false, err
	}
	err = m.to.c.Do(ctx, "restore", m.key, expiry, payload, "replace", "absttl").Err()
	if err != nil && refused(err) && !hasPrefix(err, "NOPERM") {
		return false, nil // another version, or a value it does not know
	}
	return true, err
}

// rebuild reads the value in pieces and writes it under a staging key, which then takes the key's place.
func (m *mender) rebuild(ctx context.Context, typ string, expiry int64) error {
	if err := m.to.c.Unlink(ctx, m.stage).Err(); err != nil {
		return err
	}
	var err error
	switch typ {
	case "string":
		err = m.rebuildString(ctx)
	case "list":
		err = m.rebuildList(ctx)
	case "hash", "set", "zset":
		err = m.rebuildMembers(ctx, m.pair(typ))
	case "stream":
		err = m.rebuildStream(ctx)
	default:
		return fmt.Errorf("type %s cannot be rebuilt", typ)
	}
	if err != nil {
		return err
	}
	if err := m.setExpiry(ctx, m.to.c, m.stage, expiry); err != nil {
		return err
	}
	// Not a plain RENAME, which would block for as long as the deletion of a large key takes. Both keys are of one slot.
	_, err = m.to.c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Unlink(ctx, m.key)
		p.Rename(ctx, m.stage, m.key)
		return nil
	})
	return err
}

func (m *mender) rebuildString(ctx context.Context) error {
	for at := int64(0); ; at += pieceBytes {
		piece, err := m.from.c.GetRange(ctx, m.key, at, at+pieceBytes-1).Result()
		if err != nil {
			return err
		}
		if at == 0 {
			err = m.to.c.Set(ctx, m.stage, piece, 0).Err()
		} else { // not APPEND, which the client library may send twice
			err = m.to.c.SetRange(ctx, m.stage, at, piece).Err()
		}
		if err != nil {
			return err
		}
		if len(piece) < pieceBytes {
			return nil
		}
	}
}

func (m *mender) rebuildList(ctx context.Context) error {
	n, err := m.from.c.LLen(ctx, m.key).Result()
	if err != nil {
		return err
	}
	step := m.pair("list").pieceLen(n)
	for at := int64(0); ; at += step {
		items, err := m.from.c.LRange(ctx, m.key, at, at+step-1).Result()
		if err != nil {
			return err
		}
		if len(items) == 0 {
			return nil
		}
		args := []any{"rpush", m.stage}
		for _, i := range items {
			args = append(args, i)
		}
		if err := m.to.c.Do(ctx, args...).Err(); err != nil {
			return err
		}
	}
}

func (m *mender) pair(typ string) pair { return pair{key: m.key, typ: typ, size: m.size} }

func (m *mender) rebuildMembers(ctx context.Context, p pair) error {
	command := map[string]string{"hash": "hset", "set": "sadd", "zset": "zadd"}[p.typ]
	n, err := m.from.memberN(ctx, p)
	if err != nil {
		return err
	}
	step := p.pieceLen(n)
	for cursor := uint64(0); ; {
		ms, next, err := m.from.members(ctx, p, cursor, step)
		if err != nil {
			return err
		}
		for some := range slices.Chunk(ms, pieceN) {
			args := []any{command, m.stage}
			names := make([]string, len(some))
			for i, e := range some {
				names[i] = e.name
				switch p.typ {
				case "hash":
					args = append(args, e.name, e.value)
				case "set":
					args = append(args, e.name)
				default:
					args = append(args, e.value, e.name)
				}
			}
			if err := m.to.c.Do(ctx, args...).Err(); err != nil {
				return err
			}
			if p.typ == "hash" {
				if err := m.fieldExpiries(ctx, names); err != nil {
					return err
				}
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// fieldExpiries copies the expiry of fields where both sides know such.
func (m *mender) fieldExpiries(ctx context.Context, names []string) error {
	if !m.from.offer.fieldExpiry {
		return nil
	}
	times, err := m.from.fieldExpiries(ctx, m.key, names)
	if err != nil {
		return err
	}
	_, err = m.to.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, at := range times {
			if at == 0 {
				continue
			}
			if !m.to.offer.fieldExpiry {
				return &cannotRepairError{"the target knows no expiry of hash fields"}
			}
			p.Do(ctx, "hpexpireat", m.stage, at+m.c.opt.ExpiryHold.Milliseconds(), "fields", 1, names[i])
		}
		return nil
	})
	return err
}

// repairFunctions gives every master of the target the source's libraries.
func (c *comparison) repairFunctions(ctx context.Context, names []string, libs map[string]string) error {
	// Deletions first: a function may have moved from one library to another.
	slices.SortStableFunc(names, func(a, b string) int {
		_, keepA := libs[a]
		_, keepB := libs[b]
		switch {
		case keepA == keepB:
			return 0
		case keepA:
			return 1
		default:
			return -1
		}
	})
	for _, n := range c.to.now().nodes {
		for _, name := range names {
			cn, err := n.take(ctx, 0)
			if err != nil {
				return err
			}
			code, ok := libs[name]
			if ok {
				_, err = cn.one("FUNCTION", "LOAD", "REPLACE", code)
			} else {
				_, err = cn.one("FUNCTION", "DELETE", name)
				if err != nil && strings.Contains(err.Error(), "not found") {
					err = nil // this master never had it
				}
			}
			n.give(cn, err == nil)
			if err != nil {
				return fmt.Errorf("repair library %s: %w", short(name), err)
			}
		}
	}
	return nil
}
