package topology

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	// TLS is how connections are protected; nil means they are not. Without a ServerName the certificate has to be for
	// the host of the address, as it is before the map.
	TLS *tls.Config `json:"-"`
	// AddressMap says where to dial addresses that the servers tell and that cannot be reached from here, as behind NAT:
	// host:port to host:port. All else knows the servers' own addresses only.
	AddressMap map[string]string
	// Dial opens the connections beneath; nil means TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) `json:"-"`
}

// DialContext opens a connection to addr ("host:port"), protected if there is TLS. It does not authenticate: whoever
// speaks on the connection does.
func (d *Dialer) DialContext(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	to := addr
	if mapped, ok := d.AddressMap[addr]; ok {
		to = mapped
	}
	conn, err := dial(ctx, "tcp", to)
	if err != nil {
		return nil, newError(addr, "dial", err)
	}
	if d.TLS == nil {
		return conn, nil
	}
	secured, err := d.secure(ctx, conn, addr)
	if err != nil {
		_ = conn.Close()
		return nil, newError(addr, "dial", err)
	}
	return secured, nil
}

// secure does the handshake of TLS.
func (d *Dialer) secure(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	cfg := d.TLS
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTLS, err)
	}
	return c, nil
}

// handshakeHint says what to do about a handshake that did not come about.
func handshakeHint(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "name the authority that signed the server's certificate, and the name in it if that is not the address"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "this port does not speak TLS: use the TLS port, or no TLS"
	}
	return "does this port speak TLS, and does the server want a certificate of ours?"
}

// clientBufferBytes is small, as what is asked and answered: a worker with many shards has many connections.
const clientBufferBytes = 4 << 10

// Client returns a client for administration: RESP2, authenticated, without a name or library of its own on the
// server, and without retries, which are the caller's decision. It connects at its first command. The caller closes it.
func (d *Dialer) Client(addr string) *redis.Client { return d.ClientOf(addr, 0) }

// ClientOf is Client in another database than 0, which a server outside a cluster may have.
func (d *Dialer) ClientOf(addr string, db int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:     addr,
		DB:       db,
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
		ReadBufferSize:           clientBufferBytes,
		WriteBufferSize:          clientBufferBytes,
	})
}

func (d *Dialer) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return defaultTimeout
}
