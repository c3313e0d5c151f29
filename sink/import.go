package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
)

// ExpiryMode says how a key is kept from expiring at the target before what the source still does to it has arrived.
type ExpiryMode string

// The modes.
const (
	// ExpiryHold writes expiry times later, see Config.ExpiryHold. It is the default.
	ExpiryHold ExpiryMode = "hold"
	// ExpiryImport writes exact times to a target that is told not to expire anything by itself: the import mode of Valkey
	// from 8.1 on. Finish switches it off.
	ExpiryImport ExpiryMode = "import"
)

// In import mode a server expires nothing by its own clock, and a client that calls itself an import source sees and changes
// what has expired as if it had not. The mode belongs to a node, is not replicated, and may be lost when the node restarts;
// and once it is off, a connection that was an import source is like any other, without a word. So
//
//	every node, replicas too, is switched on when its cluster is looked at: at each connect
//	each of our connections is an import source, which a node refuses that is not in import mode
//	each second of writing every connection asks whether the mode is still on
const configImport = "import-mode"

// importCheck is how long a node is believed to be in import mode.
const importCheck = time.Second

// switchImport switches import mode on at every node that does not have it.
func (s *Sink) switchImport(ctx context.Context, top *topology.Topology) error {
	if s.cfg.ExpiryMode != ExpiryImport {
		return nil
	}
	s.importMu.Lock()
	defer s.importMu.Unlock()
	for i := range top.Shards {
		sh := &top.Shards[i]
		if err := s.switchNode(ctx, sh.Master.Addr); err != nil {
			return err
		}
		for _, n := range sh.Replicas {
			if err := s.switchNode(ctx, n.Addr); err != nil {
				if classOf(err) == Stop {
					return err
				}
				// It may be down for long, and gets its turn when it becomes a master.
				s.warnUnless(ctx, "a replica of the target is not in import mode", err)
			}
		}
	}
	return nil
}

func (s *Sink) switchNode(ctx context.Context, addr string) error {
	if addr == "" || time.Since(s.importing[addr]) < importCheck {
		return nil
	}
	client := s.cfg.Dialer.Client(addr)
	defer func() { _ = client.Close() }()
	on, err := importMode(ctx, client)
	if errors.Is(err, errNoImport) {
		return classed(Stop, "switch import mode on at target node %s: %w: expiry.mode import needs Valkey 8.1 or newer on every node", addr, err)
	}
	if err != nil {
		return fmt.Errorf("switch import mode on at target node %s: %w", addr, err)
	}
	if !on {
		if err := setImport(ctx, client, true); err != nil {
			return fmt.Errorf("switch import mode on at target node %s: %w", addr, err)
		}
		s.log.Info("import mode was switched on", slog.String("node", addr))
	}
	if s.importing == nil {
		s.importing = map[string]time.Time{}
	}
	s.importing[addr] = time.Now()
	return nil
}

var errNoImport = errors.New("the node does not know it")

func importMode(ctx context.Context, client *redis.Client) (on bool, err error) {
	got, err := client.ConfigGet(ctx, configImport).Result()
	if err != nil {
		return false, err
	}
	value, ok := got[configImport]
	if !ok {
		return false, errNoImport
	}
	return value == "yes", nil
}

func setImport(ctx context.Context, client *redis.Client, on bool) error {
	value := "no"
	if on {
		value = "yes"
	}
	if err := client.ConfigSet(ctx, configImport, value).Err(); err != nil {
		return err
	}
	_ = client.ConfigRewrite(ctx).Err() // a node without a file to write to forgets it when it restarts
	return nil
}

// becomeSource makes a connection an import source.
func (c *conn) becomeSource() error {
	var q request
	q.add("CLIENT", "IMPORT-SOURCE", "ON")
	return c.do(&q, func(_ int, r resp.Reply) error {
		if err := r.Err(); err != nil {
			return fmt.Errorf("%w: node %s is not in import mode: %w", errLostConn, c.addr, err)
		}
		return nil
	})
}

// checkImport makes sure, each second, that the nodes are still in import mode. Where one is not, what has expired may be
// gone: the partition says so, and starts again, which switches it on.
func (w *worker) checkImport() error {
	if w.s.cfg.ExpiryMode != ExpiryImport || time.Since(w.importChecked) < importCheck {
		return nil
	}
	for _, c := range w.conns {
		var q request
		q.add("CONFIG", "GET", configImport)
		if err := c.do(&q, func(i int, r resp.Reply) error {
			if err := serverErr(c)(i, r); err != nil {
				return err
			}
			if len(r.Elems) == 2 && strings.EqualFold(string(r.Elems[1].Str), "yes") {
				return nil
			}
			return classed(Resync, "import mode was switched off at target node %s: keys whose time has passed since may have expired there before the "+
				"source's later writes to them arrived", c.addr)
		}); err != nil {
			return err
		}
	}
	w.importChecked = time.Now()
	return nil
}

// endImport switches import mode off at every node of a target that has it.
func endImport(ctx context.Context, d *topology.Dialer, top *topology.Topology) error {
	for i := range top.Shards {
		for _, n := range append([]topology.Node{top.Shards[i].Master}, top.Shards[i].Replicas...) {
			client := d.Client(n.Addr)
			on, err := importMode(ctx, client)
			if err == nil && on {
				err = setImport(ctx, client, false)
			}
			_ = client.Close()
			if err != nil && !errors.Is(err, errNoImport) {
				return fmt.Errorf("switch import mode off at %s: %w", n.Addr, err)
			}
		}
	}
	return nil
}
