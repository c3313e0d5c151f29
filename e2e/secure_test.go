package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
)

// authority signs certificates, each a file with its key beside it.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key, a.cert = nil, nil
	cert, key := a.issue(name, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	a.cert, a.key, a.file = cert, key, filepath.Join(a.dir, name+".pem")
	return a
}

// leaf makes a certificate for 127.0.0.1, good for servers and clients.
func (a *authority) leaf(name string) (certFile, keyFile string) {
	a.t.Helper()
	a.issue(name, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
}

func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	fatal := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	fatal(err)
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	fatal(err)
	cert, err := x509.ParseCertificate(der)
	fatal(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	fatal(err)
	fatal(os.WriteFile(filepath.Join(a.dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	fatal(os.WriteFile(filepath.Join(a.dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

// protected is a cluster whose nodes have a port with TLS that wants a certificate of the client.
func (a *authority) protected(w *testkit.World) (c *redistest.Cluster, addr string) {
	a.t.Helper()
	cert, key := a.leaf("redis")
	c = w.ClusterWith(redistest.Config{Masters: 2, Args: []string{
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", a.file, "--tls-auth-clients", "yes",
		"--tls-cluster", "yes", // without it nodes do not tell each other of their TLS ports
		"--repl-backlog-size", backlog,
	}})
	return c, c.Masters()[0].TLSAddr()
}

// secureKafka is a broker that wants TLS and a password, and has one listener without for the test itself.
func secureKafka(t *testing.T, w *testkit.World, a *authority, user, password string) (addr string) {
	t.Helper()
	certFile, keyFile := a.leaf("kafka")
	cert, err1 := os.ReadFile(certFile)
	key, err2 := os.ReadFile(keyFile)
	ca, err3 := os.ReadFile(a.file)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	line := func(pem []byte) string { return strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\\n") }
	plain, secure, controller := w.Port(), w.Port(), w.Port()
	addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(secure))
	jaas := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	w.OwnKafka(kafkatest.Config{Port: plain, ExtraProps: map[string]string{
		"listeners":                                           fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,SECURE://%s,CONTROLLER://127.0.0.1:%d", plain, addr, controller),
		"advertised.listeners":                                fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,SECURE://%s", plain, addr),
		"controller.quorum.voters":                            fmt.Sprintf("1@127.0.0.1:%d", controller),
		"listener.security.protocol.map":                      "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
		"inter.broker.listener.name":                          "PLAINTEXT",
		"sasl.enabled.mechanisms":                             "SCRAM-SHA-512",
		"listener.name.secure.scram-sha-512.sasl.jaas.config": jaas,
		"ssl.keystore.type":                                   "PEM",
		"ssl.keystore.certificate.chain":                      line(cert),
		"ssl.keystore.key":                                    line(key),
		"ssl.truststore.type":                                 "PEM",
		"ssl.truststore.certificates":                         line(ca),
	}})
	adm, err := kafka.Config{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", plain)}}.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	done, err := adm.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: user, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password}})
	if err != nil || done.Error() != nil {
		t.Fatal(err, done.Error())
	}
	return addr
}

// Both clusters want a certificate of ours, Kafka a password over TLS: everything goes as it does without, and what is
// missing or wrong is named.
func TestEverythingOverTLS(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	a := newAuthority(t, "authority")
	ours, oursKey := a.leaf("ours")
	source, from := a.protected(w)
	target, to := a.protected(w)
	const password = "hunter2-of-kafka"
	broker := secureKafka(t, w, a, "app", password)
	for i := range 1000 {
		if err := source.Client().Set(t.Context(), fmt.Sprint("before:", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p := newPipeline(t, w, broker, source)
	worker := map[string]string{
		"data.dir": filepath.Join(p.dir, "data"), "kafka.brokers": broker, "kafka.tls": "true", "kafka.tls.ca.file": a.file,
		"kafka.sasl.mechanism": "SCRAM-SHA-512", "kafka.sasl.username": "app", "kafka.sasl.password": password,
	}
	secured := func(kind, addr string) map[string]string {
		return map[string]string{
			"type": kind, "topic.prefix": p.prefix, "redis.address": addr, "redis.tls": "true", "redis.tls.ca.file": a.file,
			"redis.tls.cert.file": ours, "redis.tls.key.file": oursKey,
		}
	}
	file := func(worker map[string]string, change ...string) string {
		s, k := secured("source", from), secured("sink", to)
		merge(s, change)
		s["topic.partitions"] = strconv.Itoa(partitions)
		return p.write("secure", worker, map[string]map[string]string{"from": s, "to": k})
	}

	other := newAuthority(t, "other-authority")
	for _, c := range []struct {
		name   string
		config string
		code   int
		want   []string
		// or is the code if the connection is gone before the server's reason is read.
		or int
	}{
		{"another authority", file(worker, "redis.tls.ca.file", other.file), 4, []string{from, "certificate", "authority"}, 0},
		{"no certificate of ours", file(worker, "redis.tls.cert.file", "", "redis.tls.key.file", ""), 4, []string{from, "certificate"}, 3},
		{"a port without TLS", file(worker, "redis.address", source.Addrs()[0]), 4, []string{source.Addrs()[0], "does this port speak TLS"}, 0},
		{"another name", file(worker, "redis.tls.server.name", "db.example"), 4, []string{from, "db.example"}, 0},
		{"a file that is not there", file(worker, "redis.tls.ca.file", "/nonexistent/ca.pem"), 2, []string{"redis.tls", "/nonexistent/ca.pem"}, 0},
		{"wrong password of Kafka", file(with(worker, "kafka.sasl.password", "wrong-hunter2")), 6, []string{broker, "SASL"}, 0},
		{"Kafka without TLS", file(with(worker, "kafka.tls", "false", "kafka.tls.ca.file", "")), 6, []string{broker}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.Redriver("run", "--config", c.config, "--no-progress")
			if _ = r.Wait(); c.or != 0 && r.ExitCode() == c.or {
				c.code = c.or
			}
			wantExit(t, r, c.code, c.want...)
			if log := r.Log(); strings.Contains(log, "hunter2") {
				t.Errorf("it shows a password:\n%s", log)
			}
		})
	}

	r := w.Redriver("run", "--config", file(worker), "--no-progress")
	stop := writers(t, source.Client(), 2, 300)
	p.mark(target.Client(), time.Minute)
	time.Sleep(2 * time.Second)
	t.Logf("%d commands written", stop())
	p.mark(target.Client(), time.Minute)
	identical(t, source, target)
	query := fmt.Sprintf("?ca=%s&cert=%s&key=%s", a.file, ours, oursKey)
	wantExit(t, w.Redriver("verify", "--from", "rediss://"+from+query, "--to", "rediss://"+to+query, "--rounds", "5"), 0, "IDENTICAL")
	r.Stop()
	if strings.Contains(r.Log(), "hunter2") {
		t.Error("the log shows a password")
	}
}

func with(m map[string]string, pairs ...string) map[string]string {
	return merge(maps.Clone(m), pairs)
}

// write makes a configuration file of all that is not empty.
func (p *pipeline) write(name string, worker map[string]string, connectors map[string]map[string]string) string {
	p.t.Helper()
	var b strings.Builder
	section := func(indent string, keys map[string]string) {
		for k, v := range keys {
			if v != "" {
				fmt.Fprintf(&b, "%s%s: %q\n", indent, k, v)
			}
		}
	}
	b.WriteString("worker:\n")
	section("  ", worker)
	b.WriteString("connectors:\n")
	for n, c := range connectors {
		b.WriteString("  " + n + ":\n")
		section("    ", c)
	}
	f, err := os.CreateTemp(p.dir, name+"-*.yaml")
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := f.WriteString(b.String()); err != nil {
		p.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		p.t.Fatal(err)
	}
	return f.Name()
}
