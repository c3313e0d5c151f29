package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/redriver/redriver/redis/slot"
)

// scanState is a scan of one master.
type scanState struct {
	RunID  string `json:"run_id"`
	Slots  string `json:"slots"`  // that it looks for
	Cursor uint64 `json:"cursor"` // all before it is done
	Done   bool   `json:"done"`
	tally         // of what is done

	ahead []*scanned // read and not yet done, in order
}

type scanned struct {
	next    uint64 // the cursor behind it
	pending int    // pages
	tally
	own  []slot.Slot
	late []Difference
}

// scan lists the keys of a master that lie in slots. Its cursor is good for as long as the process lives.
func (l *listing) scan(ctx context.Context, c *comparison, w work, out chan<- page) error {
	s := &scanner{l: l, n: w.n, page: c.opt.Page}
	defer s.end()
	if err := l.patiently(ctx, c, w, func() error { return s.connect(ctx) }); err != nil {
		return err
	}
	st := l.scanState(c, w, s.runID)
	if st.Done {
		return nil
	}
	everything := w.slots.Len() == slot.Count
	cursor := st.Cursor
	for {
		var b pageBuilder
		var next uint64
		err := l.patiently(ctx, c, w, func() error {
			b = pageBuilder{filter: &c.opt.Filter}
			var err error
			next, err = s.read(ctx, cursor, func(key []byte) {
				if everything || w.slots.Has(slot.Of(key)) {
					b.add(key)
				}
			})
			return err
		})
		if errors.Is(err, errRestarted) {
			l.void(c, w)
			return l.scan(ctx, c, w, out)
		}
		if err != nil {
			return err
		}
		pages := b.pages(c.opt.Page)
		mark := &scanned{next: next, pending: max(len(pages), 1), tally: tally{Own: int64(len(b.own))}, own: b.own}
		l.mu.Lock()
		st.ahead = append(st.ahead, mark)
		l.mu.Unlock()
		done := func(compared []string, late []Difference) { l.passed(c, st, mark, compared, late, w) }
		if len(pages) == 0 {
			c.mu.Lock()
			done(nil, nil)
			c.mu.Unlock()
		}
		for _, keys := range pages {
			if err := c.handOut(ctx, out, page{l, keys, done}); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// errRestarted tells that a cursor is of another process.
var errRestarted = errors.New("the server was restarted")

// scanner reads pages of one scan. It has a connection of its own: as long as that lasts, the process at its other end is
// the same. A new one first asks which it is.
type scanner struct {
	l     *listing
	n     *node
	page  int
	cn    *conn
	runID string
	begun bool
}

func (s *scanner) connect(ctx context.Context) error {
	if s.cn != nil {
		return nil
	}
	cn, err := s.n.take(ctx, s.l.db())
	if err != nil {
		return err
	}
	info, err := cn.info("server")
	if err != nil {
		s.n.give(cn, false)
		return err
	}
	// Where INFO is forbidden nobody knows.
	if id := info["run_id"]; s.begun && (id != s.runID || id == "") {
		s.n.give(cn, true)
		return errRestarted
	}
	s.cn, s.runID, s.begun = cn, info["run_id"], true
	return nil
}

func (s *scanner) end() {
	if s.cn != nil {
		s.n.give(s.cn, true)
		s.cn = nil
	}
}

// read gives the keys of one page to fn, and returns the cursor of the next.
func (s *scanner) read(ctx context.Context, cursor uint64, fn func(key []byte)) (next uint64, err error) {
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			s.n.give(s.cn, false)
			s.cn = nil
		}
	}()
	r, err := s.cn.one("SCAN", strconv.FormatUint(cursor, 10), "COUNT", strconv.Itoa(s.page))
	if err != nil {
		return 0, err
	}
	if len(r.Elems) != 2 {
		return 0, s.cn.fail("SCAN", fmt.Errorf("an answer of %d elements", len(r.Elems)))
	}
	if next, err = strconv.ParseUint(string(r.Elems[0].Str), 10, 64); err != nil {
		return 0, s.cn.fail("SCAN", err)
	}
	for _, k := range r.Elems[1].Elems {
		fn(k.Str)
	}
	return next, nil
}

// runID names the process that serves a node; "" where INFO is forbidden.
func (n *node) runID(ctx context.Context) (string, error) {
	info, err := n.info(ctx, "server")
	return info["run_id"], err
}

func scanKey(w work) string { return w.n.addr + " " + w.slots.String() }

// scanState is where the scan of a master stands; at the start if that was another process.
func (l *listing) scanState(c *comparison, w work, runID string) *scanState {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := scanKey(w)
	st := l.cursors[key]
	if st != nil && (st.RunID != runID || runID == "") {
		c.notice(l.restarted(w))
		st = nil
	}
	if st == nil {
		st = &scanState{RunID: runID, Slots: w.slots.String()}
		l.cursors[key] = st
	}
	st.ahead = nil
	return st
}

func (l *listing) restarted(w work) string {
	return fmt.Sprintf("%s %s was restarted: its keys are listed again from the beginning", l.s.name, w.n.addr)
}

// void drops a scan whose cursor is worth nothing any more.
func (l *listing) void(c *comparison, w work) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.notice(l.restarted(w))
	delete(l.cursors, scanKey(w))
}

// passed moves the cursor over what is done without a hole. It is called under the comparison's lock.
func (l *listing) passed(c *comparison, st *scanState, mark *scanned, compared []string, late []Difference, w work) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mark.pending--
	mark.Keys += int64(len(compared))
	mark.late = append(mark.late, late...)
	void := l.cursors[scanKey(w)] != st
	if !void {
		l.addBySlot(compared, nil)
	}
	for len(st.ahead) > 0 && st.ahead[0].pending <= 0 {
		first := st.ahead[0]
		st.ahead = st.ahead[1:]
		st.Cursor = first.next
		if void { // what it found comes again
			continue
		}
		st.Keys += first.Keys
		st.Own += first.Own
		l.addBySlot(nil, first.own)
		c.reportAll(first.late)
		if st.Cursor == 0 {
			st.Done = true
			if w.last {
				l.slots = l.slots.Union(&w.slots)
			}
		}
	}
}

// forget makes slots undone, so that they are listed again.
func (l *listing) forget(slots slot.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots = l.slots.Minus(&slots)
	for _, st := range l.cursors {
		l.Keys += st.Keys
		l.Own += st.Own
	}
	l.cursors = map[string]*scanState{}
	for s := range slots.All() {
		if l.bySlot != nil {
			l.Keys -= l.bySlot[s].Keys
			l.Own -= l.bySlot[s].Own
			l.bySlot[s] = tally{}
		}
	}
}

// savedListing is the form of a listing in a state file.
type savedListing struct {
	Pair   Databases `json:"databases"`
	Target bool      `json:"target"`
	Slots  string    `json:"slots"`
	tally
	Cursors map[string]*scanState `json:"cursors,omitempty"`
}

func (l *listing) save() savedListing {
	l.mu.Lock()
	defer l.mu.Unlock()
	cursors := map[string]*scanState{}
	for key, st := range maps.All(l.cursors) {
		cursors[key] = &scanState{RunID: st.RunID, Slots: st.Slots, Cursor: st.Cursor, Done: st.Done, tally: st.tally}
	}
	return savedListing{l.pair, l.to, l.slots.String(), l.tally, cursors}
}

func (l *listing) restore(s savedListing) error {
	if s.Slots != "" {
		set, err := slot.ParseSet(s.Slots)
		if err != nil {
			return err
		}
		l.slots = set
	}
	l.tally = s.tally
	for key, st := range s.Cursors {
		if st == nil {
			return errors.New("a scan without a state")
		}
		if st.Done || st.Cursor != 0 {
			l.cursors[key] = st
		}
	}
	return nil
}
