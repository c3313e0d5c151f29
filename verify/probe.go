package verify

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/redis/resp"
)

// probe asks all masters what they offer.
func (s *side) probe(ctx context.Context) error {
	const none = "redriver-verify-probe"
	probes := []struct {
		has  *bool
		need bool
		args []string
	}{
		{new(bool), true, []string{"SCAN", "0", "COUNT", "1"}},
		{new(bool), true, []string{"TYPE", none}},
		{new(bool), true, []string{"EXISTS", none}},
		{new(bool), true, []string{"PTTL", none}},
		{&s.offer.expireTime, false, []string{"PEXPIRETIME", none}},
		{&s.offer.memory, false, []string{"MEMORY", "USAGE", none}},
		{&s.offer.dump, false, []string{"DUMP", none}},
		{&s.offer.multiMember, false, []string{"ZMSCORE", none, "m"}},
		{&s.offer.fieldExpiry, false, []string{"HPEXPIRETIME", none, "FIELDS", "1", "f"}},
		{&s.offer.slotKeys, false, []string{"CLUSTER", "GETKEYSINSLOT", "0", "1"}},
		{&s.offer.slotKeys, false, []string{"CLUSTER", "COUNTKEYSINSLOT", "0"}},
		{&s.offer.script, false, []string{"EVAL", "return 1", "0"}},
		{&s.offer.functions, false, []string{"FUNCTION", "LIST"}},
	}
	for _, p := range probes {
		*p.has = true
	}
	for _, n := range s.now().nodes {
		c, err := n.take(ctx, 0)
		if err != nil {
			return err
		}
		for _, p := range probes {
			r, err := c.one(p.args...)
			switch {
			case err == nil && r.Kind != resp.KindError, redirected(err), aboutKeys(err):
			case refused(err) && !p.need:
				*p.has = false
				if p.has == &s.offer.functions && hasPrefix(cause(err), "NOPERM") {
					s.offer.denied = true
				}
			case refused(err):
				n.give(c, true)
				return &rightError{sideError{s.name, n.addr, strings.ToLower(p.args[0]), err}}
			default:
				n.give(c, false)
				return err
			}
		}
		n.give(c, true)
	}
	if err := s.measureClock(ctx); err != nil {
		return err
	}
	s.offer.slotKeys = s.offer.slotKeys && s.cluster
	return nil
}

// measureClock takes the clock of the first master for that of all, to half the time of a round trip.
func (s *side) measureClock(ctx context.Context) error {
	n := s.now().nodes[0]
	c, err := n.take(ctx, 0)
	if err != nil {
		return err
	}
	sent := time.Now()
	r, err := c.one("TIME")
	n.give(c, err == nil || refused(err))
	if refused(err) || err == nil && len(r.Elems) != 2 {
		return nil // our clock has to do
	}
	if err != nil {
		return err
	}
	seconds, err1 := strconv.ParseInt(string(r.Elems[0].Str), 10, 64)
	micros, err2 := strconv.ParseInt(string(r.Elems[1].Str), 10, 64)
	if err1 == nil && err2 == nil {
		s.aheadOff = time.Since(sent)/2 + time.Millisecond
		s.ahead = time.Unix(seconds, micros*1000).Sub(sent.Add(time.Since(sent) / 2))
	}
	return nil
}

// rightError says that a side refuses what no comparison can do without.
type rightError struct{ sideError }

func (e *rightError) Error() string {
	return e.sideError.Error() + " (grant the user: " + Rights + "; or compare only what it may read, by --prefix)"
}

// Rights are what a comparison needs of a user, from 7.0 on, as ACL SETUSER takes them. It reads only.
const Rights = "+@read +@connection +info +time +eval +memory|usage +function|list +cluster|nodes +cluster|shards +cluster|slots " +
	"+cluster|myshardid +cluster|countkeysinslot +cluster|getkeysinslot %R~*"

// redirected: in a cluster the key may be anywhere; the command was understood.
func redirected(err error) bool {
	return err != nil && hasPrefix(cause(err), "MOVED ", "ASK ", "CLUSTERDOWN", "TRYAGAIN")
}

// refused: the server does not know the command, or the user may not run it.
func refused(err error) bool {
	if err == nil {
		return false
	}
	err = cause(err)
	return fromServer(err) && hasPrefix(err, "ERR ", "NOPERM")
}

// aboutKeys: the user may run the command, but not on this key.
func aboutKeys(err error) bool {
	return err != nil && hasPrefix(cause(err), "NOPERM") && strings.Contains(err.Error(), "permissions to access")
}

func fromServer(err error) bool {
	_, ours := errors.AsType[*resp.ServerError](err)
	_, theirs := errors.AsType[redis.Error](err)
	return ours || theirs
}

// cause is what a server said, without what we said of it.
func cause(err error) error {
	if e, ok := errors.AsType[*resp.ServerError](err); ok {
		return e
	}
	if e, ok := errors.AsType[redis.Error](err); ok {
		return e
	}
	return err
}

func hasPrefix(err error, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(err.Error(), p) })
}
