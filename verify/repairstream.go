package verify

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// rebuildStream writes entries, and then what the stream knows about itself and its groups.
func (m *mender) rebuildStream(ctx context.Context) error {
	head, err := m.from.streamHead(ctx, m.key)
	if err != nil {
		return err
	}
	step := m.pair("stream").pieceLen(head.length)
	any1 := false
	for at, more := "-", true; more; {
		es, err := m.from.entries(ctx, m.key, at, step)
		if err != nil {
			return err
		}
		_, err = m.to.c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, e := range es {
				args := []any{"xadd", m.stage, e.id}
				for _, f := range e.fields {
					args = append(args, f)
				}
				p.Do(ctx, args...)
			}
			return nil
		})
		if err != nil {
			return err
		}
		any1 = any1 || len(es) > 0
		if int64(len(es)) < step {
			break
		}
		at, more = nextID(es[len(es)-1].id)
	}
	if !any1 { // an empty stream comes to be by losing its only entry
		if err := m.to.c.Do(ctx, "xadd", m.stage, "maxlen", "0", "0-1", "f", "v").Err(); err != nil {
			return err
		}
	}
	args := []any{"xsetid", m.stage, head.facts["last-generated-id"]}
	if added, ok := head.facts["entries-added"]; ok {
		args = append(args, "entriesadded", added, "maxdeletedid", head.facts["max-deleted-entry-id"])
	}
	if err := m.to.c.Do(ctx, args...).Err(); err != nil {
		// Before 7.0 it takes no more than the id.
		if err := m.to.c.Do(ctx, args[:3]...).Err(); err != nil {
			return err
		}
	}
	for _, g := range head.groups {
		if err := m.rebuildGroup(ctx, head, g); err != nil {
			return fmt.Errorf("group %s: %w", short(g), err)
		}
	}
	return nil
}

func (m *mender) rebuildGroup(ctx context.Context, head streamHead, group string) error {
	keyed := func(args ...any) error {
		cmd := redis.NewCmd(ctx, args...)
		cmd.SetFirstKeyPos(2)
		_ = m.to.c.Process(ctx, cmd) // the command keeps the error
		return cmd.Err()
	}
	if err := keyed("xgroup", "create", m.stage, group, head.facts["group "+short(group)+" last-delivered-id"]); err != nil {
		return err
	}
	for _, consumer := range head.consumers[group] {
		if err := keyed("xgroup", "createconsumer", m.stage, group, consumer); err != nil && !refused(err) { // from 6.2 on
			return err
		}
	}
	var delivered map[string]string
	if head.length+head.pending <= fullN {
		var err error
		if delivered, err = m.from.deliveries(ctx, m.key); err != nil {
			return err
		}
	}
	at, more := "-", true
	for more {
		es, err := m.from.pending(ctx, m.key, group, at)
		if err != nil {
			return err
		}
		for _, e := range es {
			args := []any{"xclaim", m.stage, group, e.consumer, 0, e.id}
			if t, ok := delivered["group "+short(group)+" pending "+e.id+" delivered at"]; ok {
				args = append(args, "time", t)
			} else {
				args = append(args, "idle", e.idle.Milliseconds())
			}
			args = append(args, "retrycount", strconv.FormatInt(e.count, 10), "force", "justid")
			if err := m.to.c.Do(ctx, args...).Err(); err != nil {
				return err
			}
		}
		if len(es) < pieceN {
			return nil
		}
		at, more = nextID(es[len(es)-1].id)
	}
	return nil
}
