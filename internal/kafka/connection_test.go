package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kfake"
)

func ping(t *testing.T, c kafka.Connection) error {
	t.Helper()
	cl, err := c.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return cl.Ping(ctx)
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConnectionRefusesABadConfiguration(t *testing.T) {
	one := []string{"127.0.0.1:1"}
	notPEM := file(t, "ca.pem", "not a certificate")
	for name, c := range map[string]struct {
		conn kafka.Connection
		want string
	}{
		"no broker":             {kafka.Connection{}, "kafka.brokers"},
		"no such CA":            {kafka.Connection{Brokers: one, TLS: kafka.TLS{Enabled: true, CA: "/nowhere"}}, "kafka.tls.ca"},
		"a CA that is none":     {kafka.Connection{Brokers: one, TLS: kafka.TLS{Enabled: true, CA: notPEM}}, "no PEM certificate"},
		"no such certificate":   {kafka.Connection{Brokers: one, TLS: kafka.TLS{Enabled: true, Cert: "/nowhere", Key: "/nowhere"}}, "kafka.tls.cert"},
		"an unknown mechanism":  {kafka.Connection{Brokers: one, SASL: kafka.SASL{Mechanism: "GSSAPI"}}, `"GSSAPI"`},
		"a mechanism in minors": {kafka.Connection{Brokers: one, SASL: kafka.SASL{Mechanism: "plain"}}, `"plain"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.conn.Client(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q in it", err, c.want)
			}
		})
	}
}

func TestSASL(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "secret-p"),
		kfake.Superuser("SCRAM-SHA-256", "s", "secret-s"), kfake.Superuser("SCRAM-SHA-512", "l", "secret-l"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for mechanism, user := range map[string]string{"PLAIN": "p", "SCRAM-SHA-256": "s", "SCRAM-SHA-512": "l"} {
		password := file(t, "password", "secret-"+user+"\n")
		conn := kafka.Connection{Brokers: c.ListenAddrs(), SASL: kafka.SASL{Mechanism: mechanism, User: user, PasswordFile: password}}
		if err := ping(t, conn); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		if err := os.WriteFile(password, []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := ping(t, conn)
		if err == nil {
			t.Errorf("%s: a new connection does not read the password anew", mechanism)
		} else if strings.Contains(err.Error(), "another") {
			t.Errorf("%s: the password is in the error", mechanism)
		}
	}
	missing := kafka.Connection{Brokers: c.ListenAddrs(), SASL: kafka.SASL{Mechanism: "PLAIN", User: "p", PasswordFile: "/nowhere"}}
	if err := ping(t, missing); err == nil || !strings.Contains(err.Error(), "read kafka secret") {
		t.Errorf("a missing password file: %v", err)
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ca, crt, private := file(t, "ca.pem", certPEM), file(t, "tls.crt", certPEM), file(t, "tls.key", keyPEM)
	if err := ping(t, kafka.Connection{Brokers: c.ListenAddrs(), TLS: kafka.TLS{Enabled: true, CA: ca, Cert: crt, Key: private}}); err != nil {
		t.Fatal(err)
	}
	if err := ping(t, kafka.Connection{Brokers: c.ListenAddrs(), TLS: kafka.TLS{Enabled: true}}); err == nil {
		t.Fatal("a broker with an unknown certificate was trusted")
	}
}
