package topology

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// defaultTimeout is Dialer.Timeout unless set.
const defaultTimeout = 5 * time.Second

// Dialer opens connections to Redis. The zero value dials without authentication.
type Dialer struct {
	Username string // "" means the default user
	Password string // "" means none is sent
	// Timeout bounds dialling, and each reply that a Client waits for; 0 means 5 s.
	Timeout time.Duration
}

// DialContext opens a TCP connection to addr ("host:port"). It does not authenticate: whoever speaks on the
// connection does.
func (d *Dialer) DialContext(ctx context.Context, addr string) (net.Conn, error) {
	nd := net.Dialer{Timeout: d.timeout()}
	conn, err := nd.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, newError(addr, "dial", err)
	}
	return conn, nil
}

// Client returns a client for administration: RESP2, authenticated, without a name or library of its own on the
// server, and without retries, which are the caller's decision. It connects at its first command. The caller closes it.
func (d *Dialer) Client(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:     addr,
		Username: d.Username,
		Password: d.Password,
		Dialer: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return d.DialContext(ctx, addr)
		},
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              d.timeout(),
		ReadTimeout:              d.timeout(),
		WriteTimeout:             d.timeout(),
		ContextTimeoutEnabled:    true,
		PoolSize:                 4,
	})
}

func (d *Dialer) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return defaultTimeout
}
