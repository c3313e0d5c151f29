package sink

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
)

// target is what the least capable node of a partition can load.
type target struct {
	// format is that of its own payloads; the zero value: not known, so that payloads go as they came.
	format rdb.Format
	// dialect is the commands that it understands.
	dialect dialect
	// name is for messages, such as "redis 7.0.15"; it may be empty.
	name string
}

func (t target) String() string {
	if t.name == "" {
		return fmt.Sprintf("RDB version %d", t.format.Version)
	}
	return fmt.Sprintf("%s, RDB version %d", t.name, t.format.Version)
}

// less tells whether t loads less than o. Nodes of both families in one target share what Redis 7.2 and Valkey 8 know.
func (t target) less(o target) bool {
	return t.format.Version < o.format.Version || t.format.Valkey != o.format.Valkey
}

func (t target) and(o target) target {
	d := t.dialect.and(o.dialect)
	t = t.andFormat(o)
	t.dialect = d
	return t
}

func (t target) andFormat(o target) target {
	switch {
	case t.format.Version == 0 || !t.less(o) && t.format != o.format:
		return o
	case t.format.Valkey != o.format.Valkey:
		if o.format.Version < t.format.Version {
			t.name = o.name
		}
		const common = 11
		t.format = rdb.Format{Version: min(t.format.Version, o.format.Version, common)}
	}
	return t
}

// rdbOfRedis72 is the RDB version of Redis 7.2.
const rdbOfRedis72 = 11

// learn finds out what the nodes can load: the footer of what they DUMP has their own version. The fences are there on each
// node, and hold a number.
func (w *worker) learn() (target, error) {
	var least target
	for _, s := range w.firsts() {
		var t target
		if err := w.ask(s, func(r resp.Reply) error {
			if r.IsNull() {
				return classed(Resync, "the target has lost the fence in slot %d", s)
			}
			_, _, version, err := rdb.SplitPayload(r.Str)
			t.format = rdb.FormatOf(version)
			return err
		}, []byte("DUMP"), own.Key(own.Fence, w.s.cfg.Name, s)); err != nil {
			return target{}, err
		}
		t.name = w.serverName(w.ownerOf(s))
		if t.dialect = dialectOf(t.name); t.dialect.version == 0 {
			t.dialect = leastDialect(t.format)
		} else if !t.dialect.valkey && t.dialect.version < sinceFieldExpiry.redis {
			// Forks of Redis 7.2 have given formats of their own the numbers of later ones of Redis.
			t.format.Version = min(t.format.Version, rdbOfRedis72)
		}
		least = least.and(t)
	}
	return least, nil
}

// serverName asks a node for its name and version; empty where it may not be asked.
func (w *worker) serverName(addr string) string {
	info, err := w.conns[addr].info("server")
	if err != nil || info == nil {
		return "" // a lost connection shows with the next command
	}
	vendor, version := info.Server()
	return strings.TrimSpace(vendor + " " + version)
}

// dialectOf reads "redis 7.0.15"; forks of Redis 7.2 count as it.
func dialectOf(name string) dialect {
	vendor, version, _ := strings.Cut(name, " ")
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return dialect{}
	}
	d := dialect{valkey: vendor == "valkey", version: 100*a + b}
	if vendor != "redis" && !d.valkey {
		d.version = min(d.version, 702)
	}
	return d
}

// leastDialect is what every server understands that writes payloads of a format: for a node that may not be asked for its
// version.
func leastDialect(f rdb.Format) dialect {
	switch {
	case f.Valkey:
		return dialect{valkey: true, version: 900}
	case f.Version >= 13:
		return dialect{version: 804}
	case f.Version >= 12:
		return dialect{version: 704}
	case f.Version >= 11:
		return dialect{version: 702}
	case f.Version >= 10:
		return dialect{version: 700}
	}
	return dialect{version: 500}
}

// and is what both understand. The zero dialect is not known and says nothing.
func (d dialect) and(o dialect) dialect {
	switch {
	case d.version == 0:
		return o
	case o.version == 0:
		return d
	case d.valkey == o.valkey:
		return dialect{d.valkey, min(d.version, o.version)}
	case d.valkey:
		return dialect{version: min(o.version, 702)}
	}
	return dialect{version: min(d.version, 702)}
}

// relearn makes sure that a changed topology did not bring a node that loads less than what was planned with.
func (w *worker) relearn() error {
	t, err := w.learn()
	if err != nil {
		return err
	}
	if w.target.format.Version > 0 && t.format != w.target.format && t.less(w.target) {
		return classed(Resync, "a node of the target can load less than the others (%s)", t)
	}
	return nil
}
