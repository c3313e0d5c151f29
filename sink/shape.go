package sink

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
)

// A target outside a cluster has one master and several databases. All units of a partition are one run there, in the
// order of the log, with one checkpoint in the partition's first slot: a unit may have keys of any slot, and what it does
// may depend on any other. The sink's own keys lie in one database, home.
//
// Invariant: between two transactions a connection is in home. What acts on another database stands in a transaction that
// selects it, goes back, and writes the checkpoint there; whether it was executed or not, home is selected behind it. So no
// write can meet a database that an error before it has left selected.

// shape is what a worker's intake knows of the target.
type shape struct {
	single bool
	name   string    // of the sink
	slot   slot.Slot // the partition's first: where its own keys lie in a single target
	dbs    Databases
	skip   bool // what goes nowhere is left out
}

// shapeOf tells the shape of a target to the worker of a partition that begins with slot first.
func (s *Sink) shapeOf(top *topology.Topology, first slot.Slot) shape {
	return shape{single: top.Single, name: s.cfg.Name, slot: first, dbs: s.cfg.Databases, skip: s.cfg.Unmapped == UnmappedSkip}
}

// databases is what the watermarks note: nothing for a cluster, which has one.
func (sh *shape) databases() string {
	if !sh.single {
		return ""
	}
	return sh.dbs.String()
}

// goes is the database of the target that one of the source goes into, if it goes anywhere.
func (sh *shape) goes(db uint32) (to uint32, ok bool) {
	to, ok = sh.dbs.Target(db)
	return to, ok && (sh.single || to == 0)
}

// slotOf is whose checkpoint a unit of a slot writes.
func (sh *shape) slotOf(s slot.Slot) slot.Slot {
	if sh.single {
		return sh.slot
	}
	return s
}

// atHome tells whether a database is that of our own keys: only there may a unit of a single target go without a checkpoint.
func (sh *shape) atHome(db uint32) bool { return !sh.single || db == sh.dbs.home() }

// nowhere is what a write is in a database that does not go anywhere: an error, or nothing where it is left out.
func (sh *shape) nowhere(db uint32, command string) error {
	if sh.skip {
		return nil
	}
	why := whyUnnamed
	if !sh.single {
		why = whyCluster
	}
	return &DatabaseError{DB: db, Command: command, Why: why}
}

// fingerprint of a key of a database of the source, for what a snapshot has named.
func (sh *shape) fingerprint(db uint32, hash uint64) uint64 {
	to, _ := sh.dbs.Target(db)
	return fingerprintAt(to, hash)
}

func fingerprintAt(target uint32, hash uint64) uint64 {
	const odd = 0x9e3779b97f4a7c15
	return hash ^ uint64(target)*odd
}

// place puts a unit, made of an event of database db, where it belongs. A unit of which nothing is left has no commands.
func (sh *shape) place(u *unit, e *event.Event) error {
	if u.count == 0 {
		return nil
	}
	to, ok := sh.goes(e.DB)
	switch {
	case e.Kind == event.Unit && !u.blind && (u.count > 1 || sh.crosses(u)):
		// The databases have to be followed from command to command.
		if err := sh.placeCommands(u, e.DB); err != nil {
			return err
		}
	case !ok:
		err := sh.nowhere(e.DB, u.commandAt(0))
		u.count, u.commands = 0, nil
		return err
	default:
		u.db, u.last = to, to
	}
	if !sh.single {
		return nil
	}
	u.slot = sh.slot
	if home := sh.dbs.home(); u.db != home || u.last != home || len(u.more) > 0 {
		u.blind = false
	}
	return nil
}

// placer rewrites a unit's commands for the databases of the target.
type placer struct {
	sh   *shape
	u    *unit
	out  []byte
	n    int
	from uint32 // database of the source that the next command acts on
	cur  uint32 // database of the target that is selected, valid once n > 0
}

// crosses tells whether the first command speaks of databases.
func (sh *shape) crosses(u *unit) bool {
	var scratch [16][]byte
	_, args, err := resp.ParseCommand(u.commands, scratch[:0])
	return err == nil && len(args) > 0 && actsOnDatabases(args)
}

// placeCommands follows the databases through a unit.
func (sh *shape) placeCommands(u *unit, db uint32) error {
	p := placer{sh: sh, u: u, from: db}
	var args [][]byte
	for rest := u.commands; len(rest) > 0; {
		n, a, err := resp.ParseCommand(rest, args[:0])
		if err != nil {
			return fmt.Errorf("parse command of unit: %w", err)
		}
		if err := p.command(a, rest[:n]); err != nil {
			return err
		}
		args, rest = a, rest[n:]
	}
	u.commands, u.count, u.last = p.out, p.n, p.cur
	return nil
}

func nameOf(args [][]byte) string { return fmt.Sprintf("%.40s", bytes.ToUpper(args[0])) }

func actsOnDatabases(args [][]byte) bool {
	switch name := args[0]; len(name) {
	case 4:
		return resp.IsWord(name, "MOVE") || resp.IsWord(name, "COPY")
	case 6:
		return resp.IsWord(name, "SELECT") || resp.IsWord(name, "SWAPDB")
	case 7:
		return resp.IsWord(name, "FLUSHDB")
	case 8:
		return resp.IsWord(name, "FLUSHALL")
	}
	return false
}

var errArguments = errors.New("its arguments make no sense")

func (p *placer) command(args [][]byte, raw []byte) error {
	switch name := args[0]; {
	case resp.IsWord(name, "SELECT"):
		db, err := databaseOf(args, 1)
		p.from = db
		return err
	case resp.IsWord(name, "SWAPDB"):
		return p.swap(args)
	case resp.IsWord(name, "FLUSHDB"):
		return p.flush()
	case resp.IsWord(name, "FLUSHALL"):
		return &DatabaseError{DB: p.from, Command: "FLUSHALL", Why: "within a transaction that writes too it cannot be replayed"}
	case resp.IsWord(name, "MOVE"), resp.IsWord(name, "COPY"):
		if i := otherDatabaseAt(args); i > 0 {
			return p.crossing(args, i, resp.IsWord(name, "MOVE"))
		}
	}
	if ok, err := p.enter(nameOf(args)); !ok {
		return err
	}
	p.append(raw)
	return nil
}

// otherDatabaseAt is where MOVE or COPY ... DB names a second database, 0 for nowhere.
func otherDatabaseAt(args [][]byte) int {
	if resp.IsWord(args[0], "MOVE") && len(args) > 2 {
		return 2
	}
	if resp.IsWord(args[0], "COPY") {
		for i := 3; i+1 < len(args); i++ {
			if resp.IsWord(args[i], "DB") {
				return i + 1
			}
		}
	}
	return 0
}

func otherDatabase(args [][]byte) (uint32, bool) {
	i := otherDatabaseAt(args)
	if i == 0 {
		return 0, false
	}
	db, err := databaseOf(args, i)
	return db, err == nil
}

func databaseOf(args [][]byte, i int) (uint32, error) {
	if i >= len(args) {
		return 0, errArguments
	}
	n, err := strconv.ParseUint(string(args[i]), 10, 31)
	if err != nil {
		return 0, errArguments
	}
	return uint32(n), nil
}

func (p *placer) append(raw []byte) {
	p.out = append(p.out, raw...)
	p.n++
}

func (p *placer) add(args ...string) {
	p.out = resp.AppendCommand(p.out, args...)
	p.n++
}

// enter selects the database that the next command acts on.
func (p *placer) enter(name string) (ok bool, err error) {
	to, ok := p.sh.goes(p.from)
	if !ok {
		return false, p.sh.nowhere(p.from, name)
	}
	p.selects(to)
	return true, nil
}

func (p *placer) selects(to uint32) {
	switch {
	case p.n == 0:
		p.u.db = to
	case p.cur != to:
		p.add("SELECT", itoa(int64(to)))
		p.u.more = append(p.u.more, to)
	}
	p.cur = to
}

// crossing takes MOVE and COPY ... DB, whose other database stands at i.
func (p *placer) crossing(args [][]byte, i int, moves bool) error {
	other, err := databaseOf(args, i)
	if err != nil {
		return err
	}
	_, here := p.sh.goes(p.from)
	to, there := p.sh.goes(other)
	switch {
	case here && there:
		_, err := p.enter(nameOf(args))
		changed := append([][]byte(nil), args...)
		changed[i] = []byte(itoa(int64(to)))
		p.out = resp.AppendCommandBytes(p.out, changed...)
		p.n++
		p.u.more = append(p.u.more, to)
		return err
	case !p.sh.skip:
		db := other
		if !here {
			db = p.from
		}
		return p.sh.nowhere(db, nameOf(args))
	case there:
		// What arrives from a database that is left out was never here.
		return &DatabaseError{DB: p.from, Command: nameOf(args), Why: "it brings a key of a database that is left out into one that is not"}
	case here && moves:
		if _, err := p.enter(nameOf(args)); err != nil {
			return err
		}
		p.add("UNLINK", string(args[1]))
	}
	return nil
}

// swap takes SWAPDB. Our own keys stay where they are: they go along, and are brought back.
func (p *placer) swap(args [][]byte) error {
	a, err1 := databaseOf(args, 1)
	b, err2 := databaseOf(args, 2)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	toA, okA := p.sh.goes(a)
	toB, okB := p.sh.goes(b)
	switch {
	case a == b:
		return nil
	case !okA && !p.sh.skip:
		return p.sh.nowhere(a, "SWAPDB")
	case !okB && !p.sh.skip:
		return p.sh.nowhere(b, "SWAPDB")
	case !okA && !okB:
		return nil
	case okA != okB:
		return &DatabaseError{DB: p.from, Command: "SWAPDB", Why: "one of both databases is left out, the other is not"}
	}
	home := p.sh.dbs.home()
	p.selects(home)
	p.add("SWAPDB", itoa(int64(toA)), itoa(int64(toB)))
	p.u.more = append(p.u.more, toA, toB)
	if toA == home || toB == home {
		p.bring(toA+toB-home, home)
	}
	return nil
}

// flush takes FLUSHDB among other commands. Our own keys wait in another database meanwhile.
func (p *placer) flush() error {
	to, ok := p.sh.goes(p.from)
	if !ok {
		return p.sh.nowhere(p.from, "FLUSHDB")
	}
	if !p.sh.single {
		return &DatabaseError{DB: p.from, Command: "FLUSHDB", Why: "within a transaction that writes too a cluster cannot take it"}
	}
	home := p.sh.dbs.home()
	aside := home + 1
	if to == home {
		p.bring(home, aside)
	}
	p.selects(to)
	p.add("FLUSHDB", "ASYNC")
	if to == home {
		p.bring(aside, home)
	}
	return nil
}

// bring moves our own keys of the partition from one database into another.
func (p *placer) bring(from, to uint32) {
	p.selects(from)
	for _, kind := range []byte{own.Watermark, own.Fence, own.Checkpoint} {
		p.add("MOVE", string(own.Key(kind, p.sh.name, p.sh.slot)), itoa(int64(to)))
	}
	p.u.more = append(p.u.more, to)
	p.selects(to)
}

// scope sets which databases of the target a flush empties. It returns false for none.
func (sh *shape) scope(c *control, e *event.Event) (bool, error) {
	if e.AllDBs {
		c.every = true
		return true, nil
	}
	to, ok := sh.goes(e.DB)
	if !ok {
		return false, sh.nowhere(e.DB, "FLUSHDB")
	}
	c.db = to
	return true, nil
}
