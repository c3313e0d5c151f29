package verify

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// client reads values in pieces, and follows redirections.
func (s *side) client(db int) redis.UniversalClient {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.slow[db]; c != nil {
		return c
	}
	o := &redis.UniversalOptions{
		Addrs: s.at.Addrs, Username: s.at.Dialer.Username, Password: s.at.Dialer.Password, DB: db, IsClusterMode: s.cluster,
		Dialer:   func(ctx context.Context, _, addr string) (net.Conn, error) { return s.dial(ctx, addr) },
		Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		ReadTimeout:              s.meter.timeout, WriteTimeout: s.meter.timeout,
	}
	var c redis.UniversalClient
	if s.cluster {
		c = redis.NewClusterClient(o.Cluster())
	} else {
		c = redis.NewClient(o.Simple())
	}
	c.AddHook(addressHook{s.name, s.at.Addrs[0]})
	s.slow[db] = c
	if s.ended {
		_ = c.Close()
	}
	return c
}

// addressHook makes errors of the connection name the side. What a server answered stays as it is.
type addressHook struct{ side, addr string }

func (h addressHook) fail(err error) error {
	if err == nil || fromServer(err) {
		return err
	}
	if _, ok := errors.AsType[*sideError](err); ok {
		return err
	}
	return &sideError{h.side, h.addr, "read", err}
}

func (h addressHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h addressHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := h.fail(next(ctx, cmd))
		cmd.SetErr(err)
		return err
	}
}

func (h addressHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.fail(next(ctx, cmds)) }
}
