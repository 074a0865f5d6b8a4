// Package kafka runs goka's processor groups on franz-go, exactly once.
//
// Its rules:
//   - One connection configuration for every client (connection.go).
//   - A group is one Kafka transaction at a time: what a batch of input records produced, its table writes and the offsets
//     after it become visible together or not at all (engine.go, session.go, batch.go, transaction.go).
//   - Everything of civicbus is read with read_committed.
//   - A table's committed rows outlive goka's sessions; a batch's own writes stand in an overlay that is applied when its
//     transaction committed and dropped when it did not (table.go).
//   - A record is handed to goka only while every table it may use is known to be current: the lease (lease.go).
//
// The package knows goka, Kafka and nothing of what civicbus decides.
package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/plugin/kslog"
)

// Connection says how to reach the cluster. Every Kafka client of the process is made from the same one.
type Connection struct {
	Brokers  []string // host:port; at least one
	ClientID string   // shown in broker logs and quotas; empty: civicbus
	TLS      TLS
	SASL     SASL
	Logger   *slog.Logger // of franz-go itself, at warn and above; nil: silent
	Options  []kgo.Opt    // appended to every client's, for a test's own dialer
}

// TLS is used when Enabled. CA, Cert and Key are files; an empty CA means the system's roots, an empty Cert no client certificate.
type TLS struct {
	Enabled       bool
	CA, Cert, Key string
}

// SASL authenticates when Mechanism is set: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER. Secrets come from files,
// read anew for each connection, so that they can be rotated under a running process.
type SASL struct {
	Mechanism    string
	User         string
	PasswordFile string
	TokenFile    string // OAUTHBEARER
}

// Client makes a client of the connection with further options.
func (c Connection) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	base, err := c.Opts()
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make kafka client: %w", err)
	}
	return cl, nil
}

// Opts are the options that every client shares.
func (c Connection) Opts() ([]kgo.Opt, error) {
	if len(c.Brokers) == 0 {
		return nil, errors.New("connect to kafka: no broker configured (kafka.brokers)")
	}
	id := c.ClientID
	if id == "" {
		id = "civicbus"
	}
	// A client may ask anew for topics and leaders after 200 ms; franz-go's 5 s would be the time that a new topic or a
	// moved leader stays unseen, also by questions about topics, which it answers from what it knows.
	opts := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.ClientID(id), kgo.MetadataMinAge(metadataAge)}
	if c.Logger != nil {
		opts = append(opts, kgo.WithLogger(kslog.New(c.Logger)))
	}
	if c.TLS.Enabled {
		t, err := c.TLS.config()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	m, err := c.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	if m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	return append(opts, c.Options...), nil
}

func (t TLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("read kafka.tls.ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read kafka.tls.ca %s: no PEM certificate in it", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("read kafka.tls.cert and kafka.tls.key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "":
		return nil, nil
	case "PLAIN":
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			pass, err := secret(s.PasswordFile)
			return plain.Auth{User: s.User, Pass: pass}, err
		}), nil
	case "SCRAM-SHA-256", "SCRAM-SHA-512":
		auth := func(context.Context) (scram.Auth, error) {
			pass, err := secret(s.PasswordFile)
			return scram.Auth{User: s.User, Pass: pass}, err
		}
		if s.Mechanism == "SCRAM-SHA-256" {
			return scram.Sha256(auth), nil
		}
		return scram.Sha512(auth), nil
	case "OAUTHBEARER":
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, err := secret(s.TokenFile)
			return oauth.Auth{Token: token}, err
		}), nil
	}
	return nil, fmt.Errorf("kafka.sasl.mechanism %q is not known: want PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", s.Mechanism)
}

func secret(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read kafka secret: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
