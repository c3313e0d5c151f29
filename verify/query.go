package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redriver/redriver/redis/resp"
)

// query is one pipeline of reads for some keys, spread over the masters that have them.
type query struct {
	s     *side
	parts []part
}

type part struct {
	c     *conn
	index []int32 // of the keys, in the order of the pipeline
	left  int     // answers not read
}

// tooLargeError tells that the answer for a key is larger than expected.
type tooLargeError struct {
	s *side
	i int32
}

func (e *tooLargeError) Error() string { return "an answer is too large" }

// errNoOwner tells that a slot has no master in the view.
var errNoOwner = errors.New("no master serves the slot")

// ask sends the commands that add builds for each of index. Whoever asks must call end.
func (s *side) ask(ctx context.Context, db int, keys []string, index []int32, perKey int, add func(c *conn, i int32)) (*query, error) {
	q := &query{s: s}
	v := s.now()
	if v.owner == nil {
		q.parts = []part{{index: index}}
	} else {
		byNode := make(map[*node]int, len(v.nodes))
		for _, i := range index {
			n := v.nodeOf(keys[i])
			if n == nil {
				return nil, &sideError{s.name, s.at.Addrs[0], fmt.Sprintf("find key %s", short(keys[i])), errNoOwner}
			}
			at, ok := byNode[n]
			if !ok {
				at = len(q.parts)
				byNode[n] = at
				q.parts = append(q.parts, part{})
			}
			q.parts[at].index = append(q.parts[at].index, i)
		}
	}
	for p := range q.parts {
		n := v.nodes[0]
		if v.owner != nil {
			n = v.nodeOf(keys[q.parts[p].index[0]])
		}
		c, err := n.take(ctx, db)
		if err != nil {
			q.end()
			return nil, err
		}
		q.parts[p].c = c
		q.parts[p].left = len(q.parts[p].index) * perKey
		for _, i := range q.parts[p].index {
			add(c, i)
		}
		if err := c.send(); err != nil {
			q.end()
			return nil, err
		}
	}
	return q, nil
}

// receive gives all answers to fn: the j-th of key i. An error reply is an answer too.
func (q *query) receive(perKey int, fn func(i int32, j int, r resp.Reply) error) error {
	for p := range q.parts {
		at := &q.parts[p]
		for _, i := range at.index {
			for j := range perKey {
				r, err := at.c.read()
				if errors.Is(err, resp.ErrLimit) {
					return &tooLargeError{q.s, i}
				}
				if err != nil {
					return err
				}
				at.left--
				if err := fn(i, j, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// end gives the connections back.
func (q *query) end() {
	for p := range q.parts {
		if c := q.parts[p].c; c != nil {
			c.node.give(c, q.parts[p].left == 0)
			q.parts[p].c = nil
		}
	}
}

// askBoth asks both sides the same, so that both work at the same time, and reads the source's answers first.
func (c *comparison) askBoth(ctx context.Context, sp Databases, keys []string, index []int32, perKey func(*side) int,
	add func(s *side, c *conn, i int32), fn func(s *side, i int32, j int, r resp.Reply) error,
) error {
	if len(index) == 0 {
		return nil
	}
	var queries []*query
	defer func() {
		for _, q := range queries {
			q.end()
		}
	}()
	for _, s := range []*side{c.from, c.to} {
		q, err := s.ask(ctx, c.db(s, sp), keys, index, perKey(s), func(cn *conn, i int32) { add(s, cn, i) })
		if err != nil {
			return err
		}
		queries = append(queries, q)
	}
	for _, q := range queries {
		if err := q.receive(perKey(q.s), func(i int32, j int, r resp.Reply) error { return fn(q.s, i, j, r) }); err != nil {
			return err
		}
	}
	return nil
}

// db is the database of a side that belongs to a pair.
func (c *comparison) db(s *side, sp Databases) int {
	if s == c.from {
		return sp.From
	}
	return sp.To
}

func allOf(n int) []int32 {
	index := make([]int32, n)
	for i := range index {
		index[i] = int32(i)
	}
	return index
}

func without(index []int32, drop func(i int32) bool) []int32 {
	return slices.DeleteFunc(slices.Clone(index), drop)
}
