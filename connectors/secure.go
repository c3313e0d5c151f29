package connectors

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/redriver/redriver/kafka"
)

const (
	keyAddressMap = "redis.address.map"

	keyMechanism     = "kafka.sasl.mechanism"
	keyKafkaUsername = "kafka.sasl.username"
	keyKafkaPassword = "kafka.sasl.password"

	tlsOn  = "true"
	tlsOff = "false"

	verifyFull = "full"
	verifyNone = "none"
)

// tlsKeys are the rows that protect the connections to Redis or Kafka.
func tlsKeys(prefix, whom string) []Key {
	return []Key{
		{Name: prefix + ".tls", Type: TypeChoice, Default: tlsOff, Choices: []string{tlsOn, tlsOff}, Doc: "Whether connections to " + whom + " are protected by TLS, 1.2 or newer."},
		{
			Name: prefix + ".tls.ca.file", Type: TypeText, check: checkAbsolute,
			Doc: "Certificates of the authorities that may have signed the servers', PEM; without it those that this machine trusts.",
		},
		{Name: prefix + ".tls.cert.file", Type: TypeText, check: checkAbsolute, Doc: "Our own certificate, PEM, where the servers want one."},
		{Name: prefix + ".tls.key.file", Type: TypeText, check: checkAbsolute, Doc: "The key of our own certificate, PEM."},
		{Name: prefix + ".tls.server.name", Type: TypeText, Doc: "Name that the servers' certificates are for; without it the host of each address."},
		{
			Name: prefix + ".tls.verify", Type: TypeChoice, Default: verifyFull, Choices: []string{verifyFull, verifyNone},
			Doc: "Whether the servers' certificates are verified. `none` protects from listeners only, not from somebody in between.",
		},
	}
}

// tlsConfig is nil where TLS is off.
func tlsConfig(v Values, prefix string) (*tls.Config, error) {
	return TLSOptions{
		On: v.text(prefix+".tls") == tlsOn, CAFile: v.text(prefix + ".tls.ca.file"),
		CertFile: v.text(prefix + ".tls.cert.file"), KeyFile: v.text(prefix + ".tls.key.file"),
		ServerName: v.text(prefix + ".tls.server.name"), Unverified: v.text(prefix+".tls.verify") == verifyNone,
	}.Config()
}

// TLSOptions say how connections are protected.
type TLSOptions struct {
	On                        bool
	CAFile, CertFile, KeyFile string
	ServerName                string
	Unverified                bool
}

// Config reads the files. It returns nil where TLS is off.
func (o TLSOptions) Config() (*tls.Config, error) {
	if !o.On {
		if o.CAFile != "" || o.CertFile != "" || o.KeyFile != "" {
			return nil, errors.New("certificates are given, and TLS is off")
		}
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName, InsecureSkipVerify: o.Unverified} //nolint:gosec // the user's word
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authorities' certificates: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("our own certificate needs both its file and that of its key")
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read our own certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func saslKeys() []Key {
	return []Key{
		{
			Name: keyMechanism, Type: TypeChoice, Default: "none", Choices: append([]string{"none"}, kafka.SASLMechanisms...),
			Doc: "How we authenticate at Kafka. PLAIN sends the password itself: with TLS only.",
		},
		{Name: keyKafkaUsername, Type: TypeText, Doc: "User that we authenticate as at Kafka."},
		{Name: keyKafkaPassword, Type: TypeText, Secret: true, Doc: "Password of Kafka. Better a `${file:...}` or `${env:...}` than the text itself."},
	}
}

// kafkaConfig also finds what contradicts itself.
func kafkaConfig(v Values, fault func(key, what, hint string)) kafka.Config {
	c := kafka.Config{Brokers: v.list(keyBrokers), ClientID: v.text("kafka.client.id")}
	var err error
	if c.TLS, err = tlsConfig(v, "kafka"); err != nil {
		fault("kafka.tls", err.Error(), "")
	}
	user, password := v.text(keyKafkaUsername), v.text(keyKafkaPassword)
	if m := v.text(keyMechanism); m != "none" {
		c.SASL = kafka.SASL{Mechanism: m, Username: user, Password: password}
		if user == "" || password == "" {
			fault(keyMechanism, "is "+m+", and user or password is missing", "set "+keyKafkaUsername+" and "+keyKafkaPassword)
		}
	} else if user != "" || password != "" {
		fault(keyMechanism, "is none, and a user or password is given", "choose "+orList(kafka.SASLMechanisms))
	}
	return c
}

// checkAddressMap tests a list of host:port=host:port.
func checkAddressMap(text string) error {
	_, err := parseAddressMap(strings.Split(text, ","))
	return err
}

func parseAddressMap(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, row := range list {
		from, to, ok := strings.Cut(strings.TrimSpace(row), "=")
		if !ok {
			return nil, fmt.Errorf("%s: want the server's host:port=host:port to dial", quote(row))
		}
		if err := checkAddresses(from + "," + to); err != nil {
			return nil, err
		}
		out[from] = to
	}
	return out, nil
}
