package sink

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// steps are the units of a transaction with the commands between them that select databases. It begins and ends in home.
func (sh *shape) steps(units []*unit) []*unit {
	home := sh.dbs.home()
	cur := home
	out := make([]*unit, 0, len(units)+2)
	for _, u := range units {
		if u.db != cur {
			out = append(out, selectUnit(u, u.db))
		}
		out = append(out, u)
		cur = u.last
	}
	if cur != home {
		out = append(out, selectUnit(units[len(units)-1], home))
	}
	return out
}

// selectUnit selects a database before or behind a unit.
func selectUnit(by *unit, db uint32) *unit {
	return &unit{offset: by.offset, slot: by.slot, key: by.key, commands: resp.AppendCommand(nil, "SELECT", itoa(int64(db))), count: 1}
}

// tryDatabases makes sure that the databases which a run selects exist: within a transaction a SELECT that fails would let
// the commands behind it act on the database before.
func (w *worker) tryDatabases(c *conn, r *run) error {
	var q request
	try := func(db uint32) {
		if db == w.shape.dbs.home() || c.tried[db] {
			return
		}
		if c.tried == nil {
			c.tried = map[uint32]bool{}
		}
		c.tried[db] = true
		q.add("SELECT", itoa(int64(db)))
	}
	for _, u := range r.units {
		if !u.blind {
			try(u.db)
			try(u.last)
			for _, db := range u.more {
				try(db)
			}
		}
	}
	if r.bare {
		for _, u := range r.units {
			try(u.db)
		}
	}
	if q.n == 0 {
		return nil
	}
	q.add("SELECT", itoa(int64(w.shape.dbs.home())))
	err := c.do(&q, serverErr(c))
	if err != nil {
		c.broken = true // no one knows what is selected now
		if strings.Contains(err.Error(), "out of range") {
			return classed(Stop, "select a database: %w: the source has more databases than target node %s: raise databases there, or name those to carry in databases", err, c.addr)
		}
	}
	return err
}

// databasesAt are the databases of the target that hold keys and may hold ours.
func (w *worker) databasesAt(c *conn) (dbs []uint32, err error) {
	var q request
	q.add("INFO", "keyspace")
	err = c.do(&q, func(i int, r resp.Reply) error {
		if err := serverErr(c)(i, r); err != nil {
			return err
		}
		for _, n := range topology.ParseInfo(string(r.Str)).Databases() {
			if w.shape.dbs.holds(uint32(n)) {
				dbs = append(dbs, uint32(n))
			}
		}
		return nil
	})
	return dbs, err
}

const scanCount = 1000

// scanDatabase hands over the keys of one database page by page. A key may come twice. fn may use the connection.
func (w *worker) scanDatabase(c *conn, db uint32, fn func(keys [][]byte) error) error {
	for cursor := "0"; ; {
		var keys [][]byte
		var q request
		q.add("SELECT", itoa(int64(db)))
		q.add("SCAN", cursor, "COUNT", itoa(scanCount))
		q.add("SELECT", itoa(int64(w.shape.dbs.home())))
		err := c.do(&q, func(i int, r resp.Reply) error {
			if err := serverErr(c)(i, r); err != nil || i != 1 {
				return err
			}
			if len(r.Elems) != 2 {
				return fmt.Errorf("scan target node %s: answer makes no sense", c.addr)
			}
			cursor = string(r.Elems[0].Str)
			for _, k := range r.Elems[1].Elems {
				keys = append(keys, bytes.Clone(k.Str))
			}
			return nil
		})
		if err != nil {
			c.broken = true // no one knows what is selected now
			return err
		}
		if err := fn(keys); err != nil || cursor == "0" {
			return err
		}
	}
}

// only is the connection to the one node of a single target.
func (w *worker) only() *conn { return w.conns[w.holdings[0].addr] }

// eachKey hands over every key of the target in slots and in the databases given that is not our own.
func (w *worker) eachKey(dbs []uint32, slots *slot.Set, fn func(db uint32, key []byte) error, page func() error) error {
	for _, db := range dbs {
		err := w.scanDatabase(w.only(), db, func(keys [][]byte) error {
			for _, k := range keys {
				if own.Is(k) || !slots.Has(slot.Of(k)) {
					continue
				}
				if err := fn(db, k); err != nil {
					return err
				}
			}
			return page()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func nothing() error { return nil }

// sweepSingle is sweep for a single target: by database, since there is no list of a slot's keys.
func (w *worker) sweepSingle(ctx context.Context, c *control) error {
	dbs := []uint32{c.db}
	if c.kind == event.SnapshotEnd || c.every {
		var err error
		if dbs, err = w.databasesAt(w.only()); err != nil {
			return err
		}
	}
	return w.removeGhosts(ctx, c, func(fn func(h uint64) error) error {
		return w.eachKey(dbs, &c.slots, func(db uint32, key []byte) error { return fn(fingerprintAt(db, xxhash.Sum64(key))) }, nothing)
	}, func(isGhost func(h uint64) bool) error {
		var ghosts [][]byte
		var in uint32
		return w.eachKey(dbs, &c.slots, func(db uint32, key []byte) error {
			if isGhost(fingerprintAt(db, xxhash.Sum64(key))) {
				in, ghosts = db, append(ghosts, key)
			}
			return nil
		}, func() error {
			defer func() { ghosts = nil }()
			return w.unlinkAt(ctx, in, ghosts, c.offset)
		})
	})
}

// unlinkAt removes keys of one database. The control event is not carried out before all are gone, so no checkpoint says
// that it is.
func (w *worker) unlinkAt(ctx context.Context, db uint32, keys [][]byte, offset int64) error {
	if len(keys) == 0 {
		return nil
	}
	r := &run{slot: w.shape.slot, bare: true}
	for part := range slices.Chunk(keys, unlinkKeys) {
		args := append([][]byte{[]byte("UNLINK")}, part...)
		r.units = append(r.units, &unit{
			offset: offset, slot: r.slot, key: part[0], commands: resp.AppendCommandBytes(nil, args...), count: 1, blind: true, db: db, last: db,
		})
	}
	if err := w.apply(ctx, []*run{r}, offset); err != nil {
		return err
	}
	w.stat.swept.Add(int64(len(keys)))
	return nil
}

// foreignSingle is countForeign for a single target.
func (w *worker) foreignSingle() error {
	c := w.only()
	dbs, err := w.databasesAt(c)
	if err != nil {
		return err
	}
	var slots slot.Set
	slots.AddRange(w.slots)
	return w.eachKey(dbs, &slots, func(_ uint32, key []byte) error {
		return &ExistingKeysError{Keys: 1, Key: key}
	}, nothing)
}
