package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/redis/own"
)

// side is one of the two deployments.
type side struct {
	name string
	c    redis.UniversalClient

	// What all masters offer; a command that is renamed or forbidden counts as not offered.
	expireTime  bool // PEXPIRETIME, from 7.0
	memory      bool // MEMORY USAGE
	dump        bool
	multiMember bool // SMISMEMBER and ZMSCORE, from 6.2
	fieldExpiry bool // HPEXPIRETIME, from 7.4 and Valkey 9
}

// newSide connects and asks the masters what they offer.
func newSide(ctx context.Context, name string, c redis.UniversalClient) (*side, error) {
	s := &side{name: name, c: c}
	if cc, ok := c.(*redis.ClusterClient); ok && cc.Options().ReadOnly {
		return nil, fmt.Errorf("compare %s: the client reads from replicas; a comparison needs masters", name)
	}
	masters, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	if len(masters) == 0 {
		return nil, fmt.Errorf("compare %s: no masters", name)
	}
	const none = "redriver-verify-probe"
	for _, p := range []struct {
		has  *bool
		args []any
	}{
		{&s.expireTime, []any{"pexpiretime", none}},
		{&s.memory, []any{"memory", "usage", none}},
		{&s.dump, []any{"dump", none}},
		{&s.multiMember, []any{"zmscore", none, "m"}},
		{&s.fieldExpiry, []any{"hpexpiretime", none, "fields", 1, "f"}},
	} {
		*p.has = true
		for _, m := range masters {
			err := m.Do(ctx, p.args...).Err()
			switch {
			case err == nil, isNil(err), redirected(err):
			case refused(err):
				*p.has = false
			default:
				return nil, fmt.Errorf("ask %s %s for %v: %w", name, m.Options().Addr, p.args[0], err)
			}
		}
	}
	return s, nil
}

// redirected: in a cluster the probe's key may be anywhere; the command was understood.
func redirected(err error) bool {
	return hasPrefix(err, "MOVED ", "ASK ", "CLUSTERDOWN", "TRYAGAIN")
}

func refused(err error) bool {
	var re redis.Error
	return errors.As(err, &re) && hasPrefix(err, "ERR ", "NOPERM")
}

func hasPrefix(err error, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(err.Error(), p) })
}

func (s *side) masters(ctx context.Context) ([]*redis.Client, error) {
	switch c := s.c.(type) {
	case *redis.ClusterClient:
		c.ReloadState(ctx)
		var mu sync.Mutex
		var ms []*redis.Client
		err := c.ForEachMaster(ctx, func(_ context.Context, m *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			ms = append(ms, m)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list masters of %s: %w", s.name, err)
		}
		return ms, nil
	case *redis.Client:
		return []*redis.Client{c}, nil
	default:
		return nil, fmt.Errorf("compare %s: no comparison through a %T", s.name, s.c)
	}
}

// topology describes who owns which slots, so that two descriptions are equal when nothing moved.
func (s *side) topology(ctx context.Context) (string, error) {
	cc, ok := s.c.(*redis.ClusterClient)
	if !ok {
		return "", nil
	}
	slots, err := cc.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS is not there before Redis 7.0
	if err != nil {
		return "", fmt.Errorf("read slots of %s: %w", s.name, err)
	}
	var lines []string
	for _, r := range slots {
		if len(r.Nodes) > 0 {
			lines = append(lines, fmt.Sprintf("%05d-%05d %s %s", r.Start, r.End, r.Nodes[0].ID, r.Nodes[0].Addr))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// scan gives pages of all user keys of all masters to fn, concurrently.
func (s *side) scan(ctx context.Context, c *comparison, fn func(context.Context, []string) error) error {
	masters, err := s.masters(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range masters {
		// Bound: Workers pages are compared and one waits. The scanner ends with the cursor or with ctx and closes
		// the channel, which ends the workers.
		pages := make(chan []string)
		g.Go(func() error {
			defer close(pages)
			return s.scanMaster(ctx, c, m, pages)
		})
		for range c.opt.Workers {
			g.Go(func() error {
				for keys := range pages {
					if err := fn(ctx, keys); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	return g.Wait()
}

func (s *side) scanMaster(ctx context.Context, c *comparison, m *redis.Client, pages chan<- []string) error {
	var cursor uint64
	var page []string
	send := func() error {
		if len(page) == 0 {
			return nil
		}
		select {
		case pages <- page:
			page = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for {
		keys, next, err := m.Scan(ctx, cursor, "", int64(c.opt.Page)).Result()
		if err != nil {
			return fmt.Errorf("scan %s %s: %w", s.name, m.Options().Addr, err)
		}
		c.scanned.Add(int64(len(keys)))
		for _, k := range keys {
			if own.Is([]byte(k)) {
				c.own.Add(1)
				continue
			}
			page = append(page, k)
			if len(page) == c.opt.Page {
				if err := send(); err != nil {
					return err
				}
			}
		}
		if next == 0 {
			return send()
		}
		cursor = next
	}
}

// absent returns those of keys that the side does not have.
func (s *side) absent(ctx context.Context, keys []string) ([]string, error) {
	cmds := make([]*redis.IntCmd, len(keys))
	p := s.c.Pipeline()
	for i, k := range keys {
		cmds[i] = p.Exists(ctx, k)
	}
	if err := s.exec(ctx, p, "look for keys"); err != nil {
		return nil, err
	}
	var only []string
	for i, k := range keys {
		if cmds[i].Val() == 0 {
			only = append(only, k)
		}
	}
	return only, nil
}

// exec runs a pipeline of reads; every reply is a value or nil afterwards.
func (s *side) exec(ctx context.Context, p redis.Pipeliner, what string) error {
	cmds, err := p.Exec(ctx)
	if err != nil && !isNil(err) {
		return fmt.Errorf("%s at %s: %w", what, s.name, err)
	}
	// Exec returns the first error, which may have been a nil reply.
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !isNil(err) {
			return fmt.Errorf("%s at %s: %w", what, s.name, err)
		}
	}
	return nil
}

// meta is what decides how a key is compared.
type meta struct {
	typ    string // "" when there is no such key
	expiry int64  // Unix milliseconds, 0 for none
	size   int64  // memory, roughly; -1 when unknown
}

// metas reads the meta of keys. Without PEXPIRETIME expiry is computed by our clock, and the second value tells by
// how much it may be off.
func (s *side) metas(ctx context.Context, keys []string) ([]meta, time.Duration, error) {
	p := s.c.Pipeline()
	types := make([]*redis.StatusCmd, len(keys))
	expiries := make([]*redis.IntCmd, len(keys))
	sizes := make([]*redis.IntCmd, len(keys))
	expiry := "pttl"
	if s.expireTime {
		expiry = "pexpiretime"
	}
	for i, k := range keys {
		types[i] = p.Type(ctx, k)
		expiries[i] = redis.NewIntCmd(ctx, expiry, k)
		expiries[i].SetFirstKeyPos(1)
		_ = p.Process(ctx, expiries[i]) // queues only
		if s.memory {
			sizes[i] = p.MemoryUsage(ctx, k)
		}
	}
	sent := time.Now()
	if err := s.exec(ctx, p, "read types"); err != nil {
		return nil, 0, err
	}
	spent := time.Since(sent)
	ms := make([]meta, len(keys))
	for i := range keys {
		typ, e := types[i].Val(), expiries[i].Val()
		// -2: the key went between the two commands.
		if typ == "none" || e == -2 {
			continue
		}
		ms[i] = meta{typ: typ, size: -1}
		switch {
		case e < 0:
		case s.expireTime:
			ms[i].expiry = e
		default:
			ms[i].expiry = sent.Add(spent/2).UnixMilli() + e
		}
		if s.memory && sizes[i].Err() == nil {
			ms[i].size = sizes[i].Val()
		}
	}
	if s.expireTime {
		spent = 0
	}
	return ms, spent, nil
}
