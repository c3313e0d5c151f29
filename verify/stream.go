package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// fullN is up to how many entries and pending entries XINFO STREAM FULL is asked for: it comes in one reply. Of
// larger streams the delivery times stay uncompared; everything else is read in pages.
const fullN = 10_000

// compareStream compares entries, last ID, counters, groups, consumers and pending entries. When a consumer was last
// seen is left out: replicas of Redis do not have it right either. What only one side's version knows is left out too.
func (w *pieceWork) compareStream(ctx context.Context, p pair) (*delta, error) {
	f, err := w.from.streamHead(ctx, p.key)
	if err != nil {
		return nil, err
	}
	t, err := w.to.streamHead(ctx, p.key)
	if err != nil {
		return nil, err
	}
	// Entries first: they say more than counters do.
	if d, err := w.compareEntries(ctx, p, f.length); d != nil || err != nil {
		return d, err
	}
	forgotten, d := compareFacts(f.facts, t.facts)
	if d != nil {
		return d, nil
	}
	for _, g := range f.groups {
		if d, err := w.comparePending(ctx, p.key, g); d != nil || err != nil {
			return d, err
		}
	}
	if f.length+f.pending > fullN || f.pending == 0 {
		return forgotten, nil
	}
	ft, err := w.from.deliveries(ctx, p.key)
	if ft == nil || err != nil {
		return forgotten, err
	}
	tt, err := w.to.deliveries(ctx, p.key)
	if tt == nil || err != nil {
		return forgotten, err
	}
	if _, d := compareFacts(ft, tt); d != nil {
		return d, nil
	}
	return forgotten, nil
}

// streamHead is what is known of a stream without its entries.
type streamHead struct {
	length, pending int64
	groups          []string
	consumers       map[string][]string // by group
	facts           map[string]string   // name of the fact: what it is
}

func (s *reader) streamHead(ctx context.Context, key string) (streamHead, error) {
	h := streamHead{facts: map[string]string{}, consumers: map[string][]string{}}
	info, err := s.xinfo(ctx, "stream", key)
	if err != nil || len(info) != 1 {
		return h, err
	}
	h.length = number(info[0]["length"])
	for _, k := range []string{"length", "last-generated-id", "max-deleted-entry-id", "entries-added"} {
		if v, ok := info[0][k]; ok {
			h.facts[k] = fmt.Sprint(v)
		}
	}
	groups, err := s.xinfo(ctx, "groups", key)
	if err != nil {
		return h, err
	}
	for _, g := range groups {
		name := fmt.Sprint(g["name"])
		h.groups = append(h.groups, name)
		h.pending += number(g["pending"])
		h.facts["group "+short(name)] = "present"
		// Not entries-read, nor the lag that follows from it: XREADGROUP reaches a replica as XCLAIM, which says nothing of
		// the counter (streamReplyWithRange in redis src/t_stream.c), so Redis's own replicas differ in it.
		for _, k := range []string{"last-delivered-id", "pending"} {
			if v, ok := g[k]; ok {
				h.facts["group "+short(name)+" "+k] = fmt.Sprint(v)
			}
		}
		consumers, err := s.xinfo(ctx, "consumers", key, name)
		if err != nil {
			return h, err
		}
		for _, c := range consumers {
			h.consumers[name] = append(h.consumers[name], fmt.Sprint(c["name"]))
			h.facts["group "+short(name)+" consumer "+short(fmt.Sprint(c["name"]))] = fmt.Sprint(c["pending"]) + pendingText
		}
	}
	return h, nil
}

// xinfo returns the maps of an XINFO reply, of both protocols alike.
func (s *reader) xinfo(ctx context.Context, sub, key string, more ...any) ([]map[string]any, error) {
	cmd := redis.NewCmd(ctx, append([]any{"xinfo", sub, key}, more...)...)
	cmd.SetFirstKeyPos(2)
	_ = s.c.Process(ctx, cmd) // the command keeps the error
	reply, err := cmd.Result()
	if err != nil {
		return nil, err
	}
	if sub == "stream" {
		return []map[string]any{toMap(reply)}, nil
	}
	list, _ := reply.([]any)
	ms := make([]map[string]any, len(list))
	for i, v := range list {
		ms[i] = toMap(v)
	}
	return ms, nil
}

// toMap reads a map of RESP3, or the flat list of RESP2.
func toMap(v any) map[string]any {
	m := map[string]any{}
	switch v := v.(type) {
	case map[any]any:
		for k, e := range v {
			m[fmt.Sprint(k)] = e
		}
	case []any:
		for i := 0; i+1 < len(v); i += 2 {
			m[fmt.Sprint(v[i])] = v[i+1]
		}
	}
	return m
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}

func groupDelta(from, to string) *delta { return &delta{kind: Group, from: from, to: to} }

// consumerDelta is a consumer of the target alone that has nothing pending.
func consumerDelta(name string) *delta {
	return &delta{kind: Consumer, from: "no " + name, to: name + " " + nothingPending}
}

// compareFacts returns the first fact that differs, those of the stream itself before those of its groups. A counter
// that one side does not know at all is no fact of both; a group or consumer is. A consumer of the target alone that has
// nothing pending is returned apart.
func compareFacts(from, to map[string]string) (forgotten, first *delta) {
	names := maps.Clone(from)
	maps.Copy(names, to)
	inOrder := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		if ga, gb := isGroup(a), isGroup(b); ga != gb {
			if gb {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	for _, n := range inOrder {
		f, inFrom := from[n]
		t, inTo := to[n]
		switch {
		case f == t && inFrom == inTo:
		case inFrom && inTo && isGroup(n):
			return nil, groupDelta(n+" "+f, n+" "+t)
		case inFrom && inTo:
			return nil, valueDelta(n+" "+f, n+" "+t)
		case !isGroup(n):
		case inFrom && f == nothingPending: // see compareStreams
		case inFrom:
			return nil, groupDelta(n+" "+f, "no "+n)
		case t != nothingPending:
			return nil, groupDelta("no "+n, n+" "+t)
		case forgotten == nil:
			forgotten = consumerDelta(n)
		}
	}
	return forgotten, nil
}

const (
	pendingText    = " pending"
	nothingPending = "0" + pendingText
)

func isGroup(fact string) bool { return strings.HasPrefix(fact, "group ") }

func (w *pieceWork) compareEntries(ctx context.Context, p pair, n int64) (*delta, error) {
	step := p.pieceLen(n)
	at := "-"
	for {
		f, err := w.from.entries(ctx, p.key, at, step)
		if err != nil {
			return nil, err
		}
		t, err := w.to.entries(ctx, p.key, at, step)
		if err != nil {
			return nil, err
		}
		for i := range max(len(f), len(t)) {
			switch {
			case i >= len(f):
				return valueDelta("no entry "+t[i].id, t[i].String()), nil
			case i >= len(t):
				return valueDelta(f[i].String(), "no entry "+f[i].id), nil
			case f[i].id != t[i].id || !slices.Equal(f[i].fields, t[i].fields):
				return valueDelta(f[i].String(), t[i].String()), nil
			}
		}
		var more bool
		if int64(len(f)) == step {
			at, more = nextID(f[len(f)-1].id)
		}
		if !more {
			return nil, nil
		}
	}
}

type streamEntry struct {
	id     string
	fields []string
}

func (e streamEntry) String() string {
	return "entry " + e.id + " " + short(strings.Join(e.fields, " "))
}

// entries reads a page. Not XRangeN: it keeps fields in a map, without order or doubles.
func (s *reader) entries(ctx context.Context, key, from string, n int64) ([]streamEntry, error) {
	reply, err := s.c.Do(ctx, "xrange", key, from, "+", "count", n).Slice()
	if err != nil {
		return nil, err
	}
	es := make([]streamEntry, 0, len(reply))
	for _, r := range reply {
		pair, _ := r.([]any)
		if len(pair) != 2 {
			return nil, fmt.Errorf("read entry of a stream: unknown reply %T", r)
		}
		e := streamEntry{id: fmt.Sprint(pair[0])}
		fields, _ := pair[1].([]any)
		for _, f := range fields {
			e.fields = append(e.fields, fmt.Sprint(f))
		}
		es = append(es, e)
	}
	return es, nil
}

// nextID is the least ID above id, if there is one. Exclusive ranges would do, from 6.2 on.
func nextID(id string) (string, bool) {
	ms, seq, _ := strings.Cut(id, "-")
	if n, err := strconv.ParseUint(seq, 10, 64); err == nil && n < 1<<64-1 {
		return ms + "-" + strconv.FormatUint(n+1, 10), true
	}
	if m, err := strconv.ParseUint(ms, 10, 64); err == nil && m < 1<<64-1 {
		return strconv.FormatUint(m+1, 10) + "-0", true
	}
	return "", false
}

func (w *pieceWork) comparePending(ctx context.Context, key, group string) (*delta, error) {
	at := "-"
	for {
		f, err := w.from.pending(ctx, key, group, at)
		if err != nil {
			return nil, err
		}
		t, err := w.to.pending(ctx, key, group, at)
		if err != nil {
			return nil, err
		}
		name := "group " + short(group) + " "
		for i := range max(len(f), len(t)) {
			switch {
			case i >= len(f):
				return groupDelta(name+"no more pending", name+t[i].String()), nil
			case i >= len(t):
				return groupDelta(name+f[i].String(), name+"no more pending"), nil
			case !f[i].same(t[i]):
				return groupDelta(name+f[i].String(), name+t[i].String()), nil
			}
		}
		var more bool
		if len(f) == pieceN {
			at, more = nextID(f[len(f)-1].id)
		}
		if !more {
			return nil, nil
		}
	}
}

type pendingEntry struct {
	id, consumer string
	count        int64
	idle         time.Duration // since it was delivered: no fact, it goes on
}

// same tells whether all but the time is equal.
func (e pendingEntry) same(o pendingEntry) bool {
	return e.id == o.id && e.consumer == o.consumer && e.count == o.count
}

func (e pendingEntry) String() string {
	return fmt.Sprintf("pending %s consumer %s delivered %d times", e.id, short(e.consumer), e.count)
}

func (s *reader) pending(ctx context.Context, key, group, from string) ([]pendingEntry, error) {
	reply, err := s.c.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: group, Start: from, End: "+", Count: pieceN}).Result()
	if isNil(err) {
		err = nil
	}
	es := make([]pendingEntry, len(reply))
	for i, r := range reply {
		es[i] = pendingEntry{r.ID, r.Consumer, r.RetryCount, r.Idle}
	}
	return es, err
}

// deliveries reads when each pending entry was delivered last. It returns nil where the server is too old to say.
func (s *reader) deliveries(ctx context.Context, key string) (map[string]string, error) {
	info, err := s.xinfo(ctx, "stream", key, "full", "count", 0)
	if err != nil {
		if refused(err) {
			return nil, nil
		}
		return nil, err
	}
	facts := map[string]string{}
	groups, _ := info[0]["groups"].([]any)
	for _, g := range groups {
		g := toMap(g)
		pel, _ := g["pending"].([]any)
		for _, e := range pel {
			if e, _ := e.([]any); len(e) >= 3 {
				facts[fmt.Sprintf("group %s pending %v delivered at", short(fmt.Sprint(g["name"])), e[0])] = fmt.Sprint(e[2])
			}
		}
	}
	return facts, nil
}
