package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

const (
	stateVersion = 1
	// saveInterval is how often the state is written while nothing goes wrong.
	saveInterval = 2 * time.Second
)

// savedState is what an interrupted comparison goes on from.
type savedState struct {
	Version  int            `json:"version"`
	Question string         `json:"question"` // the sides and options that decide what is compared
	Elapsed  time.Duration  `json:"elapsed"`
	Scanned  int64          `json:"scanned"`
	Listings []savedListing `json:"listings"`
	Found    []savedKey     `json:"found"`
	Over     map[Kind]int64 `json:"over,omitempty"`
}

// savedKey is a key that differed; it is looked at again.
type savedKey struct {
	Pair      Databases    `json:"databases"`
	Diff      []Difference `json:"differences"`
	Prints    [2]uint64    `json:"prints"`
	Looks     int          `json:"looks"`
	Unchanged bool         `json:"unchanged"`
}

// question names what the state belongs to: another question must not go on from it.
func (c *comparison) question() string {
	o := &c.opt
	return fmt.Sprintf("%v to %v, mode %s, slots %v, prefixes %q, patterns %q, types %q, databases %v, tolerance %s, hold %s, large %d %v",
		c.from.at.Addrs, c.to.at.Addrs, o.Mode, &o.Filter.Slots, o.Filter.Prefixes, o.Filter.Patterns, o.Filter.Types, o.Databases,
		o.TTLTolerance, o.ExpiryHold, o.LargeBytes, o.LargeLength)
}

// restore goes on from a state file, if there is one.
func (c *comparison) restore() error {
	if c.opt.State == "" {
		return nil
	}
	b, err := os.ReadFile(c.opt.State)
	if errors.Is(err, fs.ErrNotExist) {
		return c.save() // a file that cannot be written is found now
	}
	if err != nil {
		return fmt.Errorf("read state of the comparison: %w", err)
	}
	var s savedState
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read state of the comparison %s: %w (remove the file to begin anew)", c.opt.State, err)
	}
	if s.Version != stateVersion || s.Question != c.question() {
		return fmt.Errorf("go on from %s: it belongs to another comparison, %s (remove the file to begin anew)", c.opt.State, s.Question)
	}
	for _, l := range s.Listings {
		if err := c.listingOf(l).restore(l); err != nil {
			return fmt.Errorf("read state of the comparison %s: %w (remove the file to begin anew)", c.opt.State, err)
		}
	}
	for _, l := range c.listings {
		keys, _ := l.counted()
		c.compared.Add(keys)
	}
	c.before = s.Elapsed
	c.resumed = s.Scanned > 0
	c.scanned.Store(s.Scanned)
	c.skipped = s.Scanned
	if s.Over != nil {
		c.over = s.Over
	}
	for _, k := range s.Found {
		if len(k.Diff) > 0 {
			c.found[ref{k.Pair, k.Diff[0].Key}] = &state{found: found{k.Diff, k.Prints}, looks: k.Looks, unchanged: k.Unchanged}
			c.told += int64(len(k.Diff))
		}
	}
	return nil
}

// listingOf finds the listing that was saved. A database that is empty now had keys then, which may have differed.
func (c *comparison) listingOf(s savedListing) *listing {
	for {
		for _, l := range c.listings {
			if l.pair == s.Pair && l.to == s.Target {
				return l
			}
		}
		c.pairs = append(c.pairs, s.Pair)
		c.addPair(s.Pair)
	}
}

// saveNow writes the state if it is time.
func (c *comparison) saveNow() error {
	if c.opt.State == "" {
		return nil
	}
	c.mu.Lock()
	due := time.Since(c.savedAt) > max(saveInterval, 20*c.saveTook)
	if due {
		c.savedAt = time.Now()
	}
	c.mu.Unlock()
	if !due {
		return nil
	}
	return c.save()
}

// save writes the state. Where the listings stand and what was found are of one moment.
func (c *comparison) save() error {
	if c.opt.State == "" {
		return nil
	}
	c.saveMu.Lock()
	defer c.saveMu.Unlock()
	began := time.Now()
	s := savedState{Version: stateVersion, Question: c.question(), Elapsed: c.before + time.Since(c.started), Scanned: c.scanned.Load()}
	c.mu.Lock()
	for _, l := range c.listings {
		s.Listings = append(s.Listings, l.save())
	}
	s.Over = maps.Clone(c.over)
	for r, st := range c.found {
		s.Found = append(s.Found, savedKey{r.pair, st.diffs, st.prints, st.looks, st.unchanged})
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.saveTook = time.Since(began)
	}()
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write state of the comparison: %w", err)
	}
	next := filepath.Clean(c.opt.State) + ".next"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("write state of the comparison: %w", err)
	}
	if err := os.Rename(next, c.opt.State); err != nil {
		return fmt.Errorf("write state of the comparison: %w", err)
	}
	return nil
}

// removeState ends what could be gone on from.
func (c *comparison) removeState() error {
	if c.opt.State == "" {
		return nil
	}
	if err := os.Remove(c.opt.State); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state of the comparison: %w", err)
	}
	return nil
}
