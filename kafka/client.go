package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
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
