package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	// metadataMinAge: franz-go's own 5 s turns every leader move into a stall of 5 s.
	metadataMinAge = 100 * time.Millisecond
	dialTimeout    = 5 * time.Second
	// brokerMaxReadBytes bounds one response; fetches are bounded far below by their own options.
	brokerMaxReadBytes = 128 << 20
)

// Config says how to reach a Kafka cluster.
type Config struct {
	// Brokers are the addresses to start from, host:port.
	Brokers []string
	// ClientID is shown in the brokers' logs and quotas.
	ClientID string
	// TLS is how connections are protected; nil means they are not.
	TLS *tls.Config `json:"-"`
	// SASL is how we authenticate; the zero value means we do not.
	SASL SASL
	// Dial opens the connections; nil means TCP. TLS is not laid over it.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) `json:"-"`
}

// SASL names a user and how it proves itself.
type SASL struct {
	Mechanism          string // one of SASLMechanisms
	Username, Password string
}

// The mechanisms of SASL.
const (
	SASLPlain       = "PLAIN"
	SASLScramSHA256 = "SCRAM-SHA-256"
	SASLScramSHA512 = "SCRAM-SHA-512"
)

// SASLMechanisms lists them.
var SASLMechanisms = []string{SASLPlain, SASLScramSHA256, SASLScramSHA512}

// option returns nil for the zero value.
func (s SASL) option() (kgo.Opt, error) {
	switch s.Mechanism {
	case "":
		return nil, nil
	case SASLPlain:
		return kgo.SASL(plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism()), nil
	case SASLScramSHA256:
		return kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism()), nil
	case SASLScramSHA512:
		return kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism()), nil
	}
	return nil, fmt.Errorf("kafka: SASL mechanism %q: want one of %v", s.Mechanism, SASLMechanisms)
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() error {
	if len(c.Brokers) == 0 {
		return errors.New("kafka: no broker address given")
	}
	for _, b := range c.Brokers {
		if !strings.Contains(b, ":") {
			return fmt.Errorf("kafka: broker address %q: want host:port", b)
		}
	}
	return nil
}

// Client opens a client with the settings all of ours share and the given ones on top. It dials nothing yet.
func (c Config) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	base := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.DialTimeout(dialTimeout),
		kgo.BrokerMaxReadBytes(brokerMaxReadBytes),
	}
	switch {
	case c.Dial != nil:
		base = append(base, kgo.Dialer(c.Dial))
	case c.TLS != nil:
		base = append(base, kgo.DialTLSConfig(c.TLS))
	}
	sasl, err := c.SASL.option()
	if err != nil {
		return nil, err
	}
	if sasl != nil {
		base = append(base, sasl)
	}
	if c.ClientID != "" {
		base = append(base, kgo.ClientID(c.ClientID))
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("open kafka client: %w", err)
	}
	return cl, nil
}

// Ping checks that a broker answers, within the timeout.
func (c Config) Ping(ctx context.Context, timeout time.Duration) error {
	cl, err := c.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		return fmt.Errorf("reach kafka at %s within %s: %w", strings.Join(c.Brokers, ", "), timeout, err)
	}
	return nil
}

// Admin is an administration client; Close it.
func (c Config) Admin() (*kadm.Client, error) {
	cl, err := c.Client()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(cl), nil
}
