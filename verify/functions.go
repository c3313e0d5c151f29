package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/redriver/redriver/redis/resp"
)

// compareFunctions compares the libraries of functions: name by name, their code. They belong to no slot and to every
// master.
func (c *comparison) compareFunctions(ctx context.Context) error {
	f := &c.opt.Filter
	if c.opt.Mode == Sample || f.Prefixes != nil || f.Patterns != nil || f.Types != nil || !f.Slots.IsEmpty() {
		return nil // asked for certain keys
	}
	for _, s := range []*side{c.from, c.to} {
		if s.offer.denied {
			c.notice(fmt.Sprintf("libraries of functions are not compared: the %s refuses FUNCTION LIST (grant +function|list)", s.name))
			return nil
		}
	}
	libs, differ, err := c.differingLibraries(ctx)
	if err != nil {
		return err
	}
	left := differ
	if c.opt.Repair && len(differ) > 0 {
		if slices.ContainsFunc(differ, func(n string) bool { return libs[0][n] == mixedCode }) {
			c.notice("libraries of functions are not repaired: the source's masters do not have the same")
		} else if err := c.repairFunctions(ctx, differ, libs[0]); err != nil {
			return err
		} else if _, left, err = c.differingLibraries(ctx); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range differ {
		from, inFrom := libs[0][n]
		to, inTo := libs[1][n]
		d := Difference{Key: n, Kind: Function, From: libraryText(from, inFrom), To: libraryText(to, inTo), Repaired: !slices.Contains(left, n)}
		if inFrom && inTo {
			d.To = "other code, " + d.To
		}
		c.report(d)
	}
	return nil
}

// differingLibraries reads the libraries of both sides, and names those that are not alike.
func (c *comparison) differingLibraries(ctx context.Context) (libs [2]map[string]string, differ []string, err error) {
	for i, s := range []*side{c.from, c.to} {
		err := c.patiently(ctx, func() (err error) {
			libs[i], err = s.libraries(ctx)
			return err
		})
		if err != nil {
			return libs, nil, err
		}
	}
	names := map[string]bool{}
	for _, l := range libs {
		for n := range l {
			names[n] = true
		}
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		from, inFrom := libs[0][n]
		if to, inTo := libs[1][n]; inFrom != inTo || from != to || from == mixedCode {
			differ = append(differ, n)
		}
	}
	return libs, differ, nil
}

// report takes a difference that is final.
func (c *comparison) report(d Difference) {
	if c.opt.Each != nil {
		c.opt.Each(d)
	}
	if d.Repaired {
		c.repaired++
		return
	}
	c.over[d.Kind]++
	if len(c.spare) < c.opt.MaxListed {
		c.spare = append(c.spare, d)
	}
}

func libraryText(code string, there bool) string {
	if !there {
		return "none"
	}
	if code == mixedCode {
		return "not the same on all masters"
	}
	return fmt.Sprintf("%d bytes of code", len(code))
}

// mixedCode stands for a library that a side's masters have in several forms, or that some of them lack.
const mixedCode = "\x00mixed"

// libraries reads the code of all libraries of a side, by name; none where the server is too old, or forbids it.
func (s *side) libraries(ctx context.Context) (map[string]string, error) {
	if !s.offer.functions {
		return nil, nil
	}
	all := map[string]string{}
	on := map[string]int{}
	nodes := s.now().nodes
	for _, n := range nodes {
		cn, err := n.take(ctx, 0)
		if err != nil {
			return nil, err
		}
		r, err := cn.one("FUNCTION", "LIST", "WITHCODE")
		if err != nil {
			n.give(cn, refused(err))
			if refused(err) {
				return nil, nil
			}
			return nil, err
		}
		for _, lib := range r.Elems {
			name, code, err := library(lib)
			if err != nil {
				n.give(cn, false)
				return nil, cn.fail("FUNCTION LIST", err)
			}
			if old, ok := all[name]; ok && old != code {
				code = mixedCode
			}
			all[name] = code
			on[name]++
		}
		n.give(cn, true)
	}
	for name, count := range on {
		if count < len(nodes) {
			all[name] = mixedCode
		}
	}
	return all, nil
}

func library(r resp.Reply) (name, code string, err error) {
	for i := 0; i+1 < len(r.Elems); i += 2 {
		switch string(r.Elems[i].Str) {
		case "library_name":
			name = string(r.Elems[i+1].Str)
		case "library_code":
			code = string(r.Elems[i+1].Str)
		}
	}
	if name == "" {
		return "", "", errors.New("an answer without a name")
	}
	return name, code, nil
}
